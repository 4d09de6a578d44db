//! The jobs' rows, typed by their sink, so that whoever follows the log needn't know arrow.
//!
//! Start at [`JobOutput`]. The decoding here also holds a row to its event: a row that names another event or tenant,
//! or has NULL where its job's header allows none, is an error at that event's offset.

use crate::compile::Rows;
use crate::job::{Job, Sink};
use datafusion::arrow::array::{Array, Int64Array, StringArray};
use datafusion::common::cast::{as_int64_array, as_string_array};
use ingest::id::{ConversationId, EventId, InvalidId, PersonId, TenantId};
use ingest::log::Record;
use ingest::payload::{MailKind, Trigger};
use ingest::time::Timestamp;
use serde::Deserialize;
use serde::de::value::{Error as WordError, StrDeserializer};
use std::str::FromStr;
use std::sync::Arc;

/// One batch's rows, in the order of their events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutput {
    /// Rows of a job whose sink is [`Sink::Assignments`].
    Assignments(Vec<AssignmentTrigger>),
    /// Rows of a job whose sink is [`Sink::Mails`].
    Mails(Vec<MailRow>),
    /// Rows of a job whose sink is [`Sink::Usage`].
    Usage(Vec<UsageRow>),
}

/// Something happened that may let a waiting conversation of the tenant be assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignmentTrigger {
    /// The event it follows from.
    pub source_event: EventId,
    /// Whose queue to look at.
    pub tenant: TenantId,
    /// What happened.
    pub trigger: Trigger,
}

/// Someone is to be mailed, unless that has been done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailRow {
    /// The event it follows from.
    pub source_event: EventId,
    /// Whose conversation it is.
    pub tenant: TenantId,
    /// What the mail says.
    pub kind: MailKind,
    /// What it is about.
    pub conversation: ConversationId,
    /// The recipient; none for the tenant's offline agents.
    pub person: Option<PersonId>,
    /// Two words and a number: of the visitor for a welcome, of the conversation for a notice.
    pub readable_id: String,
}

/// What a usage row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsageMetric {
    /// Conversations that began.
    Conversations,
    /// Public messages by visitors.
    MessagesVisitor,
    /// Public messages by people of the tenant.
    MessagesAgent,
    /// Public messages by automations.
    MessagesBot,
    /// Resolves by a person.
    Resolved,
}

impl UsageMetric {
    /// Every metric, in the order of the definitions.
    pub const ALL: [Self; 5] =
        [Self::Conversations, Self::MessagesVisitor, Self::MessagesAgent, Self::MessagesBot, Self::Resolved];

    /// The name in the metrics store and the reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Conversations => "conversations",
            Self::MessagesVisitor => "messages_visitor",
            Self::MessagesAgent => "messages_agent",
            Self::MessagesBot => "messages_bot",
            Self::Resolved => "resolved",
        }
    }
}

/// A partial of a metric: sums over rows are the metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// The event it follows from.
    pub source_event: EventId,
    /// Whose usage it is.
    pub tenant: TenantId,
    /// The start of the minute in which it happened, UTC.
    pub minute: Timestamp,
    /// What is counted.
    pub metric: UsageMetric,
    /// How many.
    pub value: i64,
}

impl JobOutput {
    /// No rows, of the kind that `sink` takes.
    #[must_use]
    pub fn empty(sink: Sink) -> Self {
        match sink {
            Sink::Assignments => Self::Assignments(Vec::new()),
            Sink::Mails => Self::Mails(Vec::new()),
            Sink::Usage => Self::Usage(Vec::new()),
        }
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Assignments(rows) => rows.len(),
            Self::Mails(rows) => rows.len(),
            Self::Usage(rows) => rows.len(),
        }
    }

    /// True when nothing follows from the batch.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds the rows that follow from `records`; `rows.places` points into it.
    pub(crate) fn extend(&mut self, job: &Job, rows: &Rows, records: &[&Arc<Record>]) -> Result<(), RowError> {
        match self {
            Self::Assignments(out) => {
                let trigger = text(rows, "trigger")?;
                each_row(job, rows, records, out, |row| {
                    Ok(AssignmentTrigger {
                        source_event: row.record.event.id,
                        tenant: row.record.event.tenant,
                        trigger: row.word(trigger)?,
                    })
                })
            }
            Self::Mails(out) => {
                let (kind, conversation) = (text(rows, "kind")?, text(rows, "conversation_id")?);
                let (person, readable_id) = (text(rows, "person_id")?, text(rows, "readable_id")?);
                each_row(job, rows, records, out, |row| {
                    Ok(MailRow {
                        source_event: row.record.event.id,
                        tenant: row.record.event.tenant,
                        kind: row.word(kind)?,
                        conversation: row.id(conversation)?,
                        person: person.is_valid(row.index).then(|| row.id(person)).transpose()?,
                        readable_id: readable_id.value(row.index).to_owned(),
                    })
                })
            }
            Self::Usage(out) => {
                let (metric, minute, value) =
                    (text(rows, "metric")?, bigint(rows, "minute_ms")?, bigint(rows, "value")?);
                each_row(job, rows, records, out, |row| {
                    let name = metric.value(row.index);
                    let metric = UsageMetric::ALL.into_iter().find(|known| known.as_str() == name);
                    Ok(UsageRow {
                        source_event: row.record.event.id,
                        tenant: row.record.event.tenant,
                        minute: Timestamp(minute.value(row.index)),
                        metric: metric.ok_or_else(|| row.wrong(format!("'{name}' is no metric")))?,
                        value: value.value(row.index),
                    })
                })
            }
        }
    }
}

/// Rows that aren't what they should be.
#[derive(Debug)]
pub(crate) enum RowError {
    /// The job lacks a column, or has it in another type than its sink needs.
    Column(&'static str),
    /// A row of the event at this place of the batch.
    Row {
        /// Index of the event.
        place: usize,
        /// What is wrong with its row.
        reason: String,
    },
}

/// A row and the event it follows from.
struct Row<'a> {
    index: usize,
    place: usize,
    record: &'a Record,
}

impl Row<'_> {
    fn wrong(&self, reason: String) -> RowError {
        RowError::Row { place: self.place, reason }
    }

    /// A word of the vocabulary, by its spelling in the log.
    fn word<'de, T: Deserialize<'de>>(&self, column: &'de StringArray) -> Result<T, RowError> {
        let word = column.value(self.index);
        T::deserialize(StrDeserializer::<WordError>::new(word)).map_err(|error| self.wrong(error.to_string()))
    }

    fn id<T: FromStr<Err = InvalidId>>(&self, column: &StringArray) -> Result<T, RowError> {
        column.value(self.index).parse().map_err(|error: InvalidId| self.wrong(error.to_string()))
    }
}

/// Decodes each row after holding it to the job's header and to its event.
fn each_row<T>(
    job: &Job,
    rows: &Rows,
    records: &[&Arc<Record>],
    out: &mut Vec<T>,
    decode: impl Fn(&Row) -> Result<T, RowError>,
) -> Result<(), RowError> {
    let (source_event, tenant) = (text(rows, "source_event")?, text(rows, "tenant")?);
    out.reserve(rows.batch.num_rows());
    for (index, &place) in rows.places.values().iter().enumerate() {
        let place = place as usize;
        let row = Row { index, place, record: records[place] };
        for (column, array) in job.columns.iter().zip(rows.batch.columns()) {
            if column.null.is_none() && array.is_null(index) {
                return Err(row.wrong(format!("{} is NULL", column.name)));
            }
        }
        // What follows from an event carries that event's id and tenant, whatever the SQL makes of them.
        let event = &row.record.event;
        if row.id::<EventId>(source_event)? != event.id || row.id::<TenantId>(tenant)? != event.tenant {
            return Err(row.wrong("its row names another event or tenant".to_owned()));
        }
        out.push(decode(&row)?);
    }
    Ok(())
}

fn text<'a>(rows: &'a Rows, name: &'static str) -> Result<&'a StringArray, RowError> {
    let column = rows.batch.column_by_name(name).ok_or(RowError::Column(name))?;
    as_string_array(column).map_err(|_| RowError::Column(name))
}

fn bigint<'a>(rows: &'a Rows, name: &'static str) -> Result<&'a Int64Array, RowError> {
    let column = rows.batch.column_by_name(name).ok_or(RowError::Column(name))?;
    as_int64_array(column).map_err(|_| RowError::Column(name))
}
