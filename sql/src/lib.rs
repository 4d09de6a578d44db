//! Reports over facts: a tenant's SQL and the shipped endpoints, answered by DataFusion on threads of their own.
//!
//! - [`catalog`]: the port ([`TenantTables`]) through which facts come in, and the catalog of one call.
//! - `scan`, `newest`: one table as a union of Parquet files and rows in memory; rows that are versions.
//! - `gate`: what SQL may pass, and the limits on its text. `functions`, `text`, `percentile`: what it may call.
//! - `engine` ([`Reports`]), `session`, `tenants`, `measure`, `watch`, `once`: running it within the limits of its tenant.
//! - `endpoints` (`endpoints/*.pipe`), `datafile`, `template`, `zone`: a call's parameters to SQL with bound values.
//! - `json`: the answer in Tinybird's shape. `error`: every way to fail, with its HTTP status.
//!
//! Start at [`Reports::query`]. A tenant's name comes with the call and reaches only [`TenantTables::snapshot`].

pub mod catalog;
mod datafile;
mod endpoints;
mod engine;
mod error;
mod functions;
mod gate;
mod json;
mod measure;
mod newest;
mod once;
mod percentile;
mod scan;
mod session;
mod template;
mod tenants;
mod text;
mod watch;
mod zone;

pub use catalog::{NewestBy, NotFresh, ParquetFile, SnapshotGuard, TableDef, TableSnapshot, TablesError, TenantTables};
pub use endpoints::{EndpointDescription, LoadError, ParameterDescription};
pub use engine::{Caller, Limits, QueryResult, Reports, StartError};
pub use error::{Position, QueryError};
pub use gate::{NESTING_MAX, OPERATORS_MAX, SQL_BYTES_MAX, TABLES_MAX};
pub use json::type_name;
