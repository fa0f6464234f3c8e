// Reads /openapi.json and sets it as a page; nothing is loaded from another origin.

import { element } from "./dom.js";
import { call } from "./server.js";

const calls = document.getElementById("calls");

try {
  const api = await call("/openapi.json");
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) calls.append(drawCall(api, path, method, operation));
  }
} catch (refusal) {
  const sentence =
    refusal.status === 401
      ? "This server wants an API key. Enter it on the first page, then come back."
      : "The description could not be read from the server.";
  calls.append(element("p", "status", sentence));
}

function drawCall(api, path, method, operation) {
  const made = element("section", "call");
  const title = element("h2");
  title.append(element("span", "method", method.toUpperCase()), path);
  made.append(title, element("p", "", operation.summary));
  if (operation.description) made.append(element("p", "hint", operation.description));
  const body = operation.requestBody?.content["application/json"]?.schema;
  if (body) made.append(drawFold("Question", example(api, body)));
  for (const [status, response] of Object.entries(operation.responses)) {
    const [content] = Object.values(response.content ?? {});
    if (content) made.append(drawFold(`${status} ${response.description}`, content.example ?? example(api, content.schema)));
  }
  return made;
}

function drawFold(title, value) {
  const fold = element("details");
  fold.append(element("summary", "", title), element("pre", "", JSON.stringify(value, null, 2)));
  return fold;
}

// An example value of a schema: its own, else its default, else one made of its parts.
function example(api, schema) {
  if (schema.$ref) return example(api, api.components.schemas[schema.$ref.split("/").pop()]);
  if (schema.examples) return schema.examples[0];
  if (schema.const !== undefined) return schema.const;
  if (schema.default !== undefined) return schema.default;
  if (schema.enum) return schema.enum[0];
  if (schema.anyOf) return example(api, schema.anyOf[0]);
  if (schema.type === "array") return [example(api, schema.items)];
  if (schema.type === "object") {
    const fields = Object.entries(schema.properties ?? {});
    return Object.fromEntries(fields.map(([name, field]) => [name, example(api, field)]));
  }
  return { string: "…", integer: 0, number: 0, boolean: false }[schema.type] ?? null;
}
