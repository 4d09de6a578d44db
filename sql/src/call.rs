//! A call: who asks ([`Caller`]), with what ([`Params`]), within which [`Limits`], and what comes back ([`QueryResult`]).

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{iter, mem};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use crate::definitions::MetricsVersion;
use crate::error::QueryError;
use crate::format::{self, Format};
use crate::reads::{Readable, RowFilters};
use crate::result_memory::Hold;
use crate::tenants::Owner;

/// What a query may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Threads that run queries; also how many parts a query is cut into.
    pub threads: usize,
    /// Queries of one tenant that run at once.
    pub running_per_tenant: usize,
    /// Queries of one tenant that wait for their turn; one more is refused (429).
    pub waiting_per_tenant: usize,
    /// From the call to the last row, waiting included (408).
    pub time: Duration,
    /// Working memory of all running queries of a tenant (413).
    pub memory_bytes_per_tenant: usize,
    /// Temporary disk of all running queries of a tenant (413).
    pub temp_bytes_per_tenant: u64,
    /// Temporary disk of all running queries of all tenants; those that run share what is left of it.
    pub temp_bytes: u64,
    /// Where temporary files go; the system's directory when `None`.
    pub temp_dir: Option<PathBuf>,
    /// Rows of a result (413).
    pub result_rows: usize,
    /// Bytes of a result in memory, about those of its text (413).
    pub result_bytes: usize,
    /// Bytes of memory that all results have until they are read: batches, encoded parts, portals, what connections of
    /// the Postgres wire keep. A fourth is for tenants that hold little (503, 53200).
    pub held_bytes: usize,
    /// Of one tenant's results, of that: two of the largest (503, 53200).
    pub held_bytes_per_tenant: usize,
    /// An answer that is read by no byte for this long is cut off, and one that is read slower than
    /// [`READ_BYTES_PER_S_MIN`](crate::READ_BYTES_PER_S_MIN) after that.
    pub unread: Duration,
    /// Bytes of answers that are kept for a tenant that asks the same again; 0 keeps none.
    pub kept_bytes_per_tenant: usize,
    /// Bytes of answers that are kept for all tenants together.
    pub kept_bytes: usize,
    /// Bytes of plans that are kept for all tenants together, about; 0 keeps none.
    pub kept_plan_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            threads: cores.clamp(2, 8),
            running_per_tenant: 4,
            waiting_per_tenant: 60,
            time: Duration::from_secs(10),
            memory_bytes_per_tenant: 256 * 1024 * 1024,
            temp_bytes_per_tenant: 1024 * 1024 * 1024,
            temp_bytes: 4 * 1024 * 1024 * 1024,
            temp_dir: None,
            result_rows: 100_000,
            result_bytes: 64 * 1024 * 1024,
            held_bytes: 256 * 1024 * 1024,
            held_bytes_per_tenant: 128 * 1024 * 1024,
            unread: Duration::from_secs(30),
            kept_bytes_per_tenant: 4 * 1024 * 1024,
            kept_bytes: 128 * 1024 * 1024,
            kept_plan_bytes: 32 * 1024 * 1024,
        }
    }
}

/// A request's parameters: each one's texts in the order they came.
pub type Params = BTreeMap<String, Vec<String>>;

/// Who asks, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// From the credential, never from the request.
    pub tenant: String,
    /// The tenant's IANA zone; UTC when it is not one.
    pub time_zone: String,
    /// Milliseconds since 1970: `now()`, and the end of the default period.
    pub now_ms: i64,
    /// From the credential, never from the request: the tables that SQL may name. An endpoint reads with other rights.
    pub readable: Readable,
    /// From the credential, never from the request. They hold wherever the tables are named, in endpoints too.
    pub filters: RowFilters,
    /// The tenant's version of the definitions, or the one that the call asks for.
    pub metrics: MetricsVersion,
}

/// All rows of a query, within [`Limits`].
#[derive(Debug, Clone)]
pub struct QueryResult {
    /// Names and types of the columns.
    pub schema: SchemaRef,
    /// The rows, in order.
    pub batches: Vec<RecordBatch>,
    /// How many.
    pub rows: usize,
    /// At least `rows`.
    pub rows_before_limit_at_least: usize,
    /// From the call to the last row.
    pub elapsed: Duration,
    /// Of that, until the tables held every event acknowledged before.
    pub waited: Duration,
    /// Rows that the scans gave out, after pruning.
    pub rows_read: u64,
    /// Bytes that the scans read.
    pub bytes_read: u64,
    /// Bytes of `batches`.
    pub bytes: usize,
    /// The statement's own `FORMAT`, if it has one.
    pub format: Option<Format>,
    /// What each of `batches` holds of its tenant's memory.
    pub(crate) held: Vec<Arc<Hold>>,
    /// Whose result it is; none of what isn't to be sent.
    pub(crate) owner: Option<Owner>,
}

/// A batch, and what it holds.
pub(crate) type HeldBatch = (RecordBatch, Option<Arc<Hold>>);

impl QueryResult {
    /// No rows, of a statement that wasn't run.
    pub(crate) fn empty(schema: SchemaRef) -> Self {
        Self {
            schema,
            batches: Vec::new(),
            rows: 0,
            rows_before_limit_at_least: 0,
            elapsed: Duration::ZERO,
            waited: Duration::ZERO,
            rows_read: 0,
            bytes_read: 0,
            bytes: 0,
            format: None,
            held: Vec::new(),
            owner: None,
        }
    }

    /// The batches, each with what it holds; none stay behind.
    pub(crate) fn take_batches(&mut self) -> VecDeque<HeldBatch> {
        let held = mem::take(&mut self.held).into_iter().map(Some).chain(iter::repeat(None));
        mem::take(&mut self.batches).into_iter().zip(held).collect()
    }

    /// Bytes of memory that `batches` hold; at least about `bytes`.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held.iter().map(|hold| hold.bytes()).sum()
    }

    /// The answer as Tinybird's JSON. Takes milliseconds a megabyte: [`Reports::encode`](crate::Reports::encode) does it off the caller's thread.
    /// # Errors  `Internal` for a value that cannot be shown.
    pub fn to_json(&self) -> Result<Vec<u8>, QueryError> {
        format::encode(self.clone(), Format::Json, usize::MAX)
    }
}
