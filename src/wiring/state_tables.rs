//! The tables that SQL sees of the state as of now: agents, groups, visitors, the queue, the tenant's targets.
//!
//! No personal text: ids, times, flags, and what the tenant itself called its groups.

use anyhow::Context as _;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use chat_api::core::state::{Agent, Conversation, Group, TenantSettings, Visitor};
use chat_api::store::read;
use ingest::id::{AgentId, ConversationId, GroupId, TenantId, VisitorId};
use ingest::payload::{SlaTargets, Weekday};
use ingest::time::Timestamp;
use rusqlite::Connection;
use sql::Opening;
use std::sync::Arc;

/// A table of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateTable {
    /// The tenant's people; removed ones too.
    Agents,
    /// Departments; deleted ones too.
    Groups,
    /// Who writes through a widget.
    Visitors,
    /// Waiting conversations, the next one first.
    Queue,
    /// What the tenant promises: a row a target that is set.
    SlaTargets,
}

/// A column: its name, its type, whether it may be null.
type Column = (&'static str, DataType, bool);

fn text(name: &'static str) -> Column {
    (name, DataType::Utf8, false)
}

fn text_or_null(name: &'static str) -> Column {
    (name, DataType::Utf8, true)
}

fn int(name: &'static str) -> Column {
    (name, DataType::Int64, false)
}

fn flag(name: &'static str) -> Column {
    (name, DataType::Boolean, false)
}

fn time(name: &'static str) -> Column {
    (name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false)
}

fn time_or_null(name: &'static str) -> Column {
    (name, DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true)
}

impl StateTable {
    /// Every table.
    pub const ALL: [Self; 5] = [Self::Agents, Self::Groups, Self::Visitors, Self::Queue, Self::SlaTargets];

    /// The name in SQL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Groups => "groups",
            Self::Visitors => "visitors",
            Self::Queue => "queue",
            Self::SlaTargets => "sla_targets",
        }
    }

    /// Reads [`as_str`](Self::as_str); `None` for any other name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|table| table.as_str() == name)
    }

    /// Its columns.
    #[must_use]
    pub fn schema(self) -> SchemaRef {
        let columns = match self {
            Self::Agents => vec![
                text("agent_id"),
                text("role"),
                text("status"),
                flag("accepting_chats"),
                int("max_concurrent_chats"),
                int("active_chats"),
                time("created_at"),
                time_or_null("deleted_at"),
            ],
            Self::Groups => vec![
                text("group_id"),
                text("name"),
                text("routing_strategy"),
                flag("is_default"),
                int("members"),
                time("created_at"),
                time("updated_at"),
                time_or_null("deleted_at"),
            ],
            Self::Visitors => vec![
                text("visitor_id"),
                text("readable_id"),
                flag("identified"),
                flag("has_email"),
                text_or_null("last_agent_id"),
                text_or_null("merged_into"),
                time("created_at"),
                time_or_null("blocked_at"),
                time_or_null("erased_at"),
            ],
            Self::Queue => {
                vec![text("conversation_id"), int("position"), time("waiting_since"), text_or_null("group_id")]
            }
            Self::SlaTargets => vec![text("target"), int("target_seconds"), flag("business_hours")],
        };
        let field = |(name, data_type, nullable)| Field::new(name, data_type, nullable);
        Arc::new(Schema::new(columns.into_iter().map(field).collect::<Vec<_>>()))
    }

    /// Its rows: those of `tenant` and nobody else's.
    ///
    /// # Errors
    /// The outer one is the database's; the inner one a row that doesn't fit its column.
    pub fn read(self, connection: &Connection, tenant: TenantId) -> rusqlite::Result<Result<RecordBatch, ArrowError>> {
        let columns = match self {
            Self::Agents => agents(&read::agents(connection, tenant, AgentRow::from)?),
            Self::Groups => groups(&read::groups(connection, tenant, GroupRow::from)?),
            Self::Visitors => visitors(&read::all_visitors(connection, tenant, VisitorRow::from)?),
            Self::Queue => queue(&read::queue(connection, tenant, QueueRow::from)?),
            Self::SlaTargets => {
                let tenant = read::tenant(connection, tenant)?;
                targets(tenant.map_or_else(SlaTargets::default, |tenant| tenant.settings.sla_targets))
            }
        };
        Ok(RecordBatch::try_new(self.schema(), columns))
    }
}

fn texts<T>(rows: &[T], cell: impl Fn(&T) -> Option<String>) -> ArrayRef {
    Arc::new(rows.iter().map(cell).collect::<StringArray>())
}

fn ints<T>(rows: &[T], cell: impl Fn(&T) -> i64) -> ArrayRef {
    Arc::new(rows.iter().map(|row| Some(cell(row))).collect::<Int64Array>())
}

fn flags<T>(rows: &[T], cell: impl Fn(&T) -> bool) -> ArrayRef {
    Arc::new(rows.iter().map(|row| Some(cell(row))).collect::<BooleanArray>())
}

fn times<T>(rows: &[T], cell: impl Fn(&T) -> Option<Timestamp>) -> ArrayRef {
    let times = rows.iter().map(|row| cell(row).map(|at| at.0));
    Arc::new(times.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

// Of each entity the columns only: what else is in it, notes and texts and members, is never held for all of them.

struct AgentRow {
    id: AgentId,
    role: &'static str,
    status: &'static str,
    accepting_chats: bool,
    max_concurrent_chats: i64,
    active_chats: i64,
    created_at: Timestamp,
    deleted_at: Option<Timestamp>,
}

impl From<Agent> for AgentRow {
    fn from(agent: Agent) -> Self {
        Self {
            id: agent.id,
            role: agent.role.as_str(),
            status: agent.status.as_str(),
            accepting_chats: agent.accepting_chats,
            max_concurrent_chats: i64::from(agent.max_concurrent_chats),
            active_chats: i64::from(agent.active_chats),
            created_at: agent.created_at,
            deleted_at: agent.deleted_at,
        }
    }
}

fn agents(rows: &[AgentRow]) -> Vec<ArrayRef> {
    vec![
        texts(rows, |agent| Some(agent.id.to_string())),
        texts(rows, |agent| Some(agent.role.to_owned())),
        texts(rows, |agent| Some(agent.status.to_owned())),
        flags(rows, |agent| agent.accepting_chats),
        ints(rows, |agent| agent.max_concurrent_chats),
        ints(rows, |agent| agent.active_chats),
        times(rows, |agent| Some(agent.created_at)),
        times(rows, |agent| agent.deleted_at),
    ]
}

struct GroupRow {
    id: GroupId,
    name: String,
    strategy: &'static str,
    is_default: bool,
    members: i64,
    created_at: Timestamp,
    updated_at: Timestamp,
    deleted_at: Option<Timestamp>,
}

impl From<Group> for GroupRow {
    fn from(group: Group) -> Self {
        Self {
            id: group.id,
            name: group.name,
            strategy: group.strategy.as_str(),
            is_default: group.is_default,
            members: group.members.len().cast_signed() as i64,
            created_at: group.created_at,
            updated_at: group.updated_at,
            deleted_at: group.deleted_at,
        }
    }
}

fn groups(rows: &[GroupRow]) -> Vec<ArrayRef> {
    vec![
        texts(rows, |group| Some(group.id.to_string())),
        texts(rows, |group| Some(group.name.clone())),
        texts(rows, |group| Some(group.strategy.to_owned())),
        flags(rows, |group| group.is_default),
        ints(rows, |group| group.members),
        times(rows, |group| Some(group.created_at)),
        times(rows, |group| Some(group.updated_at)),
        times(rows, |group| group.deleted_at),
    ]
}

struct VisitorRow {
    id: VisitorId,
    readable_id: String,
    identified: bool,
    has_email: bool,
    last_agent: Option<AgentId>,
    merged_into: Option<VisitorId>,
    created_at: Timestamp,
    blocked_at: Option<Timestamp>,
    erased_at: Option<Timestamp>,
}

impl From<Visitor> for VisitorRow {
    fn from(visitor: Visitor) -> Self {
        Self {
            id: visitor.id,
            identified: visitor.is_identified(),
            has_email: visitor.email.is_some(),
            readable_id: visitor.readable_id,
            last_agent: visitor.last_agent,
            merged_into: visitor.merged_into,
            created_at: visitor.created_at,
            blocked_at: visitor.blocked_at,
            erased_at: visitor.erased_at,
        }
    }
}

fn visitors(rows: &[VisitorRow]) -> Vec<ArrayRef> {
    vec![
        texts(rows, |visitor| Some(visitor.id.to_string())),
        texts(rows, |visitor| Some(visitor.readable_id.clone())),
        flags(rows, |visitor| visitor.identified),
        flags(rows, |visitor| visitor.has_email),
        texts(rows, |visitor| visitor.last_agent.map(|agent| agent.to_string())),
        texts(rows, |visitor| visitor.merged_into.map(|other| other.to_string())),
        times(rows, |visitor| Some(visitor.created_at)),
        times(rows, |visitor| visitor.blocked_at),
        times(rows, |visitor| visitor.erased_at),
    ]
}

struct QueueRow {
    id: ConversationId,
    since: Option<Timestamp>,
    group: Option<GroupId>,
}

impl From<Conversation> for QueueRow {
    fn from(chat: Conversation) -> Self {
        Self { id: chat.id, since: chat.queued.map(|queued| queued.since), group: chat.group }
    }
}

fn queue(rows: &[QueueRow]) -> Vec<ArrayRef> {
    vec![
        texts(rows, |chat| Some(chat.id.to_string())),
        Arc::new((1..).take(rows.len()).collect::<Int64Array>()),
        times(rows, |chat| chat.since),
        texts(rows, |chat| chat.group.map(|group| group.to_string())),
    ]
}

fn targets(targets: SlaTargets) -> Vec<ArrayRef> {
    let set = [
        ("first_response", targets.first_response_seconds),
        ("next_response", targets.next_response_seconds),
        ("resolution", targets.resolution_seconds),
    ];
    let rows: Vec<(&str, u32)> = set.into_iter().filter_map(|(name, seconds)| Some((name, seconds?))).collect();
    vec![
        texts(&rows, |(name, _)| Some((*name).to_owned())),
        ints(&rows, |(_, seconds)| i64::from(*seconds)),
        flags(&rows, |_| targets.business_hours),
    ]
}

/// When the tenant answers, as reports count it.
///
/// # Errors
/// Names a stretch or a day that can't be read; both were checked when they were set.
pub fn opening(settings: &TenantSettings) -> anyhow::Result<Opening> {
    let mut opening = Opening::default();
    for stretch in &settings.opening_hours {
        let day = match stretch.day {
            Weekday::Monday => 0,
            Weekday::Tuesday => 1,
            Weekday::Wednesday => 2,
            Weekday::Thursday => 3,
            Weekday::Friday => 4,
            Weekday::Saturday => 5,
            Weekday::Sunday => 6,
        };
        let read = |text: &str| minutes(text).with_context(|| format!("'{text}' is no time of a day"));
        opening.add(day, read(&stretch.from)?, read(&stretch.to)?);
    }
    for holiday in &settings.holidays {
        anyhow::ensure!(opening.close(&holiday.date), "'{}' is no date", holiday.date);
    }
    Ok(opening)
}

/// Minutes since midnight of `HH:MM`.
fn minutes(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    Some(hours.parse::<u32>().ok()? * 60 + minutes.parse::<u32>().ok()?)
}
