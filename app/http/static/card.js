// The model's card: target, training metrics and provenance.

import { byId, make, short } from "./dom.js";

const TASKS = {
  binary: "distinguishes two classes",
  multiclass: "distinguishes several classes",
  regression: "predicts a number",
  ranking: "ranks rows",
  survival_risk: "predicts the risk of an event: higher means earlier",
  survival_time: "predicts the time until an event",
  multilabel: "predicts several probabilities",
};
const MOST_SCORES = 6;

export function card(model) {
  document.title = `${model.name} ${model.version}`;
  byId("name").textContent = model.name;
  const badges = [`version ${model.version}`, model.alias && `@${model.alias}`, model.task, model.objective];
  byId("badges").replaceChildren(...badges.filter(Boolean).map((text) => make("span", {}, text)));
  byId("purpose").textContent = purpose(model);
  const metrics = Object.entries(model.metrics);
  const scores = metrics.slice(0, MOST_SCORES).map(([name, value]) => pair(name, short(value)));
  byId("scores").replaceChildren(...scores);
  byId("scores").hidden = !scores.length;
  const provenance = {
    "Model": model.uri,
    "Run": model.run_id,
    "SHA-256": model.sha256,
    "Git commit": model.git_commit,
    "Training data": model.data_digest,
    "Loaded": new Date(model.loaded_at).toLocaleString(),
  };
  byId("about").replaceChildren(
    table("Provenance", provenance),
    table("Training metrics", Object.fromEntries(metrics.map(([name, value]) => [name, short(value)]))),
    table("Training parameters", model.parameters),
    table("Training environment", model.environment),
  );
  byId("about").hidden = false;
  const { version, image, git_commit: commit } = model.service;
  byId("service").textContent = ["model-service", version, image, commit.slice(0, 12)].filter(Boolean).join(" · ");
}

function purpose(model) {
  const inputs = model.signature.length === 1 ? "one column" : `${model.signature.length} columns`;
  const what = TASKS[model.task] || "predicts";
  if (!model.target) return `A model that ${what} from ${inputs}.`;
  if (!model.classes.length) return `Predicts ${model.target} from ${inputs}.`;
  const named = model.classes.length <= 6 ? model.classes.join(", ") : `${model.classes.length} classes`;
  return `Predicts ${model.target} (${named}) from ${inputs}.`;
}

function table(title, content) {
  const pairs = Object.entries(content).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  if (!pairs.length) return "";
  const list = make("dl", {}, ...pairs.map(([name, value]) => pair(name, value)));
  return make("details", { className: "panel", open: title === "Provenance" }, make("summary", {}, title), list);
}

function pair(name, value) {
  return make("div", {}, make("dt", {}, name), make("dd", {}, String(value ?? "–")));
}
