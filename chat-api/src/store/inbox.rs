//! Lists of conversations for agents: filtered, in order, a page at a time, each read off an index.
//!
//! A list is one or more streams, each in the list's order along one index, merged. What the index doesn't select is
//! checked row by row. An agent who may not see all has a stream for each own group, one for what is in no group, and
//! one for what is their own.

use super::load::parse;
use crate::core::state::{Conversation, Status};
use ingest::id::{AgentId, ConversationId, GroupId, TenantId};
use rusqlite::{Connection, ToSql};
use std::cmp::Reverse;

/// Which conversations the one who asks may see.
#[derive(Debug, Clone)]
pub enum Visible {
    /// All of the tenant.
    All,
    /// Those of these groups, of no group, and own ones.
    Own {
        /// Whose.
        agent: AgentId,
        /// The agent's groups.
        groups: Vec<GroupId>,
    },
}

/// What is asked for; all of it has to fit.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The tenant of the one who asks.
    pub tenant: TenantId,
    /// See [`Visible`].
    pub visible: Visible,
    /// Where it stands.
    pub status: Option<Status>,
    /// Who has it; `Some(None)` is nobody.
    pub assignee: Option<Option<AgentId>>,
    /// The department.
    pub group: Option<GroupId>,
    /// A tag.
    pub tag: Option<String>,
}

/// In which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// Newest change first.
    #[default]
    UpdatedDown,
    /// Oldest change first.
    UpdatedUp,
    /// Newest first.
    CreatedDown,
    /// Oldest first.
    CreatedUp,
}

impl Sort {
    /// A conversation's time that this order goes by.
    #[must_use]
    pub fn key(self, chat: &Conversation) -> i64 {
        match self {
            Self::UpdatedDown | Self::UpdatedUp => chat.updated_at.0,
            Self::CreatedDown | Self::CreatedUp => chat.created_at.0,
        }
    }

    fn down(self) -> bool {
        matches!(self, Self::UpdatedDown | Self::CreatedDown)
    }
}

/// Along which index a stream goes.
#[derive(Clone, Copy)]
enum Along<'a> {
    Status(Status),
    Assignee(Option<AgentId>),
    Group(Option<GroupId>),
    Tag(&'a str),
    Created,
}

// ?1 tenant, ?2 ?3 where to go on, ?4 limit, ?5 what the index selects; then what is checked row by row.
macro_rules! checks {
    () => {
        " AND (?6 IS NULL OR c.status = ?6)
          AND (?7 = 0 OR c.agent IS ?8)
          AND (?9 IS NULL OR c.group_id = ?9)
          AND (?10 IS NULL OR EXISTS (SELECT 1 FROM conversation_tags AS t WHERE t.tenant = c.tenant AND t.tag = ?10
                                      AND t.updated_at = c.updated_at AND t.id = c.id))
          AND (?11 OR c.group_id IS NULL OR c.agent = ?12 OR hex(c.group_id) IN (SELECT value FROM json_each(?13)))"
    };
}

macro_rules! stream {
    ($index:literal, $selects:literal, $time:literal) => {
        (
            concat!(
                "SELECT c.body FROM conversations AS c INDEXED BY ",
                $index,
                " WHERE c.tenant = ?1 AND ",
                $selects,
                " AND (c.",
                $time,
                ", c.id) < (?2, ?3)",
                checks!(),
                " ORDER BY c.",
                $time,
                " DESC, c.id DESC LIMIT ?4"
            ),
            concat!(
                "SELECT c.body FROM conversations AS c INDEXED BY ",
                $index,
                " WHERE c.tenant = ?1 AND ",
                $selects,
                " AND (c.",
                $time,
                ", c.id) > (?2, ?3)",
                checks!(),
                " ORDER BY c.",
                $time,
                ", c.id LIMIT ?4"
            ),
        )
    };
}

macro_rules! tag_stream {
    ($than:literal, $order:literal) => {
        concat!(
            "SELECT c.body FROM conversation_tags AS g CROSS JOIN conversations AS c ON c.id = g.id
             WHERE g.tenant = ?1 AND g.tag = ?5 AND (g.updated_at, g.id) ",
            $than,
            " (?2, ?3)",
            checks!(),
            " ORDER BY g.updated_at ",
            $order,
            ", g.id ",
            $order,
            " LIMIT ?4"
        )
    };
}

impl Along<'_> {
    fn sql(self, down: bool) -> &'static str {
        let (falling, rising) = match self {
            Self::Status(_) => stream!("conversations_status", "c.status = ?5", "updated_at"),
            Self::Assignee(_) => stream!("conversations_assignee", "c.agent IS ?5", "updated_at"),
            Self::Group(_) => stream!("conversations_group", "c.group_id IS ?5", "updated_at"),
            Self::Created => stream!("conversations_created", "?5 IS NULL", "created_at"),
            Self::Tag(_) => (tag_stream!("<", "DESC"), tag_stream!(">", "ASC")),
        };
        if down { falling } else { rising }
    }

    fn key(self) -> Option<Box<dyn ToSql>> {
        match self {
            Self::Status(status) => Some(Box::new(status.as_str())),
            Self::Assignee(agent) => agent.map(|agent| Box::new(*agent.bytes()) as Box<dyn ToSql>),
            Self::Group(group) => group.map(|group| Box::new(*group.bytes()) as Box<dyn ToSql>),
            Self::Tag(tag) => Some(Box::new(tag.to_owned())),
            Self::Created => None,
        }
    }
}

/// A page, from `after` (exclusive: the last one's time and id) on.
///
/// # Errors
/// SQLite's.
pub fn page(
    connection: &Connection,
    filter: &Filter,
    sort: Sort,
    after: Option<(i64, ConversationId)>,
    limit: usize,
) -> rusqlite::Result<Vec<Conversation>> {
    let mut found: Vec<Conversation> = Vec::new();
    for along in streams(filter, sort) {
        found.extend(read(connection, filter, along, sort, after, limit)?);
    }
    if sort.down() {
        found.sort_by_key(|chat| Reverse((sort.key(chat), chat.id)));
    } else {
        found.sort_by_key(|chat| (sort.key(chat), chat.id));
    }
    // One's own conversation can be in an own group too.
    found.dedup_by_key(|chat| chat.id);
    found.truncate(limit);
    Ok(found)
}

/// The index that selects most; without one, all that may be seen.
fn streams(filter: &Filter, sort: Sort) -> Vec<Along<'_>> {
    const STATUSES: [Status; 4] = [Status::Pending, Status::Active, Status::Resolved, Status::Closed];
    if matches!(sort, Sort::CreatedDown | Sort::CreatedUp) {
        return vec![Along::Created];
    }
    if let Some(tag) = &filter.tag {
        return vec![Along::Tag(tag)];
    }
    if let Some(assignee) = filter.assignee {
        return vec![Along::Assignee(assignee)];
    }
    if let Some(group) = filter.group {
        return vec![Along::Group(Some(group))];
    }
    match (&filter.visible, filter.status) {
        (Visible::All, Some(status)) => vec![Along::Status(status)],
        (Visible::All, None) => STATUSES.map(Along::Status).to_vec(),
        (Visible::Own { agent, groups }, _) => {
            let own = groups.iter().map(|group| Along::Group(Some(*group)));
            own.chain([Along::Group(None), Along::Assignee(Some(*agent))]).collect()
        }
    }
}

fn read(
    connection: &Connection,
    filter: &Filter,
    along: Along<'_>,
    sort: Sort,
    after: Option<(i64, ConversationId)>,
    limit: usize,
) -> rusqlite::Result<Vec<Conversation>> {
    let end = if sort.down() { (i64::MAX, [0xff; 16]) } else { (i64::MIN, [0; 16]) };
    let (at, id) = after.map_or(end, |(at, id)| (at, *id.bytes()));
    let checked = Checked::new(filter);
    let mut statement = connection.prepare_cached(along.sql(sort.down()))?;
    let (tenant, limit, key) = (*filter.tenant.bytes(), limit.cast_signed(), along.key());
    let mut params: Vec<&dyn ToSql> = vec![&tenant, &at, &id, &limit, &key];
    checked.add_to(&mut params);
    let rows = statement.query_map(params.as_slice(), |row| parse(&row.get::<_, String>(0)?))?;
    rows.collect()
}

/// The values of what is checked row by row.
struct Checked<'a> {
    status: Option<&'static str>,
    by_assignee: bool,
    assignee: Option<[u8; 16]>,
    group: Option<[u8; 16]>,
    tag: Option<&'a str>,
    all: bool,
    own: Option<[u8; 16]>,
    groups: String,
}

impl<'a> Checked<'a> {
    fn new(filter: &'a Filter) -> Self {
        let (own, groups) = match &filter.visible {
            Visible::All => (None, Vec::new()),
            Visible::Own { agent, groups } => (Some(*agent.bytes()), groups.clone()),
        };
        let groups: Vec<String> = groups.iter().map(|group| hex::encode_upper(group.bytes())).collect();
        Self {
            status: filter.status.map(Status::as_str),
            by_assignee: filter.assignee.is_some(),
            assignee: filter.assignee.flatten().map(|agent| *agent.bytes()),
            group: filter.group.map(|group| *group.bytes()),
            tag: filter.tag.as_deref(),
            all: own.is_none(),
            own,
            groups: serde_json::Value::from(groups).to_string(),
        }
    }

    fn add_to<'s>(&'s self, params: &mut Vec<&'s dyn ToSql>) {
        let values: [&'s dyn ToSql; 8] = [
            &self.status,
            &self.by_assignee,
            &self.assignee,
            &self.group,
            &self.tag,
            &self.all,
            &self.own,
            &self.groups,
        ];
        params.extend(values);
    }
}
