//! One client: its messages one after the other, simple queries, and the waiting: for a message, for the engine, for the
//! client to take its answer. Whoever goes away, cancels or stays away too long stops its query. Start at
//! [`Connection::run`].

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::buffers::{Buffers, CHUNK_BYTES};
use super::catalog::View;
use super::encode;
use super::error::PgError;
use super::extended::{Portal, Statement};
use super::job::{Job, shown};
use super::params::Given;
use super::proto::{Column, Frame, Out, Transaction, format_of};
use super::session::{Done, Session, split};
use super::start::Stream;
use super::types::PgType;
use super::{Admitted, Entered, Knock, Place, Refused, Registered, Server};
use crate::budget::SQL_BYTES_MAX;
use crate::call::{HeldBatch, QueryResult};
use crate::error::QueryError;
use crate::result_memory::Account;
use crate::sending::Pace;

/// Statements of one message.
const STATEMENTS_MAX: usize = 1_000;

/// Why a connection ends.
pub(super) enum End {
    /// The client said so, or is gone.
    Gone,
    /// It is told why.
    Fatal(PgError),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// A client after its start.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    input: BytesMut,
    pub(super) out: Out,
    buffers: Buffers,
    /// While rows are sent.
    pace: Option<Pace>,
    /// What its buffers, statements and portals hold.
    pub(super) memory: Arc<Account>,
    pub(super) session: Session,
    user: String,
    token: String,
    database: String,
    pub(super) server: Arc<Server>,
    registered: Registered,
    _place: Place,
    pub(super) statements: HashMap<String, Arc<Statement>>,
    pub(super) portals: HashMap<String, Portal>,
    /// After an error in the extended protocol, until the next `Sync`.
    pub(super) skips: bool,
}

/// What a connection keeps from its start on.
pub(super) struct Kept {
    /// What the client has sent ahead.
    pub(super) input: BytesMut,
    pub(super) buffers: Buffers,
    pub(super) memory: Arc<Account>,
}

/// Rows to be sent, and how far that is. A batch is given back when its last row is written.
pub(super) struct Rows {
    pub(super) columns: Vec<Column>,
    batches: VecDeque<HeldBatch>,
    row: usize,
    sent: usize,
    tag: &'static str,
}

impl Rows {
    pub(super) fn of(mut result: QueryResult) -> Self {
        let columns = shown(&result.schema);
        Self { columns, batches: result.take_batches(), row: 0, sent: 0, tag: "SELECT" }
    }

    /// Columns and rows of texts.
    pub(super) fn of_texts(names: &[&str], rows: &[Vec<String>]) -> Result<Self, PgError> {
        let fields: Vec<Field> = names.iter().map(|name| Field::new(*name, DataType::Utf8, false)).collect();
        let texts = (0..names.len()).map(|at| -> ArrayRef {
            Arc::new(rows.iter().map(|row| row.get(at).map(String::as_str)).collect::<StringArray>())
        });
        let schema = Arc::new(Schema::new(fields));
        let columns = shown(&schema);
        let batch = RecordBatch::try_new(schema, texts.collect());
        let batch = batch.map_err(|e| PgError::error("XX000", e.to_string()))?;
        Ok(Self { columns, batches: [(batch, None)].into(), row: 0, sent: 0, tag: "SHOW" })
    }
}

impl Connection {
    pub(super) fn new(
        stream: Box<dyn Stream>,
        kept: Kept,
        session: Session,
        (user, token, database): (String, String, String),
        place: Place,
        registered: Registered,
    ) -> Self {
        let server = Arc::clone(&registered.server);
        let (statements, portals) = (HashMap::new(), HashMap::new());
        let (out, Kept { input, buffers, memory }) = (Out::default(), kept);
        Self {
            stream,
            input,
            out,
            buffers,
            pace: None,
            memory,
            session,
            user,
            token,
            database,
            server,
            registered,
            _place: place,
            statements,
            portals,
            skips: false,
        }
    }

    /// Serves the client until it ends.
    pub(super) async fn run(mut self, entered: &dyn Entered) {
        loop {
            let error = match self.step(entered).await {
                Ok(()) => continue,
                Err(End::Gone) => return,
                Err(End::Fatal(error)) => error,
            };
            self.out.0.clear();
            self.out.error(&PgError { fatal: true, ..error });
            // It may not be there to hear it.
            let _ = self.flush().await;
            let _ = self.stream.shutdown().await;
            return;
        }
    }

    async fn step(&mut self, entered: &dyn Entered) -> Result<(), End> {
        match self.frame(entered).await? {
            Frame::Query(sql) => self.simple(&sql).await,
            Frame::Terminate => Err(End::Gone),
            Frame::Copy => Ok(()),
            Frame::Password(_) => Err(End::Fatal(PgError::fatal("08P01", "no password was asked for"))),
            frame => self.extended(frame).await,
        }
    }

    /// The next message. While none has begun and nothing is open, the connection may have to make room.
    async fn frame(&mut self, entered: &dyn Entered) -> Result<Frame, End> {
        let fatal = |code, message| End::Fatal(PgError::fatal(code, message));
        let mut begun = None;
        loop {
            if let Some(frame) =
                Frame::read(&mut self.input, self.server.limits.message_bytes_max).map_err(End::Fatal)?
            {
                entered.busy();
                return Ok(frame);
            }
            self.buffers.release(&mut self.input, &mut self.out);
            let limits = &self.server.limits;
            let (until, late) = if self.input.is_empty() {
                if self.session.transaction == Transaction::None && self.portals.is_empty() && !self.skips {
                    entered.idle();
                }
                (Instant::now() + limits.idle, ("57P05", "the connection was idle for too long"))
            } else {
                entered.busy();
                let begun = *begun.get_or_insert_with(Instant::now);
                (begun + limits.message, ("08P01", "the message took too long to come"))
            };
            let read = tokio::select! {
                read = timeout_at(until, self.stream.read_buf(&mut self.input)) => read,
                () = entered.must_leave() => {
                    return Err(fatal("57P05", "there are too many connections, and this one was idle"));
                }
                () = self.server.stop.cancelled() => return Err(fatal("57P01", "the server is stopping")),
            };
            match read {
                Ok(Ok(0) | Err(_)) => return Err(End::Gone),
                Ok(Ok(_)) => self.counted().map_err(|full| End::Fatal(PgError::fatal("53200", full.to_string())))?,
                Err(_) => return Err(fatal(late.0, late.1)),
            }
        }
    }

    /// Counts what its buffers have.
    fn counted(&mut self) -> Result<(), QueryError> {
        self.buffers.count(&self.input, &self.out)
    }

    /// Sends what is ready.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        let mut single = Pace::new(self.server.limits.unread);
        let pace = self.pace.as_mut().unwrap_or(&mut single);
        for chunk in self.out.0.chunks(CHUNK_BYTES) {
            let written = timeout_at(pace.until(), self.stream.write_all(chunk)).await;
            written.map_err(|_| End::Gone)??;
            pace.sent(chunk.len());
        }
        self.out.0.clear();
        let flushed = timeout_at(pace.until(), self.stream.flush()).await;
        flushed.map_err(|_| End::Gone)??;
        self.buffers.release(&mut self.input, &mut self.out);
        Ok(())
    }

    /// The same, once enough is ready.
    pub(super) async fn flush_if_full(&mut self) -> Result<(), End> {
        if self.out.0.len() >= CHUNK_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Waits for the engine, and meanwhile for whatever stops it.
    async fn while_there<T>(
        &mut self,
        work: impl Future<Output = Result<T, PgError>>,
    ) -> Result<Result<T, PgError>, End> {
        let timeout = self.session.statement_timeout();
        let timed_out = async {
            match timeout {
                Some(timeout) => tokio::time::sleep(timeout).await,
                None => std::future::pending().await,
            }
        };
        let cancelled = self.registered.notify.notified();
        tokio::pin!(work, timed_out, cancelled);
        let mut has_room = true;
        loop {
            // More than a message ahead, or than there is room for, is left to the system, which then tells nothing of the
            // client.
            let may_read = has_room && self.input.len() < self.server.limits.message_bytes_max;
            tokio::select! {
                done = &mut work => return Ok(done),
                () = &mut timed_out => {
                    return Ok(Err(PgError::error("57014", "the statement took longer than statement_timeout")));
                }
                () = &mut cancelled => return Ok(Err(PgError::error("57014", "the statement was cancelled"))),
                () = self.server.stop.cancelled() => {
                    return Err(End::Fatal(PgError::fatal("57P01", "the server is stopping")));
                }
                read = self.stream.read_buf(&mut self.input), if may_read => match read {
                    Ok(0) | Err(_) => return Err(End::Gone),
                    Ok(_) => has_room = self.buffers.count(&self.input, &self.out).is_ok(),
                },
            }
        }
    }

    /// Whether the token is still good, and for what.
    fn admit(&self, knock: Knock) -> Result<Admitted, End> {
        let fatal = |code, message: &str| End::Fatal(PgError::fatal(code, message));
        match self.server.access.admit(&self.user, &self.token, knock) {
            Ok(admitted) => Ok(admitted),
            Err(Refused::Invalid) => Err(fatal("28000", "the token is no longer good")),
            Err(Refused::Unavailable) => Err(fatal("57P03", "the token can't be checked now; retry")),
            Err(Refused::TooOften(seconds)) => {
                let message = format!("this token may not call so often; try again in {seconds} s");
                Err(End::Fatal(PgError::error("53400", message)))
            }
        }
    }

    /// The same; a rate that is used up is no reason to end the connection.
    pub(super) fn admitted(&self, knock: Knock) -> Result<Result<Admitted, PgError>, End> {
        match self.admit(knock) {
            Ok(admitted) => Ok(Ok(admitted)),
            Err(End::Fatal(error)) if !error.fatal => Ok(Err(error)),
            Err(end) => Err(end),
        }
    }

    pub(super) fn job(&self, sql: &str, values: Vec<(PgType, Given)>, admitted: &Admitted) -> Job {
        let view = View {
            user: self.user.clone(),
            database: self.database.clone(),
            pid: self.registered.pid,
            settings: self.session.values().clone(),
            readable: admitted.caller.readable.clone(),
        };
        Job { sql: sql.to_owned(), values, view: Arc::new(view), memory: Arc::clone(&self.memory) }
    }

    /// Runs a statement of the engine's, which begins after `before` characters of the client's text.
    pub(super) async fn query(
        &mut self,
        sql: &str,
        before: usize,
        values: Vec<(PgType, Given)>,
    ) -> Result<Result<Rows, PgError>, End> {
        let admitted = match self.admitted(Knock::Run)? {
            Ok(admitted) => admitted,
            Err(error) => return Ok(Err(error)),
        };
        let job = self.job(sql, values, &admitted);
        let reports = Arc::clone(&self.server.reports);
        let work = async {
            let result = reports.wire(&admitted.caller, job).await;
            result.map(Rows::of).map_err(|e| PgError::of_query(&e, sql, before))
        };
        self.while_there(work).await
    }

    /// Finds out what a statement takes and gives.
    pub(super) async fn describe(
        &mut self,
        sql: &str,
        before: usize,
        types: super::Types,
    ) -> Result<Result<super::Described, PgError>, End> {
        let admitted = match self.admitted(Knock::Look)? {
            Ok(admitted) => admitted,
            Err(error) => return Ok(Err(error)),
        };
        let job = self.job(sql, Vec::new(), &admitted);
        let reports = Arc::clone(&self.server.reports);
        let work = async {
            let described = reports.describe(&admitted.caller, job, types).await;
            described.map_err(|e| PgError::of_query(&e, sql, before))
        };
        self.while_there(work).await
    }

    async fn simple(&mut self, sql: &str) -> Result<(), End> {
        self.skips = false;
        self.portals.clear();
        let outcome = self.statements_of(sql).await?;
        if let Err(error) = outcome {
            self.out.error(&error);
            self.session.failed();
        }
        self.out.ready(self.session.transaction);
        self.flush().await
    }

    async fn statements_of(&mut self, sql: &str) -> Result<Result<(), PgError>, End> {
        if sql.len() > SQL_BYTES_MAX {
            let message = format!("the SQL has {} bytes, the limit is {SQL_BYTES_MAX}", sql.len());
            return Ok(Err(PgError::error("54000", message)));
        }
        let pieces = split(sql);
        if pieces.len() > STATEMENTS_MAX {
            let message = format!("{} statements in one message, the limit is {STATEMENTS_MAX}", pieces.len());
            return Ok(Err(PgError::error("54000", message)));
        }
        if pieces.is_empty() {
            self.out.empty_query();
        }
        for piece in pieces {
            let command = match piece.command() {
                Ok(command) => command,
                Err(error) => return Ok(Err(error)),
            };
            if let Err(error) = self.session.check(command.as_ref()) {
                return Ok(Err(error));
            }
            let rows = match command {
                Some(command) => match self.command(command) {
                    Ok(rows) => rows,
                    Err(error) => return Ok(Err(error)),
                },
                None => match self.query(piece.text, piece.before, Vec::new()).await? {
                    Ok(rows) => Some(rows),
                    Err(error) => return Ok(Err(error)),
                },
            };
            if let Some(mut rows) = rows {
                self.out.row_description(&rows.columns, &[]);
                if let Err(error) = self.send(&mut rows, &[], usize::MAX).await? {
                    return Ok(Err(error));
                }
                self.complete(&rows);
            }
            self.flush_if_full().await?;
        }
        Ok(Ok(()))
    }

    /// Runs a command of the session; its rows, or none when it has been answered.
    pub(super) fn command(&mut self, command: super::session::Command) -> Result<Option<Rows>, PgError> {
        let before = self.session.reported();
        let done = self.session.run(command)?;
        let tag = match done {
            Done::Rows(names, rows) => return Rows::of_texts(&names, &rows).map(Some),
            Done::Tag(tag) => tag,
            Done::Warned(warning, tag) => {
                self.out.notice(&warning);
                tag
            }
            Done::Forget(None, tag) => {
                self.statements.clear();
                self.portals.clear();
                tag
            }
            Done::Forget(Some(name), tag) => {
                if self.statements.remove(&name).is_none() {
                    return Err(PgError::error("26000", format!("there is no prepared statement \"{name}\"")));
                }
                tag
            }
        };
        for (now, before) in self.session.reported().iter().zip(before) {
            if *now != before {
                self.out.parameter_status(now.0, &now.1);
            }
        }
        if self.session.transaction == Transaction::None {
            self.portals.clear();
        }
        self.out.complete(tag);
        Ok(None)
    }

    /// Sends at most so many rows; true when these were the last. A client that reads them too slowly is gone.
    pub(super) async fn send(
        &mut self,
        rows: &mut Rows,
        formats: &[i16],
        rows_max: usize,
    ) -> Result<Result<bool, PgError>, End> {
        self.pace = Some(Pace::new(self.server.limits.unread));
        let sent = self.send_rows(rows, formats, rows_max).await;
        self.pace = None;
        sent
    }

    async fn send_rows(
        &mut self,
        rows: &mut Rows,
        formats: &[i16],
        rows_max: usize,
    ) -> Result<Result<bool, PgError>, End> {
        let zone = self.session.zone();
        let mut left = rows_max;
        while let Some((batch, _)) = rows.batches.front() {
            if rows.row == batch.num_rows() {
                rows.batches.pop_front();
                rows.row = 0;
                continue;
            }
            if left == 0 {
                return Ok(Ok(false));
            }
            let (row, columns, before) = (rows.row, &rows.columns, self.out.0.len());
            let written = self.out.row(columns.len(), |at, out| {
                encode::write(batch.column(at).as_ref(), row, columns[at].kind, format_of(formats, at), zone, out)
            });
            let written = written.map_err(|error| PgError::error("XX000", error.to_string()));
            // A row may be as large as a result; before it is sent it is there twice.
            let written = written.and_then(|()| match self.out.0.len() {
                0..CHUNK_BYTES => Ok(()),
                _ => self.counted().map_err(|full| PgError::error("53200", full.to_string())),
            });
            if let Err(error) = written {
                self.out.0.truncate(before);
                return Ok(Err(error));
            }
            (rows.row, rows.sent, left) = (row + 1, rows.sent + 1, left - 1);
            self.flush_if_full().await?;
        }
        Ok(Ok(true))
    }

    pub(super) fn complete(&mut self, rows: &Rows) {
        match rows.tag {
            "SELECT" => self.out.complete(&format!("SELECT {}", rows.sent)),
            tag => self.out.complete(tag),
        }
    }
}
