//! The embedded runner: a job, compiled once, on events as they arrive.
//!
//! Pure: the same records give the same rows, so that a replay gives what the first run gave. Nothing is kept between
//! calls; one runner may be shared by threads. Start at [`JobRunner::run`].

use crate::compile::{Compiled, Rows};
use crate::dialect::{self, DialectError};
use crate::job::{ColumnType, HeaderError, Job};
use crate::output::{JobOutput, RowError};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::DataType;
use datafusion::error::DataFusionError;
use ingest::log::{Offset, Record};
use std::sync::Arc;

/// Events that are evaluated together: 256 MiB of the largest ones, far from the 2 GiB that a text column can hold.
const BATCH_EVENTS_MAX: usize = 1024;

/// A job that can't be run, or an event that it can't be run on. Never retry: neither goes away by itself.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The file doesn't open with its contract.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The SQL is outside of what both engines take.
    #[error("failed to read job '{job}': {source}")]
    Dialect {
        /// The job.
        job: String,
        /// What is refused, or the position of a syntax error.
        source: DialectError,
    },
    /// DataFusion refuses the SQL.
    #[error("failed to plan job '{job}': {source}")]
    Plan {
        /// The job.
        job: String,
        /// What it said.
        source: Box<DataFusionError>,
    },
    /// The header and the SQL, or the header and the sink, disagree.
    #[error("failed to plan job '{job}': {reason}")]
    Columns {
        /// The job.
        job: String,
        /// How.
        reason: String,
    },
    /// The job fails on this event. What came before it in the batch gives rows when it is run alone.
    #[error("failed to run job '{job}' on the event at offset {offset}: {reason}")]
    Event {
        /// The job.
        job: String,
        /// The event's place in the log.
        offset: Offset,
        /// What is wrong.
        reason: String,
    },
    /// The job fails on a batch, but on none of its events alone.
    #[error("failed to run job '{job}' on the events from offset {first} on: {source}")]
    Batch {
        /// The job.
        job: String,
        /// The first event's place in the log.
        first: Offset,
        /// What DataFusion said.
        source: Box<DataFusionError>,
    },
}

/// A job, ready to run.
#[derive(Debug)]
pub struct JobRunner {
    job: Job,
    compiled: Compiled,
}

impl JobRunner {
    /// Checks and compiles the job's SQL.
    ///
    /// # Errors
    /// [`JobError`] when the SQL isn't in the dialect of both engines, doesn't plan, or gives other columns than the
    /// header says or the sink takes.
    pub fn new(job: Job) -> Result<Self, JobError> {
        dialect::check(&job.sql).map_err(|source| JobError::Dialect { job: job.name.clone(), source })?;
        let plan = |source: DataFusionError| JobError::Plan { job: job.name.clone(), source: Box::new(source) };
        let compiled = Compiled::new(&job.sql).map_err(plan)?;
        let disagree = |reason| JobError::Columns { job: job.name.clone(), reason };
        let declared = job.columns.iter().map(|column| format!("{} {}", column.name, column.data_type));
        let declared = declared.collect::<Vec<_>>().join(", ");
        let planned = planned_columns(&compiled);
        if planned != declared {
            return Err(disagree(format!("its header says {declared}, its SQL gives {planned}")));
        }
        let rows = compiled.run([].into_iter()).map_err(plan)?;
        JobOutput::empty(job.sink).extend(&job, &rows, &[]).map_err(|error| match error {
            RowError::Column(name) => disagree(format!("the sink '{}' takes a column {name}", job.sink.as_str())),
            RowError::Row { reason, .. } => disagree(reason),
        })?;
        Ok(Self { job, compiled })
    }

    /// The job.
    #[must_use]
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// Whether rows can follow from this event: its type is one that the job reads.
    #[must_use]
    pub fn reads(&self, record: &Record) -> bool {
        let kind = record.event.payload.kind();
        self.job.reads.iter().any(|read| read == kind)
    }

    /// The rows that follow from these events, in the events' order. Any number of events, of any tenants.
    ///
    /// # Errors
    /// [`JobError::Event`] names the first event that the job fails on; no rows are given then.
    pub fn run(&self, records: &[Arc<Record>]) -> Result<JobOutput, JobError> {
        let mut output = JobOutput::empty(self.job.sink);
        for records in self.batches(records) {
            let rows = self.evaluate(&records)?;
            output.extend(&self.job, &rows, &records).map_err(|error| match error {
                RowError::Row { place, reason } => self.at(records[place], reason),
                RowError::Column(name) => {
                    JobError::Columns { job: self.job.name.clone(), reason: format!("no column {name}") }
                }
            })?;
        }
        Ok(output)
    }

    /// The same rows as columns, named as in the job's header; NULLs and ids are not checked.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn run_columns(&self, records: &[Arc<Record>]) -> Result<RecordBatch, JobError> {
        let batches = self.batches(records).map(|records| self.evaluate(&records).map(|rows| rows.batch));
        let batches = batches.collect::<Result<Vec<_>, _>>()?;
        concat_batches(self.compiled.schema(), &batches).map_err(|error| JobError::Plan {
            job: self.job.name.clone(),
            source: Box::new(DataFusionError::from(error)),
        })
    }

    /// The events that the job reads, in batches.
    fn batches<'a>(&self, records: &'a [Arc<Record>]) -> impl Iterator<Item = Vec<&'a Arc<Record>>> {
        let read: Vec<_> = records.iter().filter(|record| self.reads(record)).collect();
        let mut rest = read.into_iter();
        std::iter::from_fn(move || {
            let batch: Vec<_> = rest.by_ref().take(BATCH_EVENTS_MAX).collect();
            (!batch.is_empty()).then_some(batch)
        })
    }

    fn evaluate(&self, records: &[&Arc<Record>]) -> Result<Rows, JobError> {
        let bodies = |records: &[&Arc<Record>]| self.compiled.run(records.iter().map(|record| record.body.as_str()));
        bodies(records).map_err(|source| {
            // DataFusion names no row. A job is pure, so that running the events again, one by one, finds it.
            for record in records {
                if let Err(error) = bodies(&[*record]) {
                    return self.at(record, error.to_string());
                }
            }
            let first = records.first().map_or(0, |record| record.offset);
            JobError::Batch { job: self.job.name.clone(), first, source: Box::new(source) }
        })
    }

    fn at(&self, record: &Record, reason: String) -> JobError {
        JobError::Event { job: self.job.name.clone(), offset: record.offset, reason }
    }
}

/// The plan's columns as a header would say them.
fn planned_columns(compiled: &Compiled) -> String {
    let columns = compiled.schema().fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 => format!("{} {}", field.name(), ColumnType::Text),
        DataType::Int64 => format!("{} {}", field.name(), ColumnType::BigInt),
        DataType::Float64 => format!("{} {}", field.name(), ColumnType::Double),
        other => format!("{} {other}", field.name()),
    });
    columns.collect::<Vec<_>>().join(", ")
}
