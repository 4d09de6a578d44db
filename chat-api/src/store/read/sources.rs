//! Reads of the tenants' own data sources and endpoints.

use super::{Found, body, list};
use crate::core::state::{DataSource, Pipe};
use ingest::id::TenantId;
use rusqlite::Connection;
use sql::{EndpointName, TableName};

/// The tenant's living data source of this name.
///
/// # Errors
/// SQLite's; so for every read here.
pub fn data_source(connection: &Connection, tenant: TenantId, name: &TableName) -> Found<DataSource> {
    let sql = "SELECT body FROM data_sources WHERE tenant = ?1 AND name = ?2";
    body(connection, sql, (tenant.bytes(), name.as_str()))
}

/// The tenant's living data sources, by name.
///
/// # Errors
/// SQLite's.
pub fn data_sources(connection: &Connection, tenant: TenantId) -> rusqlite::Result<Vec<DataSource>> {
    let sql = "SELECT body FROM data_sources WHERE tenant = ?1 AND name IS NOT NULL ORDER BY name";
    list(connection, sql, [tenant.bytes()])
}

/// The living data sources of all tenants; for whoever keeps their rows.
///
/// # Errors
/// SQLite's.
pub fn all_data_sources(connection: &Connection) -> rusqlite::Result<Vec<DataSource>> {
    list(connection, "SELECT body FROM data_sources WHERE name IS NOT NULL", [])
}

/// The tenant's living endpoint of this name.
///
/// # Errors
/// SQLite's.
pub fn pipe(connection: &Connection, tenant: TenantId, name: &EndpointName) -> Found<Pipe> {
    let sql = "SELECT body FROM pipes WHERE tenant = ?1 AND name = ?2";
    body(connection, sql, (tenant.bytes(), name.as_str()))
}

/// The tenant's living endpoint whose name comes next after this one.
///
/// # Errors
/// SQLite's.
pub fn pipe_after(connection: &Connection, tenant: TenantId, name: &str) -> Found<Pipe> {
    let sql = "SELECT body FROM pipes WHERE tenant = ?1 AND name IS NOT NULL AND name > ?2 ORDER BY name LIMIT 1";
    body(connection, sql, (tenant.bytes(), name))
}
