// The result for one row: the prediction, and the contribution of each column as a bar.

import { byId, make, percent, short, signed } from "./dom.js";

const MOST_BARS = 10;

// prediction: in one of the forms that the service returns.
export function showPrediction(prediction, model) {
  const shares = prediction?.probabilities;
  const content = [make("p", { className: "prediction" }, headline(prediction))];
  content.push(make("p", { className: "quiet" }, model.target ? `Predicted ${model.target}` : "Prediction"));
  if (shares) {
    const sorted = Object.entries(shares).sort((a, b) => b[1] - a[1]);
    content.push(make("ul", { className: "shares" }, ...sorted.map(([name, share]) => shareBar(name, share))));
  }
  byId("result").replaceChildren(...content);
}

function headline(prediction) {
  if (prediction !== null && typeof prediction === "object" && "label" in prediction) return String(prediction.label);
  if (Array.isArray(prediction)) return prediction.map(short).join(", ");
  return typeof prediction === "number" ? short(prediction) : JSON.stringify(prediction);
}

function shareBar(name, share) {
  const bar = make("span", { className: "track", ariaHidden: "true" }, make("span", { className: "part" }));
  bar.firstChild.style.width = `${share * 100}%`;
  return make("li", {}, make("span", { className: "column" }, name), bar, make("span", { className: "amount" }, percent(share)));
}

// explanation: one entry of the response of /explain; values: the values that were sent, by column.
export function showWhy(explanation, model, values) {
  const { outputs, prediction } = explanation;
  const chosen = Math.max(0, outputs.findIndex((output) => "class" in output && output.class === prediction?.label));
  const list = make("div", {});
  const other = outputs.length === 1 && model.classes.find((name) => name !== outputs[0].class);
  const show = (place) => list.replaceChildren(...bars(outputs[place], other, values));
  const parts = [make("h3", {}, "Why")];
  if (outputs.length > 1) {
    const names = outputs.map((output, place) => output.class ?? `number ${place + 1}`);
    const choice = make("select", { id: "output" }, ...names.map((name, place) => make("option", { value: place }, name)));
    choice.value = String(chosen);
    choice.onchange = () => show(Number(choice.value));
    parts.push(make("p", { className: "choice" }, make("label", { htmlFor: "output" }, "Contributions to"), choice));
  }
  show(chosen);
  byId("why").replaceChildren(...parts, list);
}

export function showNoWhy(sentence) {
  byId("why").replaceChildren(make("p", { className: "quiet" }, sentence));
}

function bars(output, other, values) {
  const all = Object.entries(output.contributions).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const most = Math.max(...all.map(([, amount]) => Math.abs(amount)), Number.MIN_VALUE);
  const [right, left] = "class" in output
    ? [`for “${output.class}”`, other ? `for “${other}”` : "against it"]
    : ["for a higher number", "for a lower one"];
  const about = `Bars to the right count ${right}, bars to the left ${left}. Base value and bars sum to the margin.`;
  const list = make("ol", { className: "bars" });
  list.append(total("Base value", output.base_value, "base"));
  const shown = all.length <= MOST_BARS + 1 ? all : all.slice(0, MOST_BARS);
  list.append(...shown.map(([name, amount]) => bar(name, values.get(name), amount, most)));
  const rest = all.slice(shown.length);
  if (rest.length) list.append(others(rest, values, most));
  list.append(total("Margin", output.margin, "margin"));
  return [make("p", { className: "quiet" }, about), list];
}

// One bar for the columns with the smallest contributions; a click replaces it with their own bars.
function others(rest, values, most) {
  const sum = rest.reduce((total, [, amount]) => total + amount, 0);
  const item = bar("", undefined, sum, most);
  const open = make("button", { type: "button", className: "plain" }, `${rest.length} more columns`);
  open.onclick = () => {
    const all = rest.map(([name, amount]) => bar(name, values.get(name), amount, most));
    item.replaceWith(...all);
    all[0].tabIndex = -1;
    all[0].focus();
  };
  item.firstChild.replaceChildren(open);
  return item;
}

function bar(name, value, amount, most) {
  const shown = value === null ? "missing" : value === undefined ? "" : short(value);
  const label = make("span", { className: "column" }, name, make("span", { className: "value" }, shown));
  const part = make("span", { className: amount < 0 ? "part against" : "part" });
  part.style.width = `${(Math.abs(amount) / most) * 50}%`;
  const track = make("span", { className: "track both", ariaHidden: "true" }, part);
  const item = make("li", {}, label, track, make("span", { className: "amount" }, signed(amount)));
  item.dataset.amount = amount;
  return item;
}

function total(name, amount, kind) {
  const shown = make("span", { className: "amount" }, signed(amount));
  const item = make("li", { className: "total" }, make("span", { className: "column" }, name), shown);
  item.dataset[kind] = amount;
  return item;
}
