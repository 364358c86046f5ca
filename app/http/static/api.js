// Requests to the service, at addresses relative to the page and with the API key if one is set.

const BASE = new URL(".", document.baseURI);
const STORED = `key of ${BASE.pathname}`; // stored per tab and path, because models on the same host have different keys

export class Problem extends Error {
  // answer: problem document of the service (RFC 9457), or undefined if the response was not one.
  constructor(status, answer, retryAfter) {
    super(answer?.detail || (status ? `The service responded with status ${status}.` : "The service is unreachable."));
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

// Returns the JSON of the response, or throws a Problem. With a body, the request is a POST.
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

// Shows the form for the API key with the reason, and calls `again` once a key is entered.
export function askForKey(form, again) {
  const [field, problem] = [form.querySelector("input"), form.querySelector(".problem")];
  problem.textContent = "key" in form.dataset ? "This key or token is not valid." : "This model requires an API key or an access token.";
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
