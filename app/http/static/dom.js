// Elements whose content is always inserted as text, never as HTML.

export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export function byId(id) {
  return document.getElementById(id);
}

// Returns a number with four significant digits, without trailing zeros.
export function short(number) {
  if (typeof number !== "number") return String(number);
  if (Number.isInteger(number) && Math.abs(number) < 1e6) return String(number);
  return String(Number(number.toPrecision(4)));
}

export function signed(number) {
  return (number < 0 ? "−" : "+") + short(Math.abs(number));
}

export function percent(share) {
  const shown = share * 100;
  return `${shown >= 99.95 && shown < 100 ? ">99.9" : shown.toFixed(shown < 10 ? 2 : 1)} %`;
}
