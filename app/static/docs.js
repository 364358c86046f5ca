// The API's description by Swagger UI, whose files come from this service.

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
  spec.servers = [{ url: address(".") }]; // as the browser sees it, whatever a proxy has stripped
  window.SwaggerUIBundle({
    spec,
    domNode: byId("api"),
    deepLinking: true,
    validatorUrl: null, // else the description would be sent to one
    requestInterceptor: (request) => {
      request.headers = { ...keyHeaders(), ...request.headers };
      return request;
    },
  });
}

start();
