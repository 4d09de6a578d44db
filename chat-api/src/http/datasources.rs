//! `GET /v0/datasources`: the tables a token may read, with their columns, in Tinybird's shape.

use super::surface::{REPORTS, Routes};
use super::v0::{V0Error, answer};
use crate::app::App;
use crate::auth::TokenCaller;
use crate::auth::scopes::DATASOURCES_READ;
use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Serialize;
use sql::{QueryError, TableDef, type_name};
use std::sync::Arc;

pub(super) fn routes() -> Routes {
    Routes::new("Reports")
        .get("/v0/datasources", list, REPORTS, "The tables that the token may read.")
        .answers::<DataSources>(&[200])
        .get("/v0/datasources/{name}", show, REPORTS, "A table and its columns.")
        .answers::<DataSource>(&[200])
        .also(|operation| operation.refuses(&[404]))
}

#[derive(Debug, Serialize, JsonSchema)]
struct DataSources {
    datasources: Vec<DataSource>,
}

/// A table.
#[derive(Debug, Serialize, JsonSchema)]
struct DataSource {
    id: &'static str,
    name: &'static str,
    columns: Vec<Column>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TableColumn")]
struct Column {
    name: String,
    normalized_name: String,
    /// By its ClickHouse name.
    #[serde(rename = "type")]
    kind: String,
    nullable: bool,
}

fn describe(table: &TableDef) -> DataSource {
    let columns = table.schema.fields().iter().map(|field| Column {
        name: field.name().clone(),
        normalized_name: field.name().clone(),
        kind: type_name(field),
        nullable: field.is_nullable(),
    });
    DataSource { id: table.name, name: table.name, columns: columns.collect() }
}

async fn list(State(app): State<Arc<App>>, token: TokenCaller) -> Response {
    let tables = app.reports.tables();
    let readable = tables.iter().filter(|table| token.may(DATASOURCES_READ, table.name));
    answer(&token, Ok(Json(DataSources { datasources: readable.map(describe).collect() }).into_response()))
}

async fn show(State(app): State<Arc<App>>, token: TokenCaller, Path(name): Path<String>) -> Response {
    let tables = app.reports.tables();
    let outcome = match tables.iter().find(|table| table.name == name) {
        None => Err(QueryError::NoTable(name).into()),
        Some(_) if !token.may(DATASOURCES_READ, &name) => Err(V0Error::forbidden(DATASOURCES_READ, &name)),
        Some(table) => Ok(Json(describe(table)).into_response()),
    };
    answer(&token, outcome)
}
