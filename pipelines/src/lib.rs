//! Stream jobs: what follows from an event, as SQL that the embedded runner and an Arroyo cluster both run.
//!
//! Pure: no clock, no IO, no async runtime. Reads events of the log, gives typed rows; whoever follows the log turns
//! rows into commands and metrics.
//!
//! - `assignment_triggers.sql`, `email_notifications.sql`, `usage_metrics.sql`: the jobs. Start here.
//! - `udfs/`: what SQL can't say, a function a file; `udf-macro/` compiles it for this runner.
//! - [`job`]: the contract at the head of a job's file. [`dialect`]: the SQL that both engines take.
//! - `compile`: SQL to expressions, once. [`runner`]: events in, rows out. [`output`]: the rows, typed.
//! - `fixtures/`: events and the rows that must follow from them, whichever engine runs the job.

mod compile;
pub mod dialect;
pub mod job;
pub mod output;
pub mod runner;

#[path = "../udfs/readable_id.rs"]
mod readable_id;

pub use job::{Column, ColumnType, Job, Sink};
pub use output::{AssignmentTrigger, JobOutput, MailRow, UsageMetric, UsageRow};
pub use readable_id::readable_id;
pub use runner::{JobError, JobRunner};

/// The SQL of the jobs that Parlance ships, header included.
const JOB_FILES: [&str; 3] = [
    include_str!("../assignment_triggers.sql"),
    include_str!("../email_notifications.sql"),
    include_str!("../usage_metrics.sql"),
];

/// The functions in `udfs/`: name and Rust source, for Arroyo's UDF compiler.
pub const UDF_FILES: [(&str, &str); 1] = [("readable_id", include_str!("../udfs/readable_id.rs"))];

/// The three jobs, in the order `assignment_triggers`, `email_notifications`, `usage_metrics`.
#[must_use]
pub fn jobs() -> Vec<Job> {
    JOB_FILES.iter().map(|text| Job::parse(text).expect("the jobs' headers are held by a test")).collect()
}
