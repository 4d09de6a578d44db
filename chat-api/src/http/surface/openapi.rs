//! The OpenAPI 3.1 document of a list of routes.

use super::describe::{self, Operation, PROBLEM, V0_ERROR};
use super::{Route, Way};
use serde_json::{Map, Value, json};

/// Refused for going too fast, or for a fault that passes; every route can.
const ALWAYS: [u16; 2] = [429, 503];

/// The document; the same list gives the same text.
#[must_use]
pub fn document(routes: &[Route]) -> Value {
    let mut shapes = describe::shapes();
    let (mut paths, mut refusals): (Map<String, Value>, Map<String, Value>) = Default::default();
    for route in routes {
        let mut operation = Operation::new(&mut shapes);
        (route.describe)(&mut operation);
        route.more.iter().for_each(|more| more(&mut operation));
        let entry = paths.entry(route.path.to_owned()).or_insert_with(|| json!({}));
        entry[route.method.to_lowercase()] = describe_route(route, operation, &mut refusals);
    }
    let mut schemas = json!(describe::named(shapes));
    schemas[PROBLEM] = problem_shape();
    schemas[V0_ERROR] = json!({
        "type": "object", "description": "An error of `/v0`.", "required": ["error"],
        "properties": { "error": { "type": "string" } },
    });
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Parlance", "version": env!("CARGO_PKG_VERSION"),
            "description": "Self-hosted support chat for many tenants. Times are RFC 3339 in UTC; ids are opaque; \
                errors are `application/problem+json` with a stable `code`.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": topics(routes),
        "paths": paths,
        "components": { "schemas": schemas, "responses": refusals, "securitySchemes": schemes() },
    })
}

fn topics(routes: &[Route]) -> Vec<Value> {
    let mut names: Vec<&str> = Vec::new();
    for route in routes {
        if !names.contains(&route.topic) {
            names.push(route.topic);
        }
    }
    names.into_iter().map(|name| json!({ "name": name })).collect()
}

fn problem_shape() -> Value {
    let text = || json!({ "type": "string" });
    json!({
        "type": "object",
        "description": "An error (RFC 9457). `code` is stable; `field` names the field at fault; `winner` who won a lost race.",
        "required": ["type", "status", "title", "code", "detail"],
        "properties": {
            "type": text(), "status": { "type": "integer" }, "title": text(), "code": text(), "detail": text(),
            "field": text(),
            "winner": {
                "type": "object", "required": ["id", "name"],
                "properties": { "id": text(), "name": { "type": ["string", "null"] } },
            },
        },
    })
}

fn schemes() -> Value {
    let bearer = |says: &str, format: &str| json!({ "type": "http", "scheme": "bearer", "bearerFormat": format, "description": says });
    json!({
        "agent": bearer("An agent's access token, from signing in.", "JWT"),
        "visitor": bearer("A visitor's session token, from starting a session.", "wst_…"),
        "reports": bearer("A /v0 token, or the access token of an agent who may read reports.", "opaque"),
        "operator": bearer("The operator's token, from the configuration.", "opaque"),
        "chatbot": {
            "type": "apiKey", "in": "header", "name": "X-Chatbot-Key", "description": "A chatbot's public key.",
        },
    })
}

/// `shared` is what operations refuse with; each is written once.
fn describe_route(route: &Route, operation: Operation<'_>, shared: &mut Map<String, Value>) -> Value {
    let Operation { mut parameters, path_schema, body, success, status, mut refusals, refusal, .. } = operation;
    for (place, name) in path_names(route.path).enumerate() {
        let schema = path_schema.clone().filter(|_| place == 0).unwrap_or_else(|| json!({ "type": "string" }));
        parameters.insert(place, json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    refusals.extend(ALWAYS);
    refusals.extend(route.who.iter().flat_map(|way| way.refusals()));
    if refusal == V0_ERROR {
        // `/v0` says 403 of whoever isn't let in.
        refusals.remove(&401);
    }
    let statuses = if route.statuses.is_empty() { vec![status] } else { route.statuses.to_vec() };
    let mut responses = Map::new();
    for status in refusals {
        let kind = if refusal == V0_ERROR { "application/json" } else { "application/problem+json" };
        let schema = json!({ "$ref": format!("#/components/schemas/{refusal}") });
        let name = format!("{refusal}{status}");
        responses.insert(status.to_string(), json!({ "$ref": format!("#/components/responses/{name}") }));
        shared.entry(name).or_insert_with(|| response(status, Some((kind, schema))));
    }
    for status in statuses {
        responses.insert(status.to_string(), response(status, success.clone()));
    }
    let mut described = json!({
        "operationId": operation_id(route), "summary": route.summary, "tags": [route.topic],
        "responses": responses,
    });
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if let Some((kind, schema, required)) = body {
        described["requestBody"] = json!({ "required": required, "content": { kind: { "schema": schema } } });
    }
    let security = security(route.who);
    if !security.is_empty() {
        described["security"] = security.into();
    }
    let permissions = permissions(route.who);
    if !permissions.is_empty() {
        described["x-permissions"] = permissions.into();
    }
    described
}

fn response(status: u16, content: Option<(&str, Value)>) -> Value {
    let says = axum::http::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
    let mut response = json!({ "description": says.unwrap_or("Answer") });
    if let Some((kind, schema)) = content {
        response["content"] = json!({ kind: { "schema": schema } });
    }
    response
}

/// The names in braces, in order.
fn path_names(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

/// `get /v1/agents/{id}/stats` is `getAgentsByIdStats`: of the path alone, so it stays while handlers move.
fn operation_id(route: &Route) -> String {
    let mut id = route.method.to_lowercase();
    let path = route.path.strip_prefix("/v1").unwrap_or(route.path);
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let name = part.trim_start_matches('{').trim_end_matches('}');
        if part.starts_with('{') {
            id.push_str("By");
        }
        for word in name.split(['-', '_', '.']) {
            let mut letters = word.chars();
            id.extend(letters.next().map(|first| first.to_ascii_uppercase()));
            id.extend(letters);
        }
    }
    if route.path.ends_with('/') {
        id.push_str("Slash");
    }
    id
}

fn security(who: &[Way]) -> Vec<Value> {
    let mut security: Vec<Value> = Vec::new();
    for way in who {
        let scheme = match way {
            Way::Anyone | Way::Body => json!({}),
            Way::ChatbotKey => json!({ "chatbot": [] }),
            Way::Visitor => json!({ "visitor": [] }),
            Way::Agent | Way::May(_) | Way::Holding(_) | Way::Oneself => json!({ "agent": [] }),
            Way::Reports | Way::Scoped => json!({ "reports": [] }),
            Way::Operator => json!({ "operator": [] }),
        };
        if !security.contains(&scheme) {
            security.push(scheme);
        }
    }
    security
}

/// Any of these; where several are needed together, they are joined by `+`.
fn permissions(who: &[Way]) -> Vec<String> {
    let permission = |way: &Way| match way {
        Way::May(permission) => Some(permission.as_str().to_owned()),
        Way::Holding(all) => Some(all.iter().map(|one| one.as_str()).collect::<Vec<_>>().join("+")),
        Way::Oneself => Some("oneself".to_owned()),
        Way::Anyone
        | Way::ChatbotKey
        | Way::Visitor
        | Way::Agent
        | Way::Reports
        | Way::Scoped
        | Way::Operator
        | Way::Body => None,
    };
    who.iter().filter_map(permission).collect()
}
