// Reads openapi.json and shows it; no library, nothing from elsewhere.

const text = (tag, words) => Object.assign(document.createElement(tag), { textContent: words });
const name = (ref) => ref.split("/").at(-1);

function kind(schema) {
  if (!schema) return "";
  if (schema.$ref) return name(schema.$ref);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf) return schema.anyOf.map(kind).join(" | ");
  if (schema.type === "array") return `${kind(schema.items)}[]`;
  return schema.type ?? "any";
}

function table(rows) {
  const whole = document.createElement("table");
  for (const cells of rows) {
    const row = whole.insertRow();
    row.insertCell().append(text("code", cells[0]));
    for (const cell of cells.slice(1)) row.insertCell().textContent = cell;
  }
  return whole;
}

function route(method, path, facts) {
  const box = document.createElement("details");
  const head = document.createElement("summary");
  head.append(text("b", method.toUpperCase()), text("code", path), text("span", `  ${(facts.description ?? "").split("\n")[0]}`));
  box.append(head, text("p", facts.description ?? ""));
  const rows = (facts.parameters ?? []).map((one) => [
    one.name, `${one.in}, ${kind(one.schema)}`,
    one.schema?.default !== undefined && one.schema.default !== null ? `default ${one.schema.default}` : "",
  ]);
  const body = facts.requestBody?.content?.["application/json"]?.schema;
  if (body) rows.push(["body", kind(body), ""]);
  for (const [status, answer] of Object.entries(facts.responses ?? {})) {
    const schema = answer.content?.["application/json"]?.schema;
    rows.push([status, kind(schema), answer.description ?? ""]);
  }
  box.append(table(rows));
  return box;
}

function body(title, schema) {
  const box = document.createElement("details");
  const head = document.createElement("summary");
  head.append(text("code", title), text("span", `  ${schema.description ?? ""}`));
  const needed = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([field, one]) => [
    field, kind(one) + (needed.has(field) ? "" : ", optional"), one.description ?? "",
  ]);
  box.append(head, table(rows));
  return box;
}

const open = await (await fetch("/openapi.json")).json();
document.getElementById("about").textContent = `${open.info.description} Version ${open.info.version}.`;
for (const [path, methods] of Object.entries(open.paths)) {
  for (const [method, facts] of Object.entries(methods)) {
    document.getElementById("routes").append(route(method, path, facts));
  }
}
for (const [title, schema] of Object.entries(open.components?.schemas ?? {})) {
  document.getElementById("bodies").append(body(title, schema));
}
