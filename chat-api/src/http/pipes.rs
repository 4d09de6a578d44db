//! How endpoints are described: in Tinybird's shape ([`describe`]) and as OpenAPI 3.1 ([`open_api`]).

use crate::core::state::{Pipe as Stored, PipeVersion};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use sql::{EndpointDescription, Format, OwnPipe, ParameterDescription};

/// What a pipe's path can end with, and the format it stands for.
pub(super) const EXTENSIONS: [(&str, Format); 5] = [
    ("json", Format::Json),
    ("csv", Format::CsvWithNames),
    ("ndjson", Format::JsonEachRow),
    ("parquet", Format::Parquet),
    ("arrow", Format::Arrow),
];

/// A pipe of `GET /v0/pipes`.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Pipe<'a> {
    id: &'a str,
    pub(super) name: &'a str,
    description: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    /// The id of the node that answers.
    endpoint: &'a str,
    url: String,
    parent: Option<&'a str>,
    /// Of the tenant's own; each publication is the next.
    version: Option<u32>,
    created_at: Option<String>,
    updated_at: Option<String>,
    nodes: Vec<Node<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Node<'a> {
    id: &'a str,
    name: &'a str,
    description: &'a str,
    sql: &'a str,
    #[schemars(with = "Vec<Value>")]
    params: &'a [ParameterDescription],
    materialized: Option<&'a str>,
}

/// An endpoint as a pipe of one node.
pub(super) fn describe<'a>(public_url: &str, endpoint: &'a EndpointDescription) -> Pipe<'a> {
    let (name, description) = (endpoint.name.as_str(), endpoint.description.as_str());
    let params = endpoint.parameters.as_slice();
    let node = Node { id: name, name, description, sql: &endpoint.sql, params, materialized: None };
    let url = format!("{}/v0/pipes/{name}.json", public_url.trim_end_matches('/'));
    Pipe {
        id: name,
        name,
        description,
        kind: "endpoint",
        endpoint: name,
        url,
        parent: None,
        version: None,
        created_at: None,
        updated_at: None,
        nodes: vec![node],
    }
}

/// A version of an endpoint that the tenant published.
pub(super) fn describe_own<'a>(public_url: &str, own: &'a OwnPipe, version: &PipeVersion, stored: &Stored) -> Pipe<'a> {
    let nodes = own.nodes().map(|node| {
        let (name, params) = (node.name.as_str(), node.parameters.as_slice());
        Node { id: name, name, description: &node.description, sql: &node.sql, params, materialized: None }
    });
    Pipe {
        endpoint: own.answering(),
        version: Some(version.version),
        created_at: Some(stored.created_at.to_string()),
        updated_at: Some(version.at.to_string()),
        nodes: nodes.collect(),
        ..describe(public_url, own.description())
    }
}

/// One endpoint's document: a path a format.
pub(super) fn open_api(public_url: &str, endpoint: &EndpointDescription) -> Value {
    let parameters: Vec<Value> = endpoint.parameters.iter().map(parameter).collect();
    let paths: serde_json::Map<String, Value> = EXTENSIONS
        .iter()
        .map(|(extension, format)| {
            let content_type = format.content_type().split(';').next().unwrap_or_default();
            let schema = match format {
                Format::Json => json!({ "$ref": "#/components/schemas/Result" }),
                Format::Parquet | Format::Arrow => json!({ "type": "string", "format": "binary" }),
                _ => json!({ "type": "string" }),
            };
            let error = |text: &str| {
                json!({ "description": text, "content": { "application/json": {
                    "schema": { "$ref": "#/components/schemas/Error" } } } })
            };
            let operation = json!({
                "operationId": format!("{}_{extension}", endpoint.name), "summary": endpoint.description,
                "parameters": parameters,
                "responses": {
                    "200": { "description": "the rows", "content": { content_type: { "schema": schema } } },
                    "400": error("a bad parameter"), "403": error("no token, or not for this endpoint"),
                    "408": error("it took too long"), "413": error("the result is too large"),
                    "429": error("too often, or too many at once"),
                },
            });
            (format!("/v0/pipes/{}.{extension}", endpoint.name), json!({ "get": operation }))
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": { "title": endpoint.name, "description": endpoint.description, "version": env!("CARGO_PKG_VERSION") },
        "servers": [{ "url": public_url.trim_end_matches('/') }],
        "security": [{ "bearer": [] }, { "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer" },
                "token": { "type": "apiKey", "in": "query", "name": "token" },
            },
            "schemas": { "Result": result_schema(), "Error": {
                "type": "object", "required": ["error"], "properties": {
                    "error": { "type": "string" }, "documentation": { "type": "string" } } } },
        },
    })
}

fn result_schema() -> Value {
    json!({
        "type": "object",
        "required": ["meta", "data", "rows", "rows_before_limit_at_least", "statistics"],
        "properties": {
            "meta": { "type": "array", "items": { "type": "object", "required": ["name", "type"], "properties": {
                "name": { "type": "string" }, "type": { "type": "string" } } } },
            "data": { "type": "array", "items": { "type": "object" } },
            "rows": { "type": "integer" },
            "rows_before_limit_at_least": { "type": "integer" },
            "statistics": { "type": "object", "required": ["elapsed", "rows_read", "bytes_read"], "properties": {
                "elapsed": { "type": "number" }, "rows_read": { "type": "integer" },
                "bytes_read": { "type": "integer" } } },
        },
    })
}

fn parameter(found: &ParameterDescription) -> Value {
    let mut schema = schema_of(&found.kind);
    let target = if schema["type"] == "array" { &mut schema["items"] } else { &mut schema };
    if !found.allowed.is_empty() {
        target["enum"] = json!(found.allowed);
    }
    if let Some(default) = &found.default {
        schema["default"] = json!(default);
    }
    let mut described = json!({ "name": found.name, "in": "query", "required": found.required, "schema": schema });
    if let Some(description) = &found.description {
        described["description"] = json!(description);
    }
    described
}

fn schema_of(kind: &str) -> Value {
    if let Some(item) = kind.strip_prefix("Array(").and_then(|rest| rest.strip_suffix(')')) {
        return json!({ "type": "array", "items": schema_of(item) });
    }
    match kind {
        "Date" => json!({ "type": "string", "format": "date" }),
        "Boolean" => json!({ "type": "boolean" }),
        kind if kind.starts_with("Int") || kind.starts_with("UInt") => json!({ "type": "integer" }),
        kind if kind.starts_with("Float") => json!({ "type": "number" }),
        // A date-time comes in several forms, most without a zone.
        _ => json!({ "type": "string" }),
    }
}
