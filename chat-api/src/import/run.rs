//! One import on its thread: lines are pulled, checked and sent to the writer, so many bytes of them at once.

use super::cleaning::{CleanedFields, Cleaner};
use super::lines::{Lines, PullError, Pulled, Unpacking};
use super::parse::{Bad, LINE_BYTES_MAX, without_mark};
use super::quarantine::{self, Quarantine};
use super::{ImportError, ImportReport, Importer, Owner, Prepared, Quarantined, history};
use crate::core::command::CommandKind;
use crate::domain::{ChatDomain, Submission};
use crate::limits::{Buffer, NoRoom, Place};
use ingest::id::{ConversationId, EventId, PersonId};
use ingest::sqlite::PersonKeys;
use ingest::writer::{WriteError, Writer};
use std::collections::VecDeque;
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Transcripts under way at once; they share fsyncs.
const IN_FLIGHT: usize = 128;
/// Bytes of transcripts under way at once, as they weigh: the writer has them all in one batch.
const IN_FLIGHT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a message weighs beside its words: ids, times and the seal of its event.
const MESSAGE_BYTES: usize = 1_024;
/// How long an import waits for room among the rows under way before it gives up.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(10);
/// Between two looks for room.
const ROOM_LOOK: Duration = Duration::from_millis(20);

/// A transcript that was sent to the writer.
struct UnderWay {
    outcome: JoinHandle<Result<Result<bool, Quarantined>, ImportError>>,
    conversation: ConversationId,
    bytes: usize,
    line: u64,
    cleaner: Cleaner,
}

/// One import, on its thread.
pub(super) struct Run {
    importer: Importer,
    owner: Owner,
    place: Place,
    runtime: Handle,
    id: EventId,
    /// The last line that was read.
    number: u64,
    under_way: VecDeque<UnderWay>,
    under_way_bytes: usize,
    imported: u64,
    skipped: u64,
    quarantine: Quarantine,
    cleaned: CleanedFields,
}

impl Run {
    pub(super) fn new(importer: Importer, owner: Owner, place: Place, runtime: Handle) -> Self {
        Self {
            importer,
            owner,
            place,
            runtime,
            id: EventId::fresh(),
            number: 0,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            imported: 0,
            skipped: 0,
            quarantine: Quarantine::default(),
            cleaned: CleanedFields::default(),
        }
    }

    pub(super) fn import(
        &mut self,
        source: impl Read,
        unpacking: Unpacking,
        mut progress: impl FnMut(u64),
    ) -> Result<(), ImportError> {
        let read = |line, source| ImportError::Read { line, source };
        let mut lines = Lines::new(source, unpacking).map_err(|error| read(0, error))?;
        let mut line = Buffer::new(LINE_BYTES_MAX);
        loop {
            let pulled = match lines.pull(&mut line, &mut self.place) {
                Ok(pulled) => pulled,
                Err(PullError::Io(error)) => return Err(read(self.number, error)),
                Err(PullError::Full(full)) => {
                    self.make_room(full, Instant::now())?;
                    continue;
                }
            };
            if pulled == Pulled::End {
                return Ok(());
            }
            self.number += 1;
            let text = without_mark(line.bytes());
            if pulled == Pulled::TooLong {
                let bad = Bad::line("line_too_long", format!("the line has more than {LINE_BYTES_MAX} bytes"));
                self.bad(bad.at(self.number))?;
            } else if !text.iter().all(u8::is_ascii_whitespace) {
                self.take(text)?;
            }
            line.reset(&mut self.place);
            progress(self.number);
        }
    }

    /// Checks a line, and sends it on its way.
    fn take(&mut self, line: &[u8]) -> Result<(), ImportError> {
        // Read, and sealed.
        let mut bytes = 2 * line.len();
        let read = history::check::weight(line);
        self.hold(bytes + read)?;
        let (mut prepared, mut cleaner) = self.runtime.block_on(self.importer.prepare(self.owner, line))?;
        if matches!(prepared, Prepared::Wait) {
            while !self.under_way.is_empty() {
                self.settle_oldest()?;
            }
            (prepared, cleaner) = self.runtime.block_on(self.importer.prepare(self.owner, line))?;
        }
        self.place.give_back(read);
        let (submission, conversation) = match prepared {
            Prepared::Ready(submission, conversation) => (submission, conversation),
            Prepared::Bad(bad) => {
                self.place.give_back(bytes);
                return self.bad(bad.at(self.number));
            }
            // After waiting nothing is under way any more.
            Prepared::Skip | Prepared::Wait => {
                self.place.give_back(bytes);
                self.skipped += 1;
                return Ok(());
            }
        };
        let room = self.importer.room.transcripts(submission.command.tenant, bytes as u64);
        room.map_err(|none| ImportError::NoSpace { line: self.number - 1, none })?;
        let events = match &submission.command.kind {
            CommandKind::Import(import) => import.messages.len(),
            CommandKind::ImportHistory(import) => import.events.len(),
            _ => 0,
        };
        let beside = cleaner.bytes() + events * MESSAGE_BYTES;
        self.hold(beside)?;
        bytes += beside;
        while self.under_way.len() >= IN_FLIGHT
            || !self.under_way.is_empty() && self.under_way_bytes + bytes > IN_FLIGHT_BYTES_MAX
        {
            self.settle_oldest()?;
        }
        let (writer, keys) = (self.importer.writer.clone(), Arc::clone(&self.importer.keys));
        let outcome = self.runtime.spawn(submit(writer, keys, *submission, self.number));
        self.importer.under_way.insert(conversation);
        self.under_way.push_back(UnderWay { outcome, conversation, bytes, line: self.number, cleaner });
        self.under_way_bytes += bytes;
        Ok(())
    }

    /// Holds bytes more, as soon as there is room.
    fn hold(&mut self, bytes: usize) -> Result<(), ImportError> {
        let asked = Instant::now();
        while let Err(full) = self.place.hold(bytes) {
            self.make_room(full, asked)?;
        }
        Ok(())
    }

    /// Ends what is under way, or waits for others to end what they have; they are asked since `asked`.
    fn make_room(&mut self, full: NoRoom, asked: Instant) -> Result<(), ImportError> {
        if !self.under_way.is_empty() {
            return self.settle_oldest();
        }
        if full == NoRoom::Request || asked.elapsed() > ROOM_WAIT_MAX {
            return Err(ImportError::Full { line: self.number });
        }
        std::thread::sleep(ROOM_LOOK);
        Ok(())
    }

    fn settle_oldest(&mut self) -> Result<(), ImportError> {
        let Some(sent) = self.under_way.pop_front() else { return Ok(()) };
        let UnderWay { outcome, conversation, bytes, line, cleaner } = sent;
        let outcome = self.runtime.block_on(outcome);
        self.importer.under_way.remove(&conversation);
        self.importer.makes_groups &= !self.under_way.is_empty();
        self.under_way_bytes -= bytes;
        self.place.give_back(bytes);
        match outcome.map_err(|error| ImportError::Thread(std::io::Error::other(error)))?? {
            Ok(true) => {
                self.imported += 1;
                self.cleaned.add(line, cleaner);
            }
            Ok(false) => self.skipped += 1,
            Err(bad) => self.bad(bad)?,
        }
        Ok(())
    }

    fn bad(&mut self, bad: Quarantined) -> Result<(), ImportError> {
        match self.quarantine.add(bad) {
            Some(part) => self.store(part),
            None => Ok(()),
        }
    }

    fn store(&self, part: Vec<Quarantined>) -> Result<(), ImportError> {
        if part.is_empty() {
            return Ok(());
        }
        let id = self.id;
        let store = move |connection: &rusqlite::Connection| quarantine::store(connection, id, &part);
        Ok(self.runtime.block_on(self.importer.writer.transact(store))?)
    }

    /// Waits for what is under way, and says what it all came to.
    pub(super) fn finish(mut self) -> Result<ImportReport, ImportError> {
        while !self.under_way.is_empty() {
            self.settle_oldest()?;
        }
        let part = self.quarantine.part();
        self.store(part)?;
        let (quarantined, quarantined_total) = self.quarantine.finish();
        let (cleaned, cleaned_total) = self.cleaned.finish();
        let (imported, skipped) = (self.imported, self.skipped);
        Ok(ImportReport { imported, skipped, quarantined, quarantined_total, cleaned, cleaned_total })
    }
}

async fn submit(
    writer: Writer<ChatDomain>,
    keys: Arc<PersonKeys>,
    submission: Submission,
    line: u64,
) -> Result<Result<bool, Quarantined>, ImportError> {
    let persons: Vec<PersonId> = submission.keys.iter().map(|key| key.person).collect();
    let outcome = writer.submit(submission).await;
    let written = matches!(&outcome, Ok(Ok(answer)) if !answer.events.is_empty());
    persons.into_iter().for_each(|person| keys.confirm(person, written));
    match outcome {
        Ok(Ok(_)) => Ok(Ok(written)),
        Ok(Err(refused)) => {
            Ok(Err(Quarantined { line, field: None, code: refused.code.into(), detail: refused.detail }))
        }
        Err(WriteError::TooLarge(reason)) => {
            Ok(Err(Quarantined { line, field: None, code: "too_large".into(), detail: reason.to_string() }))
        }
        Err(error) => Err(error.into()),
    }
}
