//! Endpoints that a tenant publishes: `POST /v0/pipes` with a datafile or Tinybird's JSON, versions, deletion. They are called
//! as the shipped ones are, in `reports`.

use super::extract::{body, form};
use super::parts::{self, Entry};
use super::pipes::{self, Pipe};
use super::problem::Problem;
use super::surface::describe::Operation;
use super::surface::{Routes, WRITERS};
use super::v0::{V0Error, answer, has_no_length};
use super::write::{self, command};
use crate::app::App;
use crate::auth::TokenCaller;
use crate::auth::publisher;
use crate::auth::scopes::Right;
use crate::auth::wire::engine_caller;
use crate::core::CommandKind;
use crate::core::state::{Pipe as Stored, PipeVersion};
use crate::sources::columns::own_name;
use crate::store::read;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use ingest::id::PipeId;
use serde::Deserialize;
use serde_json::json;
use sql::{EndpointName, OwnPipe, PIPE_BYTES_MAX, PIPE_NODES_MAX, Published, QueryError};
use std::fmt::Write as _;
use std::sync::Arc;

/// Bytes of a request: JSON escapes what a datafile doesn't.
const REQUEST_BYTES_MAX: usize = 2 * PIPE_BYTES_MAX;
/// Endpoints that ship, or will.
const RESERVED: [&str; 17] = [
    "usage",
    "first_response",
    "reply_time",
    "resolution_time",
    "waiting_time",
    "handle_time",
    "csat",
    "live",
    "queue",
    "agent_performance",
    "busiest_hours",
    "assignment_quality",
    "sla",
    "bot_outcomes",
    "notification_outcomes",
    "conversation_list",
    "event_stream",
];

pub(super) fn routes() -> Routes {
    Routes::new("Reports")
        .post("/v0/pipes", publish, WRITERS, "Publishes an endpoint, or a new version of one.")
        .answers::<Pipe<'static>>(&[200])
        .also(describe_publish)
        .delete("/v0/pipes/{name}", delete, WRITERS, "Deletes an endpoint that the tenant published.")
        .statuses(&[204])
        .also(|operation| operation.refuses(&[400, 404]))
}

fn describe_publish(operation: &mut Operation<'_>) {
    operation.query("name", "The endpoint; in JSON it may be in the body.", json!({ "type": "string" }));
    operation.query("sql", "The SQL of an endpoint of one node.", json!({ "type": "string" }));
    operation.takes("text/plain");
    operation.refuses(&[400, 403, 404, 408, 409, 411, 413]);
}

/// Tinybird's JSON of a pipe.
#[derive(Debug, Deserialize)]
struct PipeBody {
    name: Option<String>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    nodes: Vec<NodeBody>,
    /// The name of the node that answers.
    endpoint: Option<String>,
    sql: Option<String>,
}

#[derive(Debug, Deserialize)]
struct NodeBody {
    name: Option<String>,
    sql: String,
    #[serde(default)]
    description: String,
    #[serde(rename = "type", alias = "node_type")]
    kind: Option<String>,
}

/// What is to be published, as a datafile.
struct Asked {
    name: String,
    text: String,
}

async fn publish(State(app): State<Arc<App>>, token: TokenCaller, request: Request) -> Response {
    let outcome = async {
        let Asked { name, text } = asked(request).await?;
        let name = free_name(&app, &name)?;
        if !token.may(Right::CreatePipe(&name)) {
            return Err(V0Error::forbidden(Right::CreatePipe(&name)));
        }
        // Who publishes shows what they may see themselves: kept here, and each call of the endpoint is held to it.
        let reads = publisher::reads(&token).map_err(V0Error::bad_request)?;
        let pipe = app.reports.read_pipe(&token.tenant.to_string(), name.as_str(), None, &text).await?;
        let asker = engine_caller(&app, &token).map_err(Problem::from)?;
        app.reports.try_own(&asker, pipe).await?;
        let kind = CommandKind::PublishPipe { pipe_id: PipeId::fresh(), name: name.to_string(), text, reads };
        write::submit(&app, command(token.tenant, token.actor(), None, kind)).await?;
        let stored = stored(&app, &token, &name)?.ok_or_else(|| QueryError::NoEndpoint(name.to_string()))?;
        let newest = stored.newest();
        let own = read_version(&app, &stored, newest).await?;
        Ok(Json(describe(&app, &stored, newest, &own)).into_response())
    };
    answer(&token, outcome.await)
}

/// The name and the text, from the query, a datafile, a form or JSON.
async fn asked(request: Request) -> Result<Asked, V0Error> {
    let query = form(request.uri().query().unwrap_or_default());
    let find = |pairs: &[(String, String)], wanted: &str| {
        let found = pairs.iter().find(|(name, value)| name == wanted && !value.trim().is_empty());
        found.map(|(_, value)| value.clone())
    };
    let (name, sql) = (find(&query, "name"), find(&query, "sql"));
    let no_name = || V0Error::bad_request("send the pipe's name as 'name'");
    if let Some(sql) = sql {
        let name = name.ok_or_else(no_name)?;
        return Ok(Asked { text: one_node(&name, &sql)?, name });
    }
    if has_no_length(&request) {
        let error = "send the pipe as the body, with its Content-Length";
        return Err(V0Error::new(StatusCode::LENGTH_REQUIRED, error));
    }
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = kind.unwrap_or_default().to_ascii_lowercase();
    let bytes = body(request, REQUEST_BYTES_MAX).await?;
    let text = std::str::from_utf8(&bytes).map_err(|_| V0Error::bad_request("the body is not UTF-8"))?;
    if kind.starts_with("application/x-www-form-urlencoded") {
        let pairs = form(text);
        let name = name.or_else(|| find(&pairs, "name")).ok_or_else(no_name)?;
        let sql = find(&pairs, "sql").ok_or_else(|| V0Error::bad_request("send the SQL as 'sql'"))?;
        return Ok(Asked { text: one_node(&name, &sql)?, name });
    }
    if kind.starts_with("application/json") || text.trim_start().starts_with('{') {
        return from_json(text, name);
    }
    Ok(Asked { name: name.ok_or_else(no_name)?, text: text.to_owned() })
}

fn from_json(text: &str, name: Option<String>) -> Result<Asked, V0Error> {
    let pipe: PipeBody = serde_json::from_str(text)
        .map_err(|error| V0Error::bad_request(format!("the body is not the JSON of a pipe: {error}")))?;
    let name = name.or(pipe.name).ok_or_else(|| V0Error::bad_request("send the pipe's name as 'name'"))?;
    if let Some(sql) = pipe.sql.filter(|_| pipe.nodes.is_empty()) {
        return Ok(Asked { text: one_node(&name, &sql)?, name });
    }
    if pipe.nodes.len() > PIPE_NODES_MAX {
        return Err(V0Error::bad_request(format!("it has more than {PIPE_NODES_MAX} nodes")));
    }
    // Each node without a name is named after it.
    own_name(&name).map_err(V0Error::bad_request)?;
    let mut out = String::new();
    if !pipe.description.trim().is_empty() {
        block(&mut out, "DESCRIPTION", &pipe.description);
    }
    for (at, node) in pipe.nodes.iter().enumerate() {
        let own = node.name.clone().unwrap_or_else(|| format!("{name}_{at}"));
        if own.contains(['\n', '\r', '>']) {
            return Err(V0Error::bad_request("a node's name is one word"));
        }
        let _ = writeln!(out, "NODE {own}");
        if !node.description.trim().is_empty() {
            block(&mut out, "DESCRIPTION", &node.description);
        }
        sql_block(&mut out, &node.sql)?;
        let answers = pipe.endpoint.as_deref() == Some(&own);
        if answers || node.kind.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("endpoint")) {
            out.push_str("TYPE endpoint\n");
        }
        out.push('\n');
    }
    Ok(Asked { name, text: out })
}

/// An instruction with an indented block.
fn block(out: &mut String, word: &str, text: &str) {
    let _ = writeln!(out, "{word} >");
    // Every line is indented, so none of them can be an instruction.
    for line in text.lines() {
        let _ = writeln!(out, "    {line}");
    }
}

/// A node's SQL, which a datafile would take a comment of its own out of.
fn sql_block(out: &mut String, sql: &str) -> Result<(), V0Error> {
    if sql.lines().any(|line| line.trim_start().starts_with('#')) {
        return Err(V0Error::bad_request(
            "a line of the SQL begins with '#', which no SQL does: '--' begins a comment",
        ));
    }
    block(out, "SQL", sql);
    Ok(())
}

fn one_node(name: &str, sql: &str) -> Result<String, V0Error> {
    let mut out = format!("NODE {}\n", name.trim().replace(['\n', '\r', '>'], "_"));
    sql_block(&mut out, sql)?;
    out.push_str("TYPE endpoint\n");
    Ok(out)
}

/// A name that the tenant may give to an endpoint.
fn free_name(app: &App, name: &str) -> Result<EndpointName, V0Error> {
    let name = own_name(name).map_err(V0Error::bad_request)?;
    if RESERVED.contains(&name.as_str()) || app.reports.endpoints().any(|shipped| shipped.name == name) {
        return Err(V0Error::bad_request(format!("'{name}' is an endpoint that ships; choose another name")));
    }
    Ok(EndpointName::of(&name))
}

/// The tenant's endpoint of this name.
pub(super) fn stored(app: &App, token: &TokenCaller, name: &EndpointName) -> Result<Option<Stored>, V0Error> {
    Ok(app.pool.read(|connection| read::pipe(connection, token.tenant, name)).map_err(Problem::from)?)
}

/// Where a list of endpoints is: at one of those that ship, or behind one of the tenant's own.
#[derive(Debug)]
pub(super) enum Place {
    Shipped(usize),
    After(String),
}

/// The endpoint at a place, if there is one; those that the token may not read aren't shown, nor one that can't be read any
/// more, after an upgrade. For work that has its turn.
pub(super) fn entry(app: &App, token: &TokenCaller, place: Place) -> Result<Option<Entry<Place>>, V0Error> {
    let after = match place {
        Place::Shipped(at) => match app.reports.endpoints().nth(at) {
            Some(shipped) => {
                let shown = token.may(Right::ReadPipe(&EndpointName::of(&shipped.name)));
                let json = shown.then(|| parts::json(&pipes::describe(&app.config.public_url, shipped)));
                return Ok(Some((Place::Shipped(at + 1), json.transpose()?)));
            }
            None => String::new(),
        },
        Place::After(name) => name,
    };
    let stored = app.pool.read(|connection| read::pipe_after(connection, token.tenant, &after));
    let Some(stored) = stored.map_err(Problem::from)? else { return Ok(None) };
    let mut json = None;
    if token.may(Right::ReadPipe(&EndpointName::of(&stored.name))) {
        let newest = stored.newest();
        let tenant = token.tenant.to_string();
        let own = app.reports.read_pipe_here(&tenant, &stored.name, newest.version, &newest.text);
        json = own.ok().map(|own| parts::json(&describe(app, &stored, newest, &own))).transpose()?;
    }
    Ok(Some((Place::After(stored.name), json)))
}

/// A tenant's endpoint, its newest version or the one that is asked for.
pub(super) fn version<'a>(stored: &'a Stored, wanted: Option<&str>) -> Result<&'a PipeVersion, V0Error> {
    let Some(wanted) = wanted else { return Ok(stored.newest()) };
    let found = stored.versions.iter().find(|version| version.version.to_string() == wanted);
    found.ok_or_else(|| {
        let (first, last) = (stored.versions.first().map_or(0, |version| version.version), stored.newest().version);
        let error = format!("version '{wanted}' of '{}' is not kept; {first} to {last} are", stored.name);
        V0Error::new(StatusCode::NOT_FOUND, error)
    })
}

/// Reads a version's text.
async fn read_version(app: &App, stored: &Stored, version: &PipeVersion) -> Result<Arc<OwnPipe>, V0Error> {
    let tenant = stored.tenant.to_string();
    Ok(app.reports.read_pipe(&tenant, &stored.name, Some(version.version), &version.text).await?)
}

/// A version as it's called: its text, and what its publisher could read.
pub(super) async fn published(app: &App, stored: &Stored, version: &PipeVersion) -> Result<Published, V0Error> {
    let pipe = read_version(app, stored, version).await?;
    Ok(Published { pipe, reads: version.reads.as_ref().map(publisher::of_version) })
}

/// In Tinybird's shape.
pub(super) fn describe<'a>(app: &App, stored: &Stored, version: &PipeVersion, own: &'a OwnPipe) -> Pipe<'a> {
    pipes::describe_own(&app.config.public_url, own, version, stored)
}

async fn delete(State(app): State<Arc<App>>, token: TokenCaller, Path(name): Path<String>) -> Response {
    let outcome = async {
        let name = EndpointName::of(&name);
        if !token.may(Right::DropPipe(&name)) && !token.may(Right::CreatePipe(&name)) {
            return Err(V0Error::forbidden(Right::DropPipe(&name)));
        }
        if app.reports.endpoints().any(|shipped| shipped.name == name.as_str()) {
            return Err(V0Error::bad_request(format!("'{name}' ships and can't be deleted")));
        }
        let found = stored(&app, &token, &name)?.ok_or_else(|| QueryError::NoEndpoint(name.to_string()))?;
        let kind = CommandKind::DeletePipe { name: found.name };
        write::submit(&app, command(token.tenant, token.actor(), None, kind)).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    answer(&token, outcome.await)
}
