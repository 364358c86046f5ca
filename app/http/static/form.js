// The form: a field for each column of the model's signature, and the row with their values.

import { byId, make } from "./dom.js";

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const NESTED = ["array", "map", "object", "any"];
const MISSING = "missing";
const KINDS = { double: "number", float: "number", long: "integer", integer: "integer", boolean: "true or false" };

// Returns the fields in the order of the columns: {column, input, problem, read, write}.
export function fields(signature) {
  return signature.map((column, place) => {
    if (column.shape || NESTED.includes(column.type)) return nested(column, place);
    const choices = column.categories || (column.type === "boolean" ? [true, false] : undefined);
    return choices ? select(column, place, choices) : text(column, place);
  });
}

function text(column, place) {
  const numeric = ["number", "integer"].includes(KINDS[column.type]);
  const mode = numeric ? "decimal" : "text"; // "numeric" has no minus sign on some phones
  const input = make("input", { type: "text", inputMode: mode, autocomplete: "off", spellcheck: false });
  input.placeholder = MISSING;
  const read = () => {
    const value = input.value.trim();
    if (value === "") return null;
    return numeric && NUMBER.test(value) ? Number(value) : value; // the service rejects any other text
  };
  return field(column, place, input, read, (value) => (input.value = value ?? ""));
}

// A field for a list or an object as JSON; the service rejects any other text.
function nested(column, place) {
  const input = make("textarea", { rows: 2, autocomplete: "off", spellcheck: false, placeholder: MISSING });
  const read = () => {
    try {
      return input.value.trim() === "" ? null : JSON.parse(input.value);
    } catch {
      return input.value;
    }
  };
  return field(column, place, input, read, (value) => (input.value = value === null ? "" : JSON.stringify(value)));
}

function select(column, place, choices) {
  const input = make("select", {}, ...choices.map((choice, number) => make("option", { value: number }, String(choice))));
  input.append(make("option", { value: "" }, MISSING)); // the service rejects it if the column must not be missing
  const read = () => (input.value === "" ? null : choices[Number(input.value)]);
  return field(column, place, input, read, (value) => {
    const found = choices.indexOf(value);
    input.value = found < 0 ? "" : String(found);
  });
}

function field(column, place, input, read, write) {
  const id = `field-${place}`;
  Object.assign(input, { id, name: id });
  input.setAttribute("aria-describedby", `${id}-problem`);
  const problem = make("span", { id: `${id}-problem`, className: "problem" });
  const kind = column.categories ? "category" : KINDS[column.type] || column.type;
  const label = make("label", { htmlFor: id }, make("span", { className: "column" }, column.name));
  label.append(make("span", { className: "kind" }, column.required ? kind : `${kind}, optional`));
  byId("fields").append(make("div", { className: "field" }, label, input, problem));
  return { column, input, problem, read, write };
}

// Returns the row in the form that the service accepts.
export function row(all) {
  return { columns: all.map((each) => each.column.name), data: [all.map((each) => each.read())] };
}

export function fill(all, columns, values) {
  clear(all);
  for (const each of all) {
    const place = columns.indexOf(each.column.name);
    each.write(place < 0 ? null : values[place]);
  }
}

export function clear(all) {
  byId("problem").textContent = "";
  for (const each of all) mark(each, "");
}

// Shows each problem next to its field, and all others above the form; focuses the first wrong field.
export function complain(all, problem) {
  const elsewhere = [];
  for (const error of problem.errors) {
    const found = all.find((each) => each.column.name === error.column);
    if (found) mark(found, `${error.problem}.`);
    else elsewhere.push(`${error.column ?? "the row"}: ${error.problem}.`);
  }
  byId("problem").textContent = [problem.message, ...elsewhere].join(" ");
  (all.find((each) => each.problem.textContent)?.input ?? byId("predict")).focus();
}

function mark(each, problem) {
  each.problem.textContent = problem;
  if (problem) each.input.setAttribute("aria-invalid", "true");
  else each.input.removeAttribute("aria-invalid");
}
