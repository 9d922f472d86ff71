// The OpenAPI document of this server, to be read: each address, what it takes and what it gives.
import { $, element } from "./elements.js";

const document_ = await (await fetch("openapi.json")).json();

// A schema with what it refers to in its place, to be shown as it is sent.
function plain(schema, depth = 0) {
  if (!schema || depth > 6) return "...";
  if (schema.$ref) return plain(document_.components.schemas[schema.$ref.split("/").pop()], depth);
  if (schema.anyOf) return schema.anyOf.filter((one) => one.type !== "null").map((one) => plain(one, depth))[0];
  if (schema.type === "array") return [plain(schema.items, depth + 1)];
  if (schema.properties) {
    const entries = Object.entries(schema.properties);
    return Object.fromEntries(entries.map(([name, inner]) => [name, inner.default ?? plain(inner, depth + 1)]));
  }
  return schema.enum?.join(" | ") ?? schema.const ?? schema.type ?? "...";
}

function sample(label, content) {
  const schema = content?.["application/json"]?.schema;
  if (!schema || !Object.keys(schema).length) return [];
  const text = JSON.stringify(plain(schema), null, 2);
  return [element("details", {}, element("summary", { textContent: label }), element("pre", { textContent: text }))];
}

function row(path, method, operation) {
  const given = (operation.parameters ?? []).map((one) => `${one.name}${one.required ? "" : "?"}`).join(", ");
  const good = Object.entries(operation.responses).find(([status]) => status.startsWith("2"));
  const words = [operation.description ?? operation.summary, given && `Parameters: ${given}.`].filter(Boolean).join(" ");
  const details = [...sample("body", operation.requestBody?.content), ...sample(`answer ${good?.[0]}`, good?.[1].content)];
  const address = element("code", { textContent: `${method.toUpperCase()} ${path}` });
  return element("tr", {}, element("td", {}, address), element("td", {}, words, ...details));
}

const rows = Object.entries(document_.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => row(path, method, operation)),
);
const head = element("tr", {}, element("th", { textContent: "Address" }), element("th", { textContent: "What it does" }));
$("addresses").replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
$("state").textContent = `${rows.length} addresses, version ${document_.info.version}`;
