// Shows /openapi.json: routes by topic with their parameters, bodies, answers and errors. No dependencies; texts of the
// document are set as text, never as HTML.
"use strict";

const WHO = {
  agent: "agent", visitor: "visitor", chatbot: "chatbot key", reports: "/v0 token", operator: "operator",
};

function element(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) made.setAttribute(key, value);
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

/** A schema in one line: `uuid`, `"a" | "b"`, `AgentView[]`. */
function typeOf(schema) {
  if (schema === undefined || schema === true) return "anything";
  if (schema.$ref) return schema.$ref.split("/").pop();
  const any = schema.anyOf ?? schema.oneOf;
  if (any) return [...new Set(any.map(typeOf))].join(" | ");
  if (schema.allOf) return schema.allOf.map(typeOf).join(" & ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const names = [schema.type ?? "anything"].flat();
  return names.map((name) => {
    if (name === "array") return `${typeOf(schema.items)}[]`;
    return name === "string" && schema.format ? schema.format : name;
  }).join(" | ");
}

function fields(schema) {
  if (!schema?.properties || Object.keys(schema.properties).length === 0) return element("p", {}, typeOf(schema));
  const rows = Object.entries(schema.properties).map(([name, property]) => element("tr", {},
    element("td", {}, element("code", {}, name), schema.required?.includes(name) ? "" : " (optional)"),
    element("td", {}, shape(property)),
    element("td", {}, property.description ?? "")));
  return element("table", {}, element("tbody", {}, ...rows));
}

function shape(schema) {
  const text = typeOf(schema);
  const name = JSON.stringify(schema ?? {}).match(/#\/components\/schemas\/([^"]+)/)?.[1];
  return element("code", {}, name ? element("a", { href: `#schema-${name}` }, text) : text);
}

function who(operation) {
  const ways = (operation.security ?? []).flatMap((way) => Object.keys(way)).map((name) => WHO[name] ?? name);
  const needs = operation["x-permissions"] ?? [];
  const words = ways.length === 0 ? "everyone" : ways.join(" or ");
  return needs.length === 0 ? words : `${words} with ${needs.join(" or ")}`;
}

function answers(operation) {
  const rows = Object.entries(operation.responses).map(([status, response]) => {
    const [kind, content] = Object.entries(response.content ?? {})[0] ?? [];
    return element("tr", {},
      element("td", {}, element("code", {}, status)), element("td", {}, response.description),
      element("td", {}, content ? shape(content.schema) : ""), element("td", {}, kind ?? ""));
  });
  return element("table", {}, element("tbody", {}, ...rows));
}

function parameters(list) {
  const rows = list.map((parameter) => element("tr", {},
    element("td", {}, element("code", {}, parameter.name), parameter.required ? "" : " (optional)"),
    element("td", {}, parameter.in), element("td", {}, shape(parameter.schema)),
    element("td", {}, parameter.description ?? "")));
  return element("table", {}, element("tbody", {}, ...rows));
}

function route(path, method, operation) {
  const inside = element("div", {}, element("p", { class: "who" }, `For ${who(operation)}.`));
  if (operation.parameters) inside.append(element("h4", {}, "Parameters"), parameters(operation.parameters));
  const [kind, body] = Object.entries(operation.requestBody?.content ?? {})[0] ?? [];
  if (body) inside.append(element("h4", {}, `Body (${kind})`), fields(body.schema));
  inside.append(element("h4", {}, "Answers"), answers(operation));
  const words = `${method} ${path} ${operation.summary} ${(operation["x-permissions"] ?? []).join(" ")}`.toLowerCase();
  return element("details", { id: operation.operationId, "data-words": words },
    element("summary", {}, element("code", { class: "method" }, method.toUpperCase()), element("code", {}, path),
      element("span", {}, operation.summary)),
    inside);
}

function find(event) {
  const wanted = event.target.value.toLowerCase().trim();
  for (const shown of document.querySelectorAll("details[data-words]")) {
    shown.hidden = !shown.dataset.words.includes(wanted);
  }
  for (const topic of document.querySelectorAll("section")) {
    topic.hidden = wanted !== "" && topic.querySelector("details:not([hidden])") === null;
  }
}

function show(api) {
  const [main, topics] = [document.getElementById("routes"), document.getElementById("topics")];
  const about = document.getElementById("about");
  about.replaceChildren(`${api.info.description} Version ${api.info.version}, `,
    element("a", { href: "/openapi.json" }, `OpenAPI ${api.openapi}`), ".");
  for (const { name } of api.tags) {
    const section = element("section", {}, element("h2", { id: `topic-${name}` }, name));
    for (const [path, methods] of Object.entries(api.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (operation.tags.includes(name)) section.append(route(path, method, operation));
      }
    }
    main.append(section);
    topics.append(element("a", { href: `#topic-${name}` }, name));
  }
  const schemas = element("section", {}, element("h2", { id: "schemas" }, "Schemas"));
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    schemas.append(element("details", { id: `schema-${name}`, "data-words": name.toLowerCase(), open: "" },
      element("summary", {}, element("code", {}, name), element("span", {}, schema.description ?? "")),
      element("div", {}, fields(schema))));
  }
  main.append(schemas);
  topics.append(element("a", { href: "#schemas" }, "Schemas"));
  document.getElementById("find").addEventListener("input", find);
  // The places that the address names are there only now.
  if (location.hash) document.getElementById(decodeURIComponent(location.hash.slice(1)))?.scrollIntoView();
}

fetch("/openapi.json")
  .then((answer) => (answer.ok ? answer.json() : Promise.reject(new Error(`status ${answer.status}`))))
  .then(show)
  .catch((error) => { document.getElementById("about").textContent = `failed to load openapi.json: ${error.message}`; });
