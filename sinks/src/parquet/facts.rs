//! The fact tables: their names, their Arrow schemas, their rows, and rows to record batches.
//!
//! Pure. The schemas are a contract with the reports' SQL: a column is added, never renamed or retyped.

use super::life::{self, ActivityRow, AssignmentRow, EventRow, NotificationRow, PresenceRow, ThreadRow};
use arrow::array::{
    ArrayRef, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use ingest::event::{Actor, Origin};
use ingest::id::{AgentId, ChatbotId, ConversationId, EventId, GroupId, TenantId, ThreadId, VisitorId};
use ingest::log::Offset;
use ingest::payload::AuthorType;
use ingest::time::Timestamp;
use std::sync::{Arc, LazyLock};

/// A fact table. Each tenant has its own of every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Public messages, one row each.
    Messages,
    /// Versions of conversations; the newest of each `conversation_id` wins.
    Conversations,
    /// Resolves by a person, one row each.
    Resolutions,
    /// Ratings, one row each.
    Ratings,
    /// Usage counts: partial rows of (minute, metric) that add up.
    UsageMinute,
    /// Events of conversations, one row each.
    Events,
    /// Versions of threads; the newest of each `thread_id` wins.
    Threads,
    /// Decisions who gets a conversation, one row each.
    Assignments,
    /// Stretches of time in which an agent had a conversation in a slot, one row each once they are over.
    Activity,
    /// What happened to e-mails: a row when one is requested, and one for each outcome.
    Notifications,
    /// Changes of agents' status, one row each.
    Presence,
}

impl Table {
    /// Every table.
    pub const ALL: [Self; 11] = [
        Self::Messages,
        Self::Conversations,
        Self::Resolutions,
        Self::Ratings,
        Self::UsageMinute,
        Self::Events,
        Self::Threads,
        Self::Assignments,
        Self::Activity,
        Self::Notifications,
        Self::Presence,
    ];

    /// The name in SQL, in paths and in the manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Conversations => "conversations",
            Self::Resolutions => "resolutions",
            Self::Ratings => "ratings",
            Self::UsageMinute => "usage_minute",
            Self::Events => "events",
            Self::Threads => "threads",
            Self::Assignments => "assignments",
            Self::Activity => "activity",
            Self::Notifications => "notifications",
            Self::Presence => "presence",
        }
    }

    /// Reads [`as_str`](Self::as_str); `None` for any other name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.as_str() == name)
    }

    /// The Arrow schema, in memory and in files alike.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; Table::ALL.len()]> =
            LazyLock::new(|| Table::ALL.map(|table| Arc::new(schema(table))));
        Arc::clone(&SCHEMAS[self as usize])
    }

    /// The column by which files are sorted: the one that a report's period filters.
    #[must_use]
    pub fn time_column(self) -> &'static str {
        match self {
            Self::Messages
            | Self::Resolutions
            | Self::Ratings
            | Self::Events
            | Self::Assignments
            | Self::Notifications
            | Self::Presence => "occurred_at",
            Self::Conversations | Self::Threads => "started_at",
            Self::Activity => "ended_at",
            Self::UsageMinute => "minute",
        }
    }

    /// How rows that are versions hang together; `None` where they aren't. The newest, by the column `version`, wins.
    #[must_use]
    pub fn versions(self) -> Option<Versions> {
        match self {
            Self::Conversations => Some(Versions {
                key: "conversation_id",
                fixed: &["conversation_id", "started_at"],
                rising: &["updated_at"],
            }),
            Self::Threads => {
                Some(Versions { key: "thread_id", fixed: &["thread_id", "conversation_id", "started_at"], rising: &[] })
            }
            _ => None,
        }
    }
}

/// Of a table whose rows are versions.
#[derive(Debug, Clone, Copy)]
pub struct Versions {
    /// The column that names what they are versions of.
    pub key: &'static str,
    /// The columns that all versions of it have alike, `key` among them.
    pub fixed: &'static [&'static str],
    /// The columns that no version has less of than an older one.
    pub rising: &'static [&'static str],
}

pub(crate) fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn schema(table: Table) -> Schema {
    let text = |name: &str| Field::new(name, DataType::Utf8, false);
    let text_or_null = |name: &str| Field::new(name, DataType::Utf8, true);
    let int = |name: &str| Field::new(name, DataType::Int64, false);
    let time = |name: &str| Field::new(name, time_type(), false);
    let seconds_or_null = |name: &str| Field::new(name, DataType::Float64, true);
    let envelope = || {
        vec![
            text("event_id"),
            text("conversation_id"),
            text("thread_id"),
            int("seq"),
            time("occurred_at"),
            time("recorded_at"),
            text("origin"),
        ]
    };
    let with = |mut fields: Vec<Field>, more: Vec<Field>| {
        fields.extend(more);
        Schema::new(fields)
    };
    match table {
        Table::Messages => with(
            envelope(),
            vec![
                text("author_type"),
                text("author_id"),
                text_or_null("group_id"),
                int("content_chars"),
                seconds_or_null("reply_seconds"),
                seconds_or_null("first_response_seconds"),
                seconds_or_null("reply_seconds_v2"),
            ],
        ),
        Table::Resolutions => with(
            envelope(),
            vec![
                text_or_null("agent_id"),
                text("resolved_by"),
                text_or_null("group_id"),
                Field::new("resolution_seconds", DataType::Float64, false),
                seconds_or_null("handle_seconds"),
                Field::new("assigned_at", time_type(), true),
            ],
        ),
        Table::Ratings => with(
            envelope(),
            vec![
                text_or_null("agent_id"),
                text_or_null("group_id"),
                int("score"),
                text_or_null("thread_id_v2"),
                text_or_null("agent_id_v2"),
                text_or_null("group_id_v2"),
            ],
        ),
        Table::Conversations => Schema::new(vec![
            text("conversation_id"),
            int("version"),
            text("status"),
            text("visitor_id"),
            text_or_null("chatbot_id"),
            text_or_null("group_id"),
            text_or_null("agent_id"),
            Field::new("tags", DataType::new_list(DataType::Utf8, true), false),
            time("started_at"),
            time("updated_at"),
            text("origin"),
            seconds_or_null("first_response_seconds"),
            Field::new("resolved_at", time_type(), true),
            int("resolutions"),
            int("messages_visitor"),
            int("messages_agent"),
            int("messages_bot"),
            Field::new("rating", DataType::Int64, true),
            text_or_null("resolved_by"),
            text_or_null("resolve_reason"),
            Field::new("active_since", time_type(), true),
            Field::new("assignments", DataType::Int64, true),
            Field::new("sessions", DataType::Int64, true),
            seconds_or_null("session_seconds"),
            text_or_null("resolved_as"),
        ]),
        Table::UsageMinute => Schema::new(vec![time("minute"), text("metric"), int("value")]),
        Table::Events => life::events_schema(),
        Table::Threads => life::threads_schema(),
        Table::Assignments => life::assignments_schema(),
        Table::Activity => life::activity_schema(),
        Table::Notifications => life::notifications_schema(),
        Table::Presence => life::presence_schema(),
    }
}

/// A row that one event makes.
#[derive(Debug, Clone, PartialEq)]
pub enum FactRow {
    /// Of `message_posted`.
    Message(MessageRow),
    /// Of `conversation_resolved` by a person.
    Resolution(ResolutionRow),
    /// Of `conversation_rated`.
    Rating(RatingRow),
    /// Of every event of a conversation.
    Event(EventRow),
    /// Of an event that begins, ends or assigns a thread.
    Thread(ThreadRow),
    /// Of `agent_assigned`.
    Assignment(AssignmentRow),
    /// Of an event that frees an agent's slot.
    Activity(ActivityRow),
    /// Of what is requested of the outbox and what it tells.
    Notification(NotificationRow),
    /// Of an agent's change of status.
    Presence(PresenceRow),
}

/// A row of `messages`.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of the table, under their names")]
pub struct MessageRow {
    pub event_id: EventId,
    pub conversation_id: ConversationId,
    pub thread_id: ThreadId,
    pub seq: u64,
    pub occurred_at: Timestamp,
    pub recorded_at: Timestamp,
    pub origin: Origin,
    pub author_type: AuthorType,
    /// `author_id`: the id of a visitor or agent, else `system` or `operator`.
    pub author: Actor,
    pub group_id: Option<GroupId>,
    pub content_chars: u32,
    /// Of an agent's message that ends a wait.
    pub reply_seconds: Option<f64>,
    /// Of the message that is the conversation's first response.
    pub first_response_seconds: Option<f64>,
    /// By definition 2: a wait doesn't outlast a resolve or a close.
    pub reply_seconds_v2: Option<f64>,
}

/// A row of `resolutions`.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of the table, under their names")]
pub struct ResolutionRow {
    pub event_id: EventId,
    pub conversation_id: ConversationId,
    pub thread_id: ThreadId,
    pub seq: u64,
    pub occurred_at: Timestamp,
    pub recorded_at: Timestamp,
    pub origin: Origin,
    /// Who had it, and gets the credit.
    pub agent_id: Option<AgentId>,
    /// Who resolved it.
    pub resolved_by: AgentId,
    pub group_id: Option<GroupId>,
    pub resolution_seconds: f64,
    /// Of a conversation that an agent was assigned to.
    pub handle_seconds: Option<f64>,
    /// When who has it got it.
    pub assigned_at: Option<Timestamp>,
}

/// A row of `ratings`.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of the table, under their names")]
pub struct RatingRow {
    pub event_id: EventId,
    pub conversation_id: ConversationId,
    pub thread_id: ThreadId,
    pub seq: u64,
    pub occurred_at: Timestamp,
    pub recorded_at: Timestamp,
    pub origin: Origin,
    pub agent_id: Option<AgentId>,
    pub group_id: Option<GroupId>,
    pub score: u8,
    /// By definition 2: the thread that ended last, else the one under way; of its ratings the newest counts.
    pub thread_id_v2: ThreadId,
    /// Who had that thread when it ended.
    pub agent_id_v2: Option<AgentId>,
    /// Where.
    pub group_id_v2: Option<GroupId>,
}

/// Where a conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConversationStatus {
    /// Nobody has it.
    Pending,
    /// An agent has it.
    Active,
    /// Done, until the visitor writes again.
    Resolved,
    /// Read-only.
    Closed,
}

impl ConversationStatus {
    /// The word in the table.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Resolved => "resolved",
            Self::Closed => "closed",
        }
    }
}

/// A row of `conversations`: the conversation as of one `seq`.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the columns of the table, under their names")]
pub struct ConversationRow {
    pub conversation_id: ConversationId,
    /// `seq` of the last event counted.
    pub version: u64,
    pub status: ConversationStatus,
    pub visitor_id: VisitorId,
    pub chatbot_id: Option<ChatbotId>,
    pub group_id: Option<GroupId>,
    /// Who has it; once resolved or closed, who had it.
    pub agent_id: Option<AgentId>,
    pub tags: Vec<String>,
    pub started_at: Timestamp,
    pub updated_at: Timestamp,
    pub origin: Origin,
    pub first_response_seconds: Option<f64>,
    /// The last resolve, by whomever; `None` while it is open again.
    pub resolved_at: Option<Timestamp>,
    /// Resolves by a person.
    pub resolutions: u32,
    pub messages_visitor: u32,
    pub messages_agent: u32,
    pub messages_bot: u32,
    /// The last rating.
    pub rating: Option<u8>,
    /// Who did the last resolve: `agent`, `visitor`, `system` or `operator`; `None` while it is open again.
    pub resolved_by: Option<&'static str>,
    /// Why, if not because it was done: `standby_expired`.
    pub resolve_reason: Option<String>,
    /// Since when it takes a slot of `agent_id`, if it does.
    pub active_since: Option<Timestamp>,
    /// How often it was given to an agent.
    pub assignments: u32,
    /// Sessions of the visitor in it.
    pub sessions: u32,
    /// Of all of them together.
    pub session_seconds: Option<f64>,
    /// Of the last resolve, unless the visitor's standby had expired: `confirmed` or `assumed`; `None` while it is open
    /// again.
    pub resolved_as: Option<&'static str>,
}

/// A row of the usage job, with the offset of the event it comes from; the store dedupes by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsagePartial {
    /// Place of the source event in the log.
    pub offset: Offset,
    /// Whose usage.
    pub tenant: TenantId,
    /// The minute's start.
    pub minute: Timestamp,
    /// What is counted, for example `messages_visitor`.
    pub metric: String,
    /// How much.
    pub value: i64,
}

/// A row of `usage_minute`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsageRow {
    pub(crate) minute: Timestamp,
    pub(crate) metric: String,
    pub(crate) value: i64,
}

/// A column of ids in their hyphenated form; `Uuid` of each, without a `String` in between.
macro_rules! ids {
    ($rows:expr, $field:ident) => {{
        let mut builder = StringBuilder::with_capacity($rows.len(), $rows.len() * 36);
        for row in $rows {
            builder.append_value(row.$field.0.hyphenated().encode_lower(&mut [0_u8; 36]));
        }
        Arc::new(builder.finish()) as ArrayRef
    }};
}

macro_rules! ids_or_null {
    ($rows:expr, $field:ident) => {{
        let mut builder = StringBuilder::with_capacity($rows.len(), 0);
        for row in $rows {
            match row.$field {
                Some(id) => builder.append_value(id.0.hyphenated().encode_lower(&mut [0_u8; 36])),
                None => builder.append_null(),
            }
        }
        Arc::new(builder.finish()) as ArrayRef
    }};
}

fn texts<'a, R: 'a>(rows: &'a [R], text: impl Fn(&'a R) -> &'a str) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(rows.iter().map(text)))
}

fn ints<R>(rows: &[R], int: impl Fn(&R) -> i64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(rows.iter().map(int)))
}

fn times<R>(rows: &[R], time: impl Fn(&R) -> Timestamp) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(rows.iter().map(|row| time(row).0)).with_timezone("UTC"))
}

fn floats<R>(rows: &[R], float: impl Fn(&R) -> Option<f64>) -> ArrayRef {
    Arc::new(Float64Array::from_iter(rows.iter().map(float)))
}

/// `seq` as the signed integer that SQL has.
fn signed(seq: u64) -> i64 {
    seq.cast_signed()
}

macro_rules! envelope {
    ($rows:expr) => {
        vec![
            ids!($rows, event_id),
            ids!($rows, conversation_id),
            ids!($rows, thread_id),
            ints($rows, |row| signed(row.seq)),
            times($rows, |row| row.occurred_at),
            times($rows, |row| row.recorded_at),
            texts($rows, |row| row.origin.as_str()),
        ]
    };
}

pub(crate) fn batch(table: Table, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(table.schema(), columns).expect("the columns are those of the table's schema")
}

fn authors(rows: &[MessageRow]) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(rows.len(), rows.len() * 36);
    for row in rows {
        match row.author {
            Actor::Visitor(id) => builder.append_value(id.0.hyphenated().encode_lower(&mut [0_u8; 36])),
            Actor::Agent(id) => builder.append_value(id.0.hyphenated().encode_lower(&mut [0_u8; 36])),
            Actor::System => builder.append_value("system"),
            Actor::Operator => builder.append_value("operator"),
        }
    }
    Arc::new(builder.finish())
}

pub(crate) fn messages_batch(rows: &[MessageRow]) -> RecordBatch {
    let mut columns = envelope!(rows);
    columns.extend([
        texts(rows, |row| row.author_type.as_str()),
        authors(rows),
        ids_or_null!(rows, group_id),
        ints(rows, |row| i64::from(row.content_chars)),
        floats(rows, |row| row.reply_seconds),
        floats(rows, |row| row.first_response_seconds),
        floats(rows, |row| row.reply_seconds_v2),
    ]);
    batch(Table::Messages, columns)
}

pub(crate) fn resolutions_batch(rows: &[ResolutionRow]) -> RecordBatch {
    let assigned_at = TimestampMillisecondArray::from_iter(rows.iter().map(|row| row.assigned_at.map(|at| at.0)));
    let mut columns = envelope!(rows);
    columns.extend([
        ids_or_null!(rows, agent_id),
        ids!(rows, resolved_by),
        ids_or_null!(rows, group_id),
        floats(rows, |row| Some(row.resolution_seconds)),
        floats(rows, |row| row.handle_seconds),
        Arc::new(assigned_at.with_timezone("UTC")),
    ]);
    batch(Table::Resolutions, columns)
}

pub(crate) fn ratings_batch(rows: &[RatingRow]) -> RecordBatch {
    let mut columns = envelope!(rows);
    columns.extend([
        ids_or_null!(rows, agent_id),
        ids_or_null!(rows, group_id),
        ints(rows, |row| i64::from(row.score)),
        ids!(rows, thread_id_v2),
        ids_or_null!(rows, agent_id_v2),
        ids_or_null!(rows, group_id_v2),
    ]);
    batch(Table::Ratings, columns)
}

pub(crate) fn conversations_batch(rows: &[ConversationRow]) -> RecordBatch {
    let mut tags = ListBuilder::new(StringBuilder::new());
    for row in rows {
        row.tags.iter().for_each(|tag| tags.values().append_value(tag));
        tags.append(true);
    }
    let resolved_at = TimestampMillisecondArray::from_iter(rows.iter().map(|row| row.resolved_at.map(|at| at.0)));
    let active_since = TimestampMillisecondArray::from_iter(rows.iter().map(|row| row.active_since.map(|at| at.0)));
    let columns: Vec<ArrayRef> = vec![
        ids!(rows, conversation_id),
        ints(rows, |row| signed(row.version)),
        texts(rows, |row| row.status.as_str()),
        ids!(rows, visitor_id),
        ids_or_null!(rows, chatbot_id),
        ids_or_null!(rows, group_id),
        ids_or_null!(rows, agent_id),
        Arc::new(tags.finish()),
        times(rows, |row| row.started_at),
        times(rows, |row| row.updated_at),
        texts(rows, |row| row.origin.as_str()),
        floats(rows, |row| row.first_response_seconds),
        Arc::new(resolved_at.with_timezone("UTC")),
        ints(rows, |row| i64::from(row.resolutions)),
        ints(rows, |row| i64::from(row.messages_visitor)),
        ints(rows, |row| i64::from(row.messages_agent)),
        ints(rows, |row| i64::from(row.messages_bot)),
        Arc::new(Int64Array::from_iter(rows.iter().map(|row| row.rating.map(i64::from)))),
        Arc::new(rows.iter().map(|row| row.resolved_by).collect::<StringArray>()),
        Arc::new(rows.iter().map(|row| row.resolve_reason.as_deref()).collect::<StringArray>()),
        Arc::new(active_since.with_timezone("UTC")),
        ints(rows, |row| i64::from(row.assignments)),
        ints(rows, |row| i64::from(row.sessions)),
        floats(rows, |row| row.session_seconds),
        Arc::new(rows.iter().map(|row| row.resolved_as).collect::<StringArray>()),
    ];
    batch(Table::Conversations, columns)
}

pub(crate) fn usage_batch(rows: &[UsageRow]) -> RecordBatch {
    let columns =
        vec![times(rows, |row| row.minute), texts(rows, |row| row.metric.as_str()), ints(rows, |row| row.value)];
    batch(Table::UsageMinute, columns)
}
