//! `/v0/datasources`: the tables a token may read, with their columns, in Tinybird's shape; and the tenant's own, to be made,
//! filled, replaced and deleted.

use super::extract::{body, form, idempotency_key};
use super::multipart::{FormError, Parts};
use super::parts::{self, Entry};
use super::rows::{self, Incoming, UNPACKED_BYTES_MAX};
use super::surface::describe::Operation;
use super::surface::{REPORTS, Routes, WRITERS};
use super::v0::{V0Error, answer, has_no_length};
use super::write::{self, command};
use crate::app::App;
use crate::auth::TokenCaller;
use crate::auth::scopes::Right;
use crate::core::CommandKind;
use crate::core::state::DataSource as Own;
use crate::limits::{Buffer, Place};
use crate::sources::columns;
use crate::sources::rows::BodyFormat;
use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use ingest::event::RequestKey;
use ingest::id::DataSourceId;
use ingest::payload::{DataSourceCreated, SourceColumn};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use sql::{QueryError, RowFilters, TableDef, TableName, type_name};
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of a form beside its file.
const FORM_BYTES_MAX: usize = 256 * 1024;

pub(super) fn routes() -> Routes {
    Routes::new("Reports")
        .get("/v0/datasources", list, REPORTS, "The tables that the token may read.")
        .answers::<DataSources>(&[200])
        .post("/v0/datasources", create, WRITERS, "Makes a data source, appends to one, or replaces its rows.")
        .answers::<Imported>(&[200])
        .also(describe_create)
        .get("/v0/datasources/{name}", show, REPORTS, "A table and its columns.")
        .answers::<DataSource>(&[200])
        .also(|operation| operation.refuses(&[404]))
        .delete("/v0/datasources/{name}", delete, WRITERS, "Deletes a data source and its rows.")
        .statuses(&[204])
        .also(|operation| operation.refuses(&[404]))
        .post("/v0/datasources/{name}/truncate", truncate, WRITERS, "Takes all rows out of a data source.")
        .answers::<DataSource>(&[200])
        .also(|operation| operation.refuses(&[404]))
}

fn describe_create(operation: &mut Operation<'_>) {
    let text = |values: &[&str]| json!({ "type": "string", "enum": values });
    operation.query("name", "The data source.", json!({ "type": "string" }));
    operation.query("mode", "What is to be done; create unless said.", text(&["create", "append", "replace"]));
    operation.query("format", "How the rows are written; csv unless said.", text(&["csv", "ndjson", "json"]));
    operation.query("schema", "Columns in Tinybird's words; inferred unless said.", json!({ "type": "string" }));
    operation.query("dialect_delimiter", "Of a CSV; a comma unless said.", json!({ "type": "string" }));
    operation.takes("text/plain");
    operation.refuses(&[400, 403, 404, 409, 411, 413, 507]);
}

#[derive(Debug, Serialize, JsonSchema)]
struct DataSources {
    datasources: Vec<DataSource>,
}

/// A table.
#[derive(Debug, Serialize, JsonSchema)]
struct DataSource {
    id: String,
    name: String,
    columns: Vec<Column>,
    /// `ndjson` for the tenant's own, `shipped` for the others.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Of the tenant's own.
    statistics: Option<Statistics>,
    schema: Schema,
    created_at: Option<String>,
    updated_at: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TableStatistics")]
struct Statistics {
    row_count: u64,
    /// As they are in the log.
    bytes: u64,
    quarantine_rows: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TableSchema")]
struct Schema {
    columns: Vec<Column>,
    /// Tinybird's schema text, of the tenant's own.
    sql_schema: Option<String>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "TableColumn")]
struct Column {
    name: String,
    normalized_name: String,
    /// By its ClickHouse name.
    #[serde(rename = "type")]
    kind: String,
    nullable: bool,
    jsonpath: Option<String>,
}

/// What became of an import, in Tinybird's shape.
#[derive(Debug, Serialize, JsonSchema)]
struct Imported {
    import_id: String,
    mode: String,
    status: &'static str,
    datasource: DataSource,
    successful_rows: u64,
    quarantine_rows: u64,
    /// The same, as newer clients call it.
    quarantined_rows: u64,
    invalid_lines: u64,
    error: bool,
}

/// A table as a token that reads it sees it. One that doesn't see all of its rows isn't told how many there are.
fn describe(table: &TableDef, own: Option<&Own>, filters: &RowFilters) -> DataSource {
    let whole = !filters.contains_key(&TableName::of(&table.name));
    let paths: HashMap<&str, &[String]> =
        own.iter().flat_map(|own| &own.columns).map(|column| (&*column.name, &*column.path)).collect();
    let path = |name: &str| Some(format!("$.{}", paths.get(name)?.join(".")));
    let columns = table.schema.fields().iter().map(|field| Column {
        name: field.name().clone(),
        normalized_name: field.name().clone(),
        kind: type_name(field),
        nullable: field.is_nullable(),
        jsonpath: path(field.name()),
    });
    let columns: Vec<Column> = columns.collect();
    DataSource {
        id: own.map_or_else(|| table.name.to_string(), |own| own.id.to_string()),
        name: table.name.to_string(),
        columns: columns.clone(),
        kind: if own.is_some() { "ndjson" } else { "shipped" },
        statistics: own.filter(|_| whole).map(|own| Statistics {
            row_count: own.rows,
            bytes: own.bytes,
            quarantine_rows: own.quarantined,
        }),
        schema: Schema { columns, sql_schema: own.map(|own| columns::sql_schema(&own.columns)) },
        created_at: own.map(|own| own.created_at.to_string()),
        updated_at: own.filter(|_| whole).map(|own| own.updated_at.to_string()),
    }
}

async fn list(State(app): State<Arc<App>>, token: TokenCaller) -> Response {
    let outcome = async {
        let tables = app.reports.tables(&token.tenant.to_string()).await?;
        let (inner, reader) = (Arc::clone(&app), token.clone());
        let next = move |at: usize| entry(&inner, &reader, &tables, at);
        parts::list(&app, token.tenant, "datasources", 0, next).await
    };
    answer(&token, outcome.await)
}

/// The table at a place, if there is one; those that the token may not read aren't shown. For work that has its turn.
fn entry(app: &App, token: &TokenCaller, tables: &[TableDef], at: usize) -> Result<Option<Entry<usize>>, V0Error> {
    let Some(table) = tables.get(at) else { return Ok(None) };
    let mut json = None;
    let name = TableName::of(&table.name);
    if token.may(Right::ReadTable(&name)) {
        let own = rows::source(app, token, &name)?;
        json = Some(parts::json(&describe(table, own.as_ref(), &token.scopes.filters()))?);
    }
    Ok(Some((at + 1, json)))
}

async fn show(State(app): State<Arc<App>>, token: TokenCaller, Path(name): Path<String>) -> Response {
    let outcome = async {
        let name = TableName::of(&name);
        // First: what it may not read may be there or not.
        if !token.may(Right::ReadTable(&name)) {
            return Err(V0Error::forbidden(Right::ReadTable(&name)));
        }
        let tables = app.reports.tables(&token.tenant.to_string()).await?;
        let table = tables.iter().find(|table| *table.name == *name.as_str());
        let table = table.ok_or_else(|| QueryError::NoTable(name.to_string()))?;
        let own = rows::source(&app, &token, &name)?;
        Ok(Json(describe(table, own.as_ref(), &token.scopes.filters())).into_response())
    };
    answer(&token, outcome.await)
}

/// A data source as whoever wrote to it sees it.
fn shown(app: &App, token: &TokenCaller, name: &TableName) -> Result<DataSource, V0Error> {
    let own = rows::source(app, token, name)?.ok_or_else(|| QueryError::NoTable(name.to_string()))?;
    let columns = own.columns.iter().map(|column| Column {
        name: column.name.clone(),
        normalized_name: column.name.clone(),
        kind: columns::type_text(column),
        nullable: column.nullable,
        jsonpath: Some(format!("$.{}", column.path.join("."))),
    });
    let columns: Vec<Column> = columns.collect();
    Ok(DataSource {
        id: own.id.to_string(),
        name: own.name.clone(),
        columns: columns.clone(),
        kind: "ndjson",
        statistics: Some(Statistics { row_count: own.rows, bytes: own.bytes, quarantine_rows: own.quarantined }),
        schema: Schema { columns, sql_schema: Some(columns::sql_schema(&own.columns)) },
        created_at: Some(own.created_at.to_string()),
        updated_at: Some(own.updated_at.to_string()),
    })
}

/// What a request says beside its rows.
#[derive(Debug, Default)]
struct Asked(Vec<(String, String)>);

impl Asked {
    fn get(&self, wanted: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.trim());
        found.filter(|value| !value.is_empty())
    }

    fn mode(&self) -> Result<&'static str, V0Error> {
        match self.get("mode").unwrap_or("create") {
            "create" => Ok("create"),
            "append" => Ok("append"),
            "replace" => Ok("replace"),
            other => Err(V0Error::bad_request(format!("the mode '{other}' is none of create, append and replace"))),
        }
    }

    fn format(&self, file: Option<BodyFormat>) -> Result<BodyFormat, V0Error> {
        let delimiter = match self.get("dialect_delimiter").map(str::as_bytes) {
            None => b',',
            Some([one]) if one.is_ascii() && !matches!(one, b'"' | b'\n' | b'\r') => *one,
            Some(b"\\t") => b'\t',
            Some(_) => return Err(V0Error::bad_request("'dialect_delimiter' is one character")),
        };
        match self.get("format") {
            None => Ok(match file {
                Some(BodyFormat::Json) => BodyFormat::Json,
                _ => BodyFormat::Csv { delimiter },
            }),
            Some("csv") => Ok(BodyFormat::Csv { delimiter }),
            Some("ndjson" | "json") => Ok(BodyFormat::Json),
            Some(other) => Err(V0Error::bad_request(format!("the format '{other}' is not read; csv and ndjson are"))),
        }
    }
}

async fn create(State(app): State<Arc<App>>, token: TokenCaller, request: Request) -> Response {
    let outcome = async {
        if has_no_length(&request) && request.uri().query().is_none() {
            let error = "send the rows as the body, with its Content-Length";
            return Err(V0Error::new(StatusCode::LENGTH_REQUIRED, error));
        }
        let mut place = app.limiter.intake.place(token.tenant);
        let key = idempotency_key(request.headers())?;
        let packed = rows::packing(request.headers())?;
        let (asked, bytes, file) = read_request(request, &mut place).await?;
        if asked.get("url").is_some() {
            let error = "rows are not fetched from a 'url'; send them as the body, or as a file in a form";
            return Err(V0Error::bad_request(error));
        }
        let name = asked.get("name").ok_or_else(|| V0Error::bad_request("send the data source's name as 'name'"))?;
        let (mode, format) = (asked.mode()?, asked.format(file)?);
        let columns = asked.get("schema").map(columns::schema).transpose().map_err(V0Error::bad_request)?;
        let name = if mode == "append" {
            rows::writable(&app, &token, name)?
        } else {
            let name = rows::source_name(&app, name)?;
            // Taking rows away is more than adding some.
            if !token.may(Right::CreateTable(&name)) {
                return Err(V0Error::forbidden(Right::CreateTable(&name)));
            }
            name
        };
        if mode == "create" && rows::source(&app, &token, &name)?.is_some() {
            return Err(V0Error::new(StatusCode::CONFLICT, format!("there is a data source '{name}'")));
        }
        let request_key = key.map(|key| {
            let body = rows::fingerprint(&app, &[name.as_str().as_bytes(), mode.as_bytes()], &bytes);
            RequestKey { sender: format!("{}:/v0/datasources", token.sender()), key, body }
        });
        if bytes.bytes().is_empty() && mode == "create" {
            let columns = columns.ok_or_else(|| V0Error::bad_request("send rows, or a 'schema'"))?;
            return make(&app, &token, &name, columns, request_key).await;
        }
        let (name_of, replace) = (name.clone(), mode == "replace");
        let incoming = Incoming { name: name_of, bytes, place, packed, format, columns, replace, request_key };
        let done = rows::take_in(&app, &token, incoming).await?;
        Ok(Json(Imported {
            import_id: done.import_id,
            mode: mode.to_owned(),
            status: "done",
            datasource: shown(&app, &token, &name)?,
            successful_rows: done.successful,
            quarantine_rows: done.quarantined,
            quarantined_rows: done.quarantined,
            invalid_lines: 0,
            error: false,
        })
        .into_response())
    };
    answer(&token, outcome.await)
}

/// A data source without rows.
async fn make(
    app: &App,
    token: &TokenCaller,
    name: &TableName,
    columns: Vec<SourceColumn>,
    key: Option<RequestKey>,
) -> Result<Response, V0Error> {
    let source_id = DataSourceId::fresh();
    let made = DataSourceCreated { source_id, name: name.to_string(), columns };
    write::submit(app, command(token.tenant, token.actor(), key, CommandKind::CreateDataSource(Box::new(made))))
        .await?;
    Ok(Json(Imported {
        import_id: source_id.to_string(),
        mode: "create".to_owned(),
        status: "done",
        datasource: shown(app, token, name)?,
        successful_rows: 0,
        quarantine_rows: 0,
        quarantined_rows: 0,
        invalid_lines: 0,
        error: false,
    })
    .into_response())
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// What is asked, the rows, and how they are written by the name of their part: of the query and the raw body, of a form,
/// or of a form with a file.
async fn read_request(request: Request, place: &mut Place) -> Result<(Asked, Buffer, Option<BodyFormat>), V0Error> {
    let mut asked = Asked(form(request.uri().query().unwrap_or_default()));
    let kind = content_type(request.headers()).to_owned();
    if kind.starts_with("application/x-www-form-urlencoded") {
        let bytes = body(request, FORM_BYTES_MAX).await?;
        asked.0.extend(form(&String::from_utf8_lossy(&bytes)));
        return Ok((asked, Buffer::new(0), None));
    }
    if !kind.starts_with("multipart/form-data") {
        return Ok((asked, rows::whole(request, UNPACKED_BYTES_MAX, place).await?, None));
    }
    let boundary = multer::parse_boundary(&kind).map_err(|error| V0Error::bad_request(error.to_string()))?;
    let max = (UNPACKED_BYTES_MAX + FORM_BYTES_MAX) as u64;
    let mut parts = Parts::new(request.into_body(), boundary, max);
    let (mut rows, mut format, mut words) = (Buffer::new(0), None, 0);
    let broken = |error: multer::Error| match error {
        multer::Error::StreamSizeExceeded { .. } => {
            let error = format!("the form has more than {max} bytes");
            V0Error::new(StatusCode::PAYLOAD_TOO_LARGE, error)
        }
        other => V0Error::bad_request(format!("the form can't be read: {other}")),
    };
    let malformed = |error: FormError| match error {
        FormError::Form(error) => broken(error),
        FormError::Head | FormError::Parts => V0Error::bad_request(error.to_string()),
    };
    while let Some(mut part) = parts.next().await.map_err(malformed)? {
        let name = part.name().unwrap_or_default().to_owned();
        let is_rows = matches!(&*name, "csv" | "ndjson" | "json" | "file");
        let mut bytes = Buffer::new(if is_rows { UNPACKED_BYTES_MAX } else { FORM_BYTES_MAX });
        if is_rows {
            rows.clear(place);
        }
        while let Some(piece) = part.chunk().await.map_err(broken)? {
            words += if is_rows { 0 } else { piece.len() };
            if words > FORM_BYTES_MAX {
                let error = format!("the form has more than {FORM_BYTES_MAX} bytes beside its file");
                return Err(V0Error::new(StatusCode::PAYLOAD_TOO_LARGE, error));
            }
            bytes.extend(&piece, place)?;
        }
        if is_rows {
            format = (name == "ndjson" || name == "json").then_some(BodyFormat::Json);
            rows = bytes;
        } else {
            asked.0.push((name, String::from_utf8_lossy(bytes.bytes()).into_owned()));
            bytes.clear(place);
        }
    }
    Ok((asked, rows, format))
}

/// The data source of the path, if the token may do this with it. What it may not touch may be there or not.
fn owned(
    app: &App,
    token: &TokenCaller,
    right: for<'a> fn(&'a TableName) -> Right<'a>,
    name: &TableName,
) -> Result<Own, V0Error> {
    if !token.may(right(name)) && !token.may(Right::CreateTable(name)) {
        return Err(V0Error::forbidden(right(name)));
    }
    Ok(rows::source(app, token, name)?.ok_or_else(|| QueryError::NoTable(name.to_string()))?)
}

async fn delete(State(app): State<Arc<App>>, token: TokenCaller, Path(name): Path<String>) -> Response {
    let outcome = async {
        let own = owned(&app, &token, |name| Right::DropTable(name), &TableName::of(&name))?;
        let kind = CommandKind::DeleteDataSource { name: own.name };
        write::submit(&app, command(token.tenant, token.actor(), None, kind)).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    };
    answer(&token, outcome.await)
}

async fn truncate(State(app): State<Arc<App>>, token: TokenCaller, Path(name): Path<String>) -> Response {
    let outcome = async {
        let name = TableName::of(&name);
        let own = owned(&app, &token, |name| Right::CreateTable(name), &name)?;
        let (source_id, chunks) = (own.id, Vec::new());
        let kind = CommandKind::AppendRows { name: own.name, source_id, create: None, replace: true, chunks };
        write::submit(&app, command(token.tenant, token.actor(), None, kind)).await?;
        Ok(Json(shown(&app, &token, &name)?).into_response())
    };
    answer(&token, outcome.await)
}
