//! Reports over facts: a tenant's SQL and the shipped endpoints, answered by DataFusion on threads of their own.
//!
//! - [`catalog`]: the port ([`TenantTables`]) through which facts come in, and the catalog of one call.
//! - `scan`, `newest`: one table as a union of Parquet files and rows in memory; rows that are versions.
//! - `budget`, `dialect`, `gate`, `expand`: what SQL may pass, and the limits on its text. `types`, `inlined`, `aggregates`, `windows`: types within types, expressions within expressions, what aggregates allocate by and windows reach. `names`: columns in their own case. `functions`, `text`, `percentile`, `covered`: what it may call. `lenient`, `row_errors`, `wide_times`: what a row's value can't stop. `hours`: business hours. `local`: wall clocks. `buckets`: weeks, months, and the pieces of a period.
//! - `call`: who asks, what comes back. `engine` ([`Reports`]), `session`, `tenants`, `measure`, `watch`, `once`, `give_way`: running it within the limits of its tenant.
//! - `endpoints` (`endpoints/*.pipe`), `endpoint_node`, `datafile`, `template`, `zone`: a call's parameters to SQL with bound values.
//! - `own`: endpoints that tenants publish. `kept_pipes`: those that were read.
//! - `reads`, `filter`: the tables and the rows that a token, or an endpoint's publisher, may see. `format`, `cell`: the answer as JSON, CSV, TSV, Parquet or Arrow. `sending`: its way to
//!   its reader, part by part. `result_memory`: what results hold until then, bounded.
//! - `source`: what tells statements apart. `answers`, `plans`: answers that are still true, plans that are still good. `observed`: what became of each call, as tables.
//! - [`pg`]: the same over the Postgres wire.
//! - `error`: every way to fail, with its HTTP status.
//!
//! Start at [`Reports::query`]. A tenant's name comes with the call and reaches only [`TenantTables::snapshot`].

mod aggregates;
mod answers;
mod buckets;
mod budget;
mod call;
pub mod catalog;
mod cell;
mod covered;
mod datafile;
mod definitions;
mod dialect;
mod endpoint_node;
mod endpoints;
mod engine;
mod error;
mod expand;
mod filter;
mod format;
mod functions;
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod give_way;
#[cfg(test)]
mod hostile_calls;
mod hours;
mod inlined;
mod kept_pipes;
mod lanes;
mod lenient;
mod local;
mod measure;
mod names;
mod newest;
mod observed;
#[cfg(test)]
mod odd_rows;
mod once;
mod own;
mod percentile;
pub mod pg;
mod plans;
mod reads;
mod result_memory;
mod row_errors;
mod scan;
mod sending;
mod session;
mod source;
mod template;
mod tenants;
mod text;
mod types;
mod watch;
mod wide_times;
mod windows;
mod zone;

pub use buckets::BUCKETS_MAX;
pub use budget::{NESTING_MAX, OPERATORS_MAX, SQL_BYTES_MAX, SUFFIXES_MAX};
pub use call::{Caller, Limits, Params, QueryResult};
pub use catalog::{NewestBy, NotFresh, ParquetFile, SnapshotGuard, TableDef, TableSnapshot, TablesError, TenantTables};
pub use definitions::{MetricsVersion, TableView};
pub use endpoint_node::{EndpointDescription, LoadError, ParameterDescription, RESERVED_PARAMETERS};
pub use engine::{Reports, StartError};
pub use error::{Position, QueryError};
pub use format::{Format, type_name};
pub use gate::TABLES_MAX;
pub use hours::Opening;
pub use own::{OwnPipe, PIPE_BYTES_MAX, PIPE_NODES_MAX};
pub use reads::{EndpointName, Published, PublisherReads, Readable, Reader, RowFilters, TableName, Tables};
pub use sending::{Answer, AnswerParts, CutOff, READ_BYTES_PER_S_MIN};
pub use template::preview as preview_template;
pub use template::{RENDER_BYTES_MAX, RENDER_STEPS_MAX, TEMPLATE_PARTS_MAX};
pub use types::{FIXED_MAX, TYPE_DEPTH_MAX};
