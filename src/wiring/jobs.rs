//! The assignment and mail jobs' rows into commands: one thread, one consumer offset.
//!
//! Commands and offset ride in one transaction of the writer, so a row becomes a command exactly once.

use super::follow::{Follower, follow};
use anyhow::Context as _;
use chat_api::core::command::{Command, CommandKind};
use chat_api::domain::{ChatDomain, Submission};
use ingest::event::{Actor, Cause};
use ingest::id::{EventId, TenantId};
use ingest::log::{Offset, Record};
use ingest::payload::{MailKind, Payload};
use ingest::writer::Writer;
use pipelines::{AssignmentTrigger, JobOutput, JobRunner, MailRow, Sink};
use sinks::smtp::Outbox;
use std::collections::HashSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// The consumer's name in `consumers`.
pub const CONSUMER: &str = "pipelines";
/// An offset that no command goes with is stored this often at most.
const STORE_EVERY: Duration = Duration::from_secs(1);

/// Starts the thread, which goes on at `next`.
///
/// # Errors
/// When there is no thread to be had, or a job doesn't compile.
pub fn spawn(
    writer: Writer<ChatDomain>,
    next: Offset,
    outbox: Arc<Outbox>,
    stop: CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let jobs = pipelines::jobs().into_iter().filter(|job| job.sink != Sink::Usage);
    let runners = jobs.map(JobRunner::new).collect::<Result<Vec<_>, _>>()?;
    let runtime = Handle::current();
    let run = move || {
        let reader = Arc::clone(writer.reader());
        let mut follower = JobsFollower { writer, runners, outbox, next, stored: next, stored_at: Instant::now() };
        follow(CONSUMER, reader.as_ref(), &runtime, &stop, &mut follower);
    };
    std::thread::Builder::new().name("jobs".to_owned()).spawn(run).context("failed to start the jobs' thread")
}

struct JobsFollower {
    writer: Writer<ChatDomain>,
    runners: Vec<JobRunner>,
    outbox: Arc<Outbox>,
    next: Offset,
    stored: Offset,
    stored_at: Instant,
}

impl Follower for JobsFollower {
    fn next(&self) -> Offset {
        self.next
    }

    fn handle(&mut self, records: &[Arc<Record>], runtime: &Handle) -> anyhow::Result<()> {
        // Requested by a job's command before, or by a route.
        if records.iter().any(|record| matches!(record.event.payload, Payload::MailRequested(_))) {
            self.outbox.wake();
        }
        let mut commands = Vec::new();
        for runner in &self.runners {
            let started = Instant::now();
            match runner.run(records)? {
                JobOutput::Assignments(rows) => commands.extend(assignments(&runner.job().name, rows)),
                JobOutput::Mails(rows) => {
                    commands.extend(rows.into_iter().filter_map(|row| mail(&runner.job().name, row)))
                }
                JobOutput::Usage(_) => {}
            }
            metrics::histogram!("parlance_job_seconds", "job" => runner.job().name.clone()).record(started.elapsed());
        }
        let next = records.last().map_or(self.next, |last| last.offset + 1);
        if !commands.is_empty() {
            self.submit(commands, next, runtime)?;
        }
        self.next = next;
        Ok(())
    }

    fn idle(&mut self, runtime: &Handle) -> anyhow::Result<()> {
        if self.next > self.stored && self.stored_at.elapsed() >= STORE_EVERY {
            self.submit(Vec::new(), self.next, runtime)?;
        }
        Ok(())
    }
}

impl JobsFollower {
    fn submit(&mut self, commands: Vec<Submission>, next: Offset, runtime: &Handle) -> anyhow::Result<()> {
        let outcomes = runtime.block_on(self.writer.submit_all(commands, Some((CONSUMER, next))))?;
        (self.stored, self.stored_at) = (next, Instant::now());
        for rejection in outcomes.into_iter().filter_map(Result::err) {
            // What the row was about has changed since; the decision is the answer.
            tracing::debug!(code = rejection.code, "a job's command was refused");
        }
        Ok(())
    }
}

fn command(job: &str, source_event: EventId, tenant: TenantId, kind: CommandKind) -> Submission {
    Command {
        tenant,
        actor: Actor::System,
        first_event: EventId::derived(&[job.as_bytes(), source_event.bytes()]),
        request: None,
        cause: Some(Cause { job: job.to_owned(), event: source_event }),
        kind,
    }
    .into()
}

/// One command a tenant: it serves the whole queue, so a second one in the same transaction finds nothing to do.
fn assignments(job: &str, rows: Vec<AssignmentTrigger>) -> Vec<Submission> {
    let mut seen = HashSet::new();
    let fresh = rows.into_iter().filter(|row| seen.insert(row.tenant));
    fresh
        .map(|row| command(job, row.source_event, row.tenant, CommandKind::AssignQueue { trigger: row.trigger }))
        .collect()
}

/// Codes and links are asked for by routes only, whatever a job's SQL says.
fn mail(job: &str, row: MailRow) -> Option<Submission> {
    let (conversation_id, readable_id) = (row.conversation, row.readable_id);
    let kind = match row.kind {
        MailKind::Welcome => CommandKind::RequestWelcome { conversation_id, readable_id },
        MailKind::NewConversation => CommandKind::RequestAgentMails { conversation_id, readable_id },
        MailKind::Otp | MailKind::PasswordReset | MailKind::Invitation => return None,
    };
    Some(command(job, row.source_event, row.tenant, kind))
}
