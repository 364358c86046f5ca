// Talk to the service: addresses relative to the page, the key where one is needed, problems as sentences.

const BASE = new URL(".", document.baseURI);
const STORED = `key of ${BASE.pathname}`; // in this tab alone: models behind one host have keys of their own

export class Problem extends Error {
  // answer: of the service, by RFC 9457; none when it gave no such answer.
  constructor(status, answer, retryAfter) {
    super(answer?.detail || `The service answered ${status || "nothing"}. Is it running, and the network there?`);
    this.status = status;
    this.errors = answer?.errors || [];
    this.retryAfter = Number(retryAfter) || 0;
  }
}

export function address(path) {
  return new URL(path, BASE).href;
}

export function useKey(key) {
  sessionStorage.setItem(STORED, key);
}

export function keyHeaders() {
  const key = sessionStorage.getItem(STORED);
  return key ? { Authorization: `Bearer ${key}` } : {};
}

// Returns the JSON of an answer, or throws the Problem. With a body it is a POST.
export async function ask(path, body) {
  const sent = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const headers = { ...keyHeaders(), ...(sent.body ? { "Content-Type": "application/json" } : {}) };
  let answer;
  try {
    answer = await fetch(address(path), { ...sent, headers });
  } catch {
    throw new Problem(0);
  }
  const content = await answer.json().catch(() => undefined);
  if (!answer.ok || content === undefined) throw new Problem(answer.status, content, answer.headers.get("Retry-After"));
  return content;
}

// Shows the form for the key with the reason, and calls again when there is another one.
export function askForKey(form, again) {
  const [field, problem] = [form.querySelector("input"), form.querySelector(".problem")];
  problem.textContent = "key" in form.dataset ? "This key is not valid (any more)." : "This model wants an API key.";
  form.hidden = false;
  field.focus();
  form.onsubmit = (event) => {
    event.preventDefault();
    useKey(field.value.trim());
    form.dataset.key = "";
    form.hidden = true;
    again();
  };
}
