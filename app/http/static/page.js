// The model page: shows the model, sends one row and shows the result.

import { address, ask, askForKey, keyHeaders } from "./api.js";
import { showNoWhy, showPrediction, showWhy } from "./answer.js";
import { card } from "./card.js";
import { byId, make } from "./dom.js";
import { clear, complain, fields, fill, row } from "./form.js";

const OF_THE_ROW = [400, 401, 413, 415, 422]; // /predict would return the same status
const LONGEST_WAIT = 30;

async function start() {
  let model;
  try {
    model = await ask("model");
  } catch (problem) {
    if (problem.status === 401) return askForKey(byId("key"), start);
    notice(problem.message);
    setTimeout(start, Math.min(problem.retryAfter || 5, LONGEST_WAIT) * 1000);
    return;
  }
  notice("");
  card(model);
  const all = fields(model.signature);
  examples(model.input_example, all);
  byId("work").hidden = false;
  byId("form").onsubmit = (event) => {
    event.preventDefault();
    predict(model, all);
  };
}

function examples(example, all) {
  const choice = byId("example");
  const names = (example?.data || []).map((_, number) => `example ${number + 1}`);
  choice.replaceChildren(...[...names, "empty"].map((name, number) => make("option", { value: number }, name)));
  choice.onchange = () => fill(all, example?.columns || [], example?.data[Number(choice.value)] || []);
  byId("examples").hidden = !names.length;
  choice.onchange();
}

async function predict(model, all) {
  const [body, button] = [row(all), byId("predict")];
  clear(all);
  button.disabled = true;
  try {
    await answer(model, body);
    if (matchMedia("(max-width: 60rem)").matches) byId("answer").scrollIntoView({ block: "start" });
  } catch (problem) {
    if (problem.status === 401) askForKey(byId("key"), () => predict(model, all));
    else complain(all, problem);
  } finally {
    button.disabled = false;
  }
}

// One request, so that prediction and contributions come from the same version; a second one if there is no explanation.
async function answer(model, body) {
  const values = new Map(body.columns.map((name, place) => [name, body.data[0][place]]));
  try {
    const { explanations } = await ask("explain", body);
    showPrediction(explanations[0].prediction, model);
    showWhy(explanations[0], model, values);
  } catch (problem) {
    if (OF_THE_ROW.includes(problem.status) || !problem.status) throw problem;
    const { predictions } = await ask("predict", body);
    showPrediction(predictions[0], model);
    showNoWhy(`No explanation: ${problem.message}`);
  }
  curl(body);
}

function curl(body) {
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  const key = keyHeaders().Authorization ? ' -H "Authorization: Bearer $KEY"' : "";
  byId("curl").textContent = `curl ${address("predict")}${key} \\\n  -H 'Content-Type: application/json' \\\n  -d '${quoted}'`;
  byId("by-curl").hidden = false;
}

function notice(sentence) {
  byId("notice").textContent = sentence;
  byId("notice").hidden = !sentence;
}

start();
