//! The extended protocol: statements that are prepared, values bound to them, portals read piece by piece. Start at
//! [`Connection::extended`].

use std::mem;
use std::sync::Arc;

use super::connection::{Connection, End, Rows};
use super::error::PgError;
use super::params::{self, Given};
use super::proto::{Bind, Column, Frame, Target, format_of};
use super::session::{Command, split};
use super::types::{PgType, Scalar};
use crate::budget::SQL_BYTES_MAX;
use crate::result_memory::Hold;

/// What a statement or a portal has besides what it is made of.
const ENTRY_BYTES: usize = 512;

/// What a prepared statement does.
enum What {
    Nothing,
    Command,
    Query,
}

/// A prepared statement.
pub(super) struct Statement {
    sql: String,
    what: What,
    parameters: Vec<PgType>,
    columns: Vec<Column>,
    /// What it holds of its connection's memory, until its last portal is gone too.
    _hold: Option<Hold>,
}

impl Statement {
    /// Bytes of memory that it has under its name.
    fn bytes(&self, name: &str) -> usize {
        let columns = self.columns.iter().map(|column| size_of::<Column>() + column.name.len());
        let parameters = self.parameters.len() * size_of::<PgType>();
        ENTRY_BYTES + name.len() + self.sql.len() + parameters + columns.sum::<usize>()
    }

    fn command(&self) -> Result<Option<Command>, PgError> {
        match (&self.what, split(&self.sql).first()) {
            (What::Command, Some(piece)) => piece.command(),
            _ => Ok(None),
        }
    }
}

/// A statement with its values.
pub(super) struct Portal {
    statement: Arc<Statement>,
    values: Vec<(PgType, Given)>,
    formats: Vec<i16>,
    progress: Progress,
    /// What it holds of its connection's memory, besides its rows, which hold theirs.
    hold: Hold,
}

impl Portal {
    /// Bytes of memory that one has with these values.
    fn bytes(name: &str, values: &[(PgType, Given)], formats: &[i16]) -> usize {
        let values = values.iter().map(|(_, given)| size_of::<PgType>() + given.bytes());
        ENTRY_BYTES + name.len() + size_of_val(formats) + values.sum::<usize>()
    }
}

enum Progress {
    New,
    Rows(Rows),
    Done,
}

type Outcome = Result<Result<(), PgError>, End>;

impl Connection {
    /// Answers a message of the extended protocol. After an error the rest is skipped until `Sync`.
    pub(super) async fn extended(&mut self, frame: Frame) -> Result<(), End> {
        if frame == Frame::Sync {
            self.skips = false;
            // Outside a transaction, portals end with the statement.
            if self.session.transaction == super::proto::Transaction::None {
                self.portals.clear();
            }
            self.out.ready(self.session.transaction);
            return self.flush().await;
        }
        if self.skips {
            return Ok(());
        }
        let outcome = match frame {
            Frame::Parse { name, sql, types } => self.parse(name, sql, &types).await?,
            Frame::Bind(bind) => self.bind(bind),
            Frame::Describe(Target::Statement, name) => self.describe_statement(&name),
            Frame::Describe(Target::Portal, name) => self.describe_portal(&name),
            Frame::Execute { portal, rows_max } => self.execute(&portal, rows_max).await?,
            Frame::Close(target, name) => {
                match target {
                    Target::Statement => drop(self.statements.remove(&name)),
                    Target::Portal => drop(self.portals.remove(&name)),
                }
                self.out.close_complete();
                Ok(())
            }
            Frame::Flush => {
                self.flush().await?;
                Ok(())
            }
            _ => Ok(()),
        };
        if let Err(error) = outcome {
            self.out.error(&error);
            self.session.failed();
            self.skips = true;
            // Drivers that wait for an answer with `Flush` send no `Sync` before they have it.
            self.flush().await?;
        }
        // A client that never asks for what was said hears it all the same.
        self.flush_if_full().await
    }

    async fn parse(&mut self, name: String, sql: String, oids: &[u32]) -> Outcome {
        if self.statements.len() >= self.server.limits.statements_max {
            let message = format!("a connection has at most {} prepared statements", self.statements.len());
            return Ok(Err(PgError::error("53400", message)));
        }
        if !name.is_empty() && self.statements.contains_key(&name) {
            return Ok(Err(PgError::error("42P05", format!("there is already a prepared statement \"{name}\""))));
        }
        if sql.len() > SQL_BYTES_MAX {
            let message = format!("the SQL has {} bytes, the limit is {SQL_BYTES_MAX}", sql.len());
            return Ok(Err(PgError::error("54000", message)));
        }
        if oids.len() > params::PARAMETERS_MAX {
            return Ok(Err(PgError::error("54000", "there are too many parameters")));
        }
        let mut statement = match self.prepared(sql, oids).await? {
            Ok(statement) => statement,
            Err(error) => return Ok(Err(error)),
        };
        match Hold::new(&self.memory, statement.bytes(&name)) {
            Ok(hold) => statement._hold = Some(hold),
            Err(full) => return Ok(Err(PgError::error("53200", full.to_string()))),
        }
        self.statements.insert(name, Arc::new(statement));
        self.out.parse_complete();
        Ok(Ok(()))
    }

    async fn prepared(&mut self, sql: String, oids: &[u32]) -> Result<Result<Statement, PgError>, End> {
        let pieces = split(&sql);
        let made =
            |what, parameters, columns| Ok(Ok(Statement { sql: sql.clone(), what, parameters, columns, _hold: None }));
        let [piece] = pieces.as_slice() else {
            return match pieces.len() {
                0 => made(What::Nothing, Vec::new(), Vec::new()),
                _ => Ok(Err(PgError::error("42601", "a prepared statement is one statement"))),
            };
        };
        let command = match piece.command() {
            Ok(command) => command,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = self.session.check(command.as_ref()) {
            return Ok(Err(error));
        }
        match command {
            Some(Command::Show(name)) if name == "all" => {
                let text = |name: &str| Column { name: name.to_owned(), kind: PgType::TEXT };
                made(What::Command, Vec::new(), ["name", "setting", "description"].map(text).into())
            }
            Some(Command::Show(name)) => {
                let known = self.session.values().iter().find(|(known, _)| known.eq_ignore_ascii_case(&name));
                let name = known.map_or(name.as_str(), |(known, _)| known).to_owned();
                made(What::Command, Vec::new(), vec![Column { name, kind: PgType::TEXT }])
            }
            Some(_) => made(What::Command, Vec::new(), Vec::new()),
            None => {
                // `unknown` is found out, like what isn't said.
                let known = |oid: &u32| PgType::by_oid(*oid).filter(|kind| kind.scalar != Scalar::Unknown);
                let types = oids.iter().map(known).collect();
                Ok(match self.describe(piece.text, piece.before, types).await? {
                    Ok(described) => {
                        let (parameters, columns) = (described.parameters, described.columns);
                        Ok(Statement { sql: sql.clone(), what: What::Query, parameters, columns, _hold: None })
                    }
                    Err(error) => Err(error),
                })
            }
        }
    }

    fn bind(&mut self, bind: Bind) -> Result<(), PgError> {
        if self.portals.len() >= self.server.limits.statements_max {
            return Err(PgError::error("53400", "there are too many portals"));
        }
        if !bind.portal.is_empty() && self.portals.contains_key(&bind.portal) {
            return Err(PgError::error("42P03", format!("there is already a portal \"{}\"", bind.portal)));
        }
        let statement = self.statements.get(&bind.statement).ok_or_else(|| no_statement(&bind.statement))?;
        if bind.values.len() != statement.parameters.len() {
            let (given, wanted) = (bind.values.len(), statement.parameters.len());
            let message = format!("{given} values are bound, the statement has {wanted} parameters");
            return Err(PgError::error("08P01", message));
        }
        let value = |(at, kind): (usize, &PgType)| {
            let bytes = bind.values[at].as_deref();
            params::read(bytes, *kind, format_of(&bind.formats, at)).map(|given| (*kind, given))
        };
        let values = statement.parameters.iter().enumerate().map(value).collect::<Result<Vec<_>, _>>()?;
        params::check_lists(&values)?;
        let (statement, formats) = (Arc::clone(statement), bind.result_formats);
        let hold = Hold::new(&self.memory, Portal::bytes(&bind.portal, &values, &formats));
        let hold = hold.map_err(|full| PgError::error("53200", full.to_string()))?;
        let portal = Portal { statement, values, formats, progress: Progress::New, hold };
        self.portals.insert(bind.portal, portal);
        self.out.bind_complete();
        Ok(())
    }

    fn describe_statement(&mut self, name: &str) -> Result<(), PgError> {
        let statement = self.statements.get(name).ok_or_else(|| no_statement(name))?;
        self.out.parameters(&statement.parameters);
        describe_columns(&mut self.out, statement, &[]);
        Ok(())
    }

    fn describe_portal(&mut self, name: &str) -> Result<(), PgError> {
        let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
        describe_columns(&mut self.out, &portal.statement, &portal.formats);
        Ok(())
    }

    async fn execute(&mut self, name: &str, rows_max: usize) -> Outcome {
        let Some(mut portal) = self.portals.remove(name) else { return Ok(Err(no_portal(name))) };
        let outcome = self.advance(&mut portal, rows_max).await?;
        if outcome.is_ok() {
            self.portals.insert(name.to_owned(), portal);
        }
        Ok(outcome)
    }

    async fn advance(&mut self, portal: &mut Portal, rows_max: usize) -> Outcome {
        if matches!(portal.progress, Progress::New) {
            let rows = match self.first_rows(portal).await? {
                Ok(Some(rows)) => rows,
                Ok(None) => {
                    portal.progress = Progress::Done;
                    return Ok(Ok(()));
                }
                Err(error) => return Ok(Err(error)),
            };
            let kinds = |columns: &[Column]| columns.iter().map(|column| column.kind).collect::<Vec<_>>();
            if kinds(&rows.columns) != kinds(&portal.statement.columns) {
                // The tables have changed since; the client can't read the rows by what it was told.
                let message = "the columns of the statement have changed; prepare it again";
                return Ok(Err(PgError::error("0A000", message)));
            }
            portal.progress = Progress::Rows(rows);
            // Its values are used; less is never refused.
            let _ = portal.hold.resize(ENTRY_BYTES + size_of_val(portal.formats.as_slice()));
        }
        let Progress::Rows(rows) = &mut portal.progress else {
            self.out.complete("SELECT 0");
            return Ok(Ok(()));
        };
        let rows_max = if rows_max == 0 { usize::MAX } else { rows_max };
        match self.send(rows, &portal.formats, rows_max).await? {
            Ok(true) => {
                self.complete(rows);
                portal.progress = Progress::Done;
            }
            Ok(false) => self.out.portal_suspended(),
            Err(error) => return Ok(Err(error)),
        }
        Ok(Ok(()))
    }

    /// Runs the statement; none when it has been answered.
    async fn first_rows(&mut self, portal: &mut Portal) -> Result<Result<Option<Rows>, PgError>, End> {
        let command = match portal.statement.command() {
            Ok(command) => command,
            Err(error) => return Ok(Err(error)),
        };
        if let Err(error) = self.session.check(command.as_ref()) {
            return Ok(Err(error));
        }
        Ok(match (&portal.statement.what, command) {
            (What::Nothing, _) => {
                self.out.empty_query();
                Ok(None)
            }
            (_, Some(command)) => self.command(command),
            (_, None) => {
                let statement = Arc::clone(&portal.statement);
                let pieces = split(&statement.sql);
                let (text, before) = pieces.first().map_or(("", 0), |piece| (piece.text, piece.before));
                self.query(text, before, mem::take(&mut portal.values)).await?.map(Some)
            }
        })
    }
}

fn describe_columns(out: &mut super::proto::Out, statement: &Statement, formats: &[i16]) {
    match (&statement.what, statement.columns.as_slice()) {
        (What::Query, columns) => out.row_description(columns, formats),
        (_, []) => out.no_data(),
        (_, columns) => out.row_description(columns, formats),
    }
}

fn no_statement(name: &str) -> PgError {
    PgError::error("26000", format!("there is no prepared statement \"{name}\""))
}

fn no_portal(name: &str) -> PgError {
    PgError::error("34000", format!("there is no portal \"{name}\""))
}
