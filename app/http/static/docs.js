// The API's description in Swagger UI, whose files come from this service.

import { address, ask, askForKey, keyHeaders } from "./api.js";
import { byId } from "./dom.js";

async function start() {
  let spec;
  try {
    spec = await ask("openapi.json");
  } catch (problem) {
    if (problem.status === 401) return askForKey(byId("key"), start);
    byId("notice").textContent = problem.message;
    byId("notice").hidden = false;
    return;
  }
  document.title = spec.info.title;
  spec.servers = [{ url: address(".") }]; // the address of the browser, including a prefix that a proxy strips
  window.SwaggerUIBundle({
    spec,
    domNode: byId("api"),
    deepLinking: true,
    validatorUrl: null, // otherwise Swagger UI sends the description to an external validator
    requestInterceptor: (request) => {
      request.headers = { ...keyHeaders(), ...request.headers };
      return request;
    },
  });
}

start();
