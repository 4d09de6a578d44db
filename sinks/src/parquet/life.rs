//! The tables that tell how conversations, mails and agents went: their rows, schemas and record batches.
//!
//! Pure. Each table is one list of columns (`fact!`), from which its struct, its schema and its batches follow.

use super::facts::{Table, batch, time_type};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, StringBuilder,
    TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use ingest::event::{Actor, Origin};
use ingest::id::{AgentId, ConversationId, EventId, GroupId, MailId, PersonId, ThreadId};
use ingest::time::Timestamp;
use std::sync::Arc;

/// The word for who did it.
pub(crate) fn actor_word(actor: Actor) -> &'static str {
    match actor {
        Actor::Visitor(_) => "visitor",
        Actor::Agent(_) => "agent",
        Actor::System => "system",
        Actor::Operator => "operator",
    }
}

/// The data type of a column, and whether it may be null.
macro_rules! kind {
    (id) => {
        (DataType::Utf8, false)
    };
    (id_or_null) => {
        (DataType::Utf8, true)
    };
    (actor_type) => {
        (DataType::Utf8, false)
    };
    (actor_id) => {
        (DataType::Utf8, true)
    };
    (origin) => {
        (DataType::Utf8, false)
    };
    (text) => {
        (DataType::Utf8, false)
    };
    (text_or_null) => {
        (DataType::Utf8, true)
    };
    (int) => {
        (DataType::Int64, false)
    };
    (int_or_null) => {
        (DataType::Int64, true)
    };
    (flag) => {
        (DataType::Boolean, false)
    };
    (time) => {
        (time_type(), false)
    };
    (time_or_null) => {
        (time_type(), true)
    };
    (seconds_or_null) => {
        (DataType::Float64, true)
    };
}

/// The cells of a column, from the field of that name or from another one.
macro_rules! cells {
    (id, $rows:expr, $from:ident) => {
        id_cells($rows.len(), $rows.iter().map(|row| Some(row.$from.0)))
    };
    (id_or_null, $rows:expr, $from:ident) => {
        id_cells($rows.len(), $rows.iter().map(|row| row.$from.map(|id| id.0)))
    };
    (actor_type, $rows:expr, $from:ident) => {
        text_cells($rows.iter().map(|row| Some(actor_word(row.$from))))
    };
    (actor_id, $rows:expr, $from:ident) => {
        id_cells(
            $rows.len(),
            $rows.iter().map(|row| match row.$from {
                Actor::Visitor(id) => Some(id.0),
                Actor::Agent(id) => Some(id.0),
                Actor::System | Actor::Operator => None,
            }),
        )
    };
    (origin, $rows:expr, $from:ident) => {
        text_cells($rows.iter().map(|row| Some(row.$from.as_str())))
    };
    (text, $rows:expr, $from:ident) => {
        text_cells($rows.iter().map(|row| Some(row.$from.as_ref())))
    };
    (text_or_null, $rows:expr, $from:ident) => {
        text_cells($rows.iter().map(|row| row.$from.as_deref()))
    };
    (int, $rows:expr, $from:ident) => {
        Arc::new(Int64Array::from_iter_values($rows.iter().map(|row| row.$from))) as ArrayRef
    };
    (int_or_null, $rows:expr, $from:ident) => {
        Arc::new($rows.iter().map(|row| row.$from).collect::<Int64Array>()) as ArrayRef
    };
    (flag, $rows:expr, $from:ident) => {
        Arc::new($rows.iter().map(|row| Some(row.$from)).collect::<BooleanArray>()) as ArrayRef
    };
    (time, $rows:expr, $from:ident) => {
        time_cells($rows.iter().map(|row| Some(row.$from)))
    };
    (time_or_null, $rows:expr, $from:ident) => {
        time_cells($rows.iter().map(|row| row.$from))
    };
    (seconds_or_null, $rows:expr, $from:ident) => {
        Arc::new($rows.iter().map(|row| row.$from).collect::<Float64Array>()) as ArrayRef
    };
}

fn id_cells(rows: usize, ids: impl Iterator<Item = Option<ingest::id::Uuid>>) -> ArrayRef {
    let mut builder = StringBuilder::with_capacity(rows, rows * 36);
    for id in ids {
        match id {
            Some(id) => builder.append_value(id.hyphenated().encode_lower(&mut [0_u8; 36])),
            None => builder.append_null(),
        }
    }
    Arc::new(builder.finish())
}

fn text_cells<'a>(texts: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(texts.collect::<StringArray>())
}

fn time_cells(times: impl Iterator<Item = Option<Timestamp>>) -> ArrayRef {
    Arc::new(times.map(|at| at.map(|at| at.0)).collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

/// A table: its row, its schema and its batches. A column is `name: type as kind`, or `name: kind of field`.
macro_rules! fact {
    (
        $(#[$doc:meta])*
        $row:ident of $table:ident, $schema:ident, $batch:ident
        fields { $($(#[$about:meta])* $field:ident: $type:ty,)* }
        columns { $($column:ident: $kind:ident of $from:ident,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "the columns of the table, under their names")]
        pub struct $row {
            $($(#[$about])* pub $field: $type,)*
        }

        pub(crate) fn $schema() -> Schema {
            Schema::new(vec![$({
                let (data_type, nullable) = kind!($kind);
                Field::new(stringify!($column), data_type, nullable)
            }),*])
        }

        pub(crate) fn $batch(rows: &[$row]) -> RecordBatch {
            batch(Table::$table, vec![$(cells!($kind, rows, $from)),*])
        }
    };
}

fact! {
    /// A row of `events`: an event of a conversation, and how the conversation stood after it.
    EventRow of Events, events_schema, events_batch
    fields {
        event_id: EventId,
        conversation_id: ConversationId,
        thread_id: ThreadId,
        seq: i64,
        occurred_at: Timestamp,
        recorded_at: Timestamp,
        origin: Origin,
        /// The event's type, for example `message_posted`.
        kind: &'static str,
        actor: Actor,
        status: &'static str,
        agent_id: Option<AgentId>,
        group_id: Option<GroupId>,
    }
    columns {
        event_id: id of event_id,
        conversation_id: id of conversation_id,
        thread_id: id of thread_id,
        seq: int of seq,
        occurred_at: time of occurred_at,
        recorded_at: time of recorded_at,
        origin: origin of origin,
        kind: text of kind,
        actor_type: actor_type of actor,
        actor_id: actor_id of actor,
        status: text of status,
        agent_id: id_or_null of agent_id,
        group_id: id_or_null of group_id,
    }
}

fact! {
    /// A row of `threads`: a thread as of one event.
    ThreadRow of Threads, threads_schema, threads_batch
    fields {
        thread_id: ThreadId,
        /// `seq` of the event.
        version: i64,
        conversation_id: ConversationId,
        /// 1 for the first of its conversation.
        number: i64,
        started_at: Timestamp,
        ended_at: Option<Timestamp>,
        end_reason: Option<String>,
        ended_by: Option<&'static str>,
        origin: Origin,
        agent_id: Option<AgentId>,
        group_id: Option<GroupId>,
        /// How long the conversation had been queued before it was given to this thread's agent.
        waiting_seconds: Option<f64>,
        /// How long the agent had it in this thread, standby and snoozed time left out; once it has ended.
        handle_seconds: Option<f64>,
        /// Once it is resolved, and not reopened: `confirmed` or `assumed`.
        resolved_as: Option<&'static str>,
    }
    columns {
        thread_id: id of thread_id,
        version: int of version,
        conversation_id: id of conversation_id,
        number: int of number,
        started_at: time of started_at,
        ended_at: time_or_null of ended_at,
        end_reason: text_or_null of end_reason,
        ended_by: text_or_null of ended_by,
        origin: origin of origin,
        agent_id: id_or_null of agent_id,
        group_id: id_or_null of group_id,
        waiting_seconds: seconds_or_null of waiting_seconds,
        handle_seconds: seconds_or_null of handle_seconds,
        resolved_as: text_or_null of resolved_as,
    }
}

fact! {
    /// A row of `assignments`: a decision who gets a conversation.
    AssignmentRow of Assignments, assignments_schema, assignments_batch
    fields {
        event_id: EventId,
        conversation_id: ConversationId,
        thread_id: ThreadId,
        seq: i64,
        occurred_at: Timestamp,
        recorded_at: Timestamp,
        origin: Origin,
        actor: Actor,
        agent_id: AgentId,
        /// Who had it, when it was taken over.
        previous_agent_id: Option<AgentId>,
        group_id: Option<GroupId>,
        strategy: String,
        /// What led to the decision.
        trigger: &'static str,
        /// What had put the conversation in the queue; none when it didn't wait.
        queue_trigger: Option<&'static str>,
        waiting_seconds: Option<f64>,
        /// Why this agent, in the words of the strategy.
        reason: Option<String>,
        /// Agents that were looked at, as far as they are recorded; none for a person's decision.
        candidates: Option<i64>,
        /// Those who could have got it.
        eligible: Option<i64>,
        /// Chats that the agent had.
        agent_load: Option<i64>,
        agent_capacity: Option<i64>,
    }
    columns {
        event_id: id of event_id,
        conversation_id: id of conversation_id,
        thread_id: id of thread_id,
        seq: int of seq,
        occurred_at: time of occurred_at,
        recorded_at: time of recorded_at,
        origin: origin of origin,
        actor_type: actor_type of actor,
        actor_id: actor_id of actor,
        agent_id: id of agent_id,
        previous_agent_id: id_or_null of previous_agent_id,
        group_id: id_or_null of group_id,
        strategy: text of strategy,
        trigger: text of trigger,
        queue_trigger: text_or_null of queue_trigger,
        waiting_seconds: seconds_or_null of waiting_seconds,
        reason: text_or_null of reason,
        candidates: int_or_null of candidates,
        eligible: int_or_null of eligible,
        agent_load: int_or_null of agent_load,
        agent_capacity: int_or_null of agent_capacity,
    }
}

fact! {
    /// A row of `activity`: a conversation took a slot of an agent, from one event to another.
    ActivityRow of Activity, activity_schema, activity_batch
    fields {
        /// The event that ended it.
        event_id: EventId,
        conversation_id: ConversationId,
        agent_id: AgentId,
        started_at: Timestamp,
        ended_at: Timestamp,
        /// It was put aside in that time.
        snoozed: bool,
    }
    columns {
        event_id: id of event_id,
        conversation_id: id of conversation_id,
        agent_id: id of agent_id,
        started_at: time of started_at,
        ended_at: time of ended_at,
        snoozed: flag of snoozed,
    }
}

fact! {
    /// A row of `notifications`: something happened to an e-mail.
    NotificationRow of Notifications, notifications_schema, notifications_batch
    fields {
        event_id: EventId,
        notification_id: MailId,
        occurred_at: Timestamp,
        recorded_at: Timestamp,
        /// `requested`, or an outcome.
        outcome: &'static str,
        /// Why, of an outcome that isn't the hoped-for one.
        reason: Option<String>,
        /// Tries to send it.
        attempts: Option<i64>,
        /// What the mail says; on the request.
        kind: Option<&'static str>,
        /// The recipient; on the request.
        person_id: Option<PersonId>,
        /// What it is about; on the request.
        conversation_id: Option<ConversationId>,
    }
    columns {
        event_id: id of event_id,
        notification_id: id of notification_id,
        occurred_at: time of occurred_at,
        recorded_at: time of recorded_at,
        outcome: text of outcome,
        reason: text_or_null of reason,
        attempts: int_or_null of attempts,
        kind: text_or_null of kind,
        person_id: id_or_null of person_id,
        conversation_id: id_or_null of conversation_id,
    }
}

fact! {
    /// A row of `presence`: an agent's status from here on.
    PresenceRow of Presence, presence_schema, presence_batch
    fields {
        event_id: EventId,
        agent_id: AgentId,
        occurred_at: Timestamp,
        recorded_at: Timestamp,
        status: &'static str,
        accepting_chats: bool,
    }
    columns {
        event_id: id of event_id,
        agent_id: id of agent_id,
        occurred_at: time of occurred_at,
        recorded_at: time of recorded_at,
        status: text of status,
        accepting_chats: flag of accepting_chats,
    }
}
