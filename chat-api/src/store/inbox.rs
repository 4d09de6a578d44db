//! Lists of conversations for agents: filtered, in order, a page at a time, each read off an index.
//!
//! A list is one or more streams, each in the list's order along one index, merged; only the bodies of the page itself are
//! read. What a stream's index doesn't select, a filter or what the one who asks may see, is checked in the same index. An
//! agent who may not see all has a stream for each own group, one for what is in no group, and one for what is their own.
//! A search ([`Search`]) is the same over what the query finds.

use super::load::parse;
use super::read::TimeKey;
use super::search::{self, Search};
use crate::core::state::{Conversation, Status};
use crate::core::visibility::Visible;
use ingest::id::{AgentId, ConversationId, GroupId, TenantId};
use ingest::sqlite::page::{PageFill, RowPage};
use rusqlite::{Connection, OptionalExtension as _, ToSql};
use std::cmp::Reverse;
use uuid::Uuid;

/// What is asked for; all of it has to fit.
#[derive(Debug, Clone)]
pub struct Filter {
    /// The tenant of the one who asks.
    pub tenant: TenantId,
    /// What the one who asks sees.
    pub visible: Visible,
    /// Where it stands.
    pub status: Option<Status>,
    /// Who has it; `Some(None)` is nobody.
    pub assignee: Option<Option<AgentId>>,
    /// The department.
    pub group: Option<GroupId>,
    /// A tag.
    pub tag: Option<String>,
    /// What is looked for.
    pub search: Option<Search>,
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
    pub(super) fn by_creation(self) -> bool {
        matches!(self, Self::CreatedDown | Self::CreatedUp)
    }

    /// Whether one comes after another.
    pub(super) fn is_later(self, place: Place, after: Place) -> bool {
        if self.down() { place < after } else { place > after }
    }

    fn down(self) -> bool {
        matches!(self, Self::UpdatedDown | Self::CreatedDown)
    }
}

/// When there are so many times as many places as are wanted, the later ones are forgotten.
const MERGED_AT: usize = 16;

/// Where a conversation stands in a list: its time and its id.
pub(super) type Place = (i64, [u8; 16]);

/// Along which index a stream goes, and what it selects there; all of them select one status too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Along<'a> {
    Tenant,
    Assignee(Option<AgentId>),
    Group(Option<GroupId>),
    Tag(&'a str),
}

// ?1 tenant, ?2 status, ?3 what else the index selects, ?4 ?5 where to go on, ?6 limit; then what is checked.
macro_rules! stream {
    ($from:literal, $selects:literal, $checks:literal, $time:literal, $than:literal, $order:literal) => {
        concat!(
            "SELECT c.",
            $time,
            ", c.id FROM ",
            $from,
            " WHERE c.tenant = ?1 AND c.status = ?2",
            $selects,
            " AND (c.",
            $time,
            ", c.id) ",
            $than,
            " (?4, ?5)",
            $checks,
            " ORDER BY c.",
            $time,
            " ",
            $order,
            ", c.id ",
            $order,
            " LIMIT ?6"
        )
    };
}

macro_rules! streams {
    ($updated:literal, $created:literal, $selects:literal, $checks:literal) => {
        [
            stream!($updated, $selects, $checks, "updated_at", "<", "DESC"),
            stream!($updated, $selects, $checks, "updated_at", ">", "ASC"),
            stream!($created, $selects, $checks, "created_at", "<", "DESC"),
            stream!($created, $selects, $checks, "created_at", ">", "ASC"),
        ]
    };
}

const ALONG_TENANT: [&str; 4] = streams!(
    "conversations AS c INDEXED BY conversations_status",
    "conversations AS c INDEXED BY conversations_status_created",
    "",
    ""
);
const ALONG_GROUP: [&str; 4] = streams!(
    "conversations AS c INDEXED BY conversations_group",
    "conversations AS c INDEXED BY conversations_group_created",
    " AND c.group_id IS ?3",
    ""
);
const ALONG_ASSIGNEE: [&str; 4] = streams!(
    "conversations AS c INDEXED BY conversations_assignee",
    "conversations AS c INDEXED BY conversations_assignee_created",
    " AND c.agent IS ?3",
    " AND (?7 IS NULL OR c.group_id = ?7)
      AND (?8 OR c.group_id IS NULL OR c.agent = ?9 OR hex(c.group_id) IN (SELECT value FROM json_each(?10)))"
);
const ALONG_TAG: [&str; 4] = streams!(
    "conversation_tags AS c INDEXED BY conversation_tags_updated",
    "conversation_tags AS c INDEXED BY conversation_tags_created",
    " AND c.tag = ?3",
    " AND (?7 IS NULL OR c.group_id = ?7)
      AND (?8 OR c.group_id IS NULL OR c.agent = ?9 OR hex(c.group_id) IN (SELECT value FROM json_each(?10)))
      AND (?11 = 0 OR c.agent IS ?12)
      AND (?13 IS NULL OR EXISTS (SELECT 1 FROM conversation_tags AS t WHERE t.id = c.id AND t.tag = ?13))"
);

impl Along<'_> {
    fn sql(self, sort: Sort) -> &'static str {
        let streams = match self {
            Self::Tenant => ALONG_TENANT,
            Self::Assignee(_) => ALONG_ASSIGNEE,
            Self::Group(_) => ALONG_GROUP,
            Self::Tag(_) => ALONG_TAG,
        };
        streams[usize::from(sort.by_creation()) * 2 + usize::from(!sort.down())]
    }

    fn key(self) -> Option<Box<dyn ToSql>> {
        match self {
            Self::Tenant => None,
            Self::Assignee(agent) => agent.map(|agent| Box::new(*agent.bytes()) as Box<dyn ToSql>),
            Self::Group(group) => group.map(|group| Box::new(*group.bytes()) as Box<dyn ToSql>),
            Self::Tag(tag) => Some(Box::new(tag.to_owned())),
        }
    }
}

/// A page, from `after` (exclusive: the last one's time and id) on; its keys are such.
///
/// # Errors
/// SQLite's.
pub fn page(
    connection: &Connection,
    filter: &Filter,
    sort: Sort,
    after: Option<(i64, ConversationId)>,
    limit: usize,
) -> rusqlite::Result<RowPage<TimeKey, Conversation>> {
    if filter.visible == Visible::Nothing {
        return Ok(PageFill::new(limit).done());
    }
    let end = if sort.down() { (i64::MAX, [0xff; 16]) } else { (i64::MIN, [0; 16]) };
    let after = after.map_or(end, |(at, id)| (at, *id.bytes()));
    // With one more than the page has, it knows whether the list goes on.
    let wanted = limit + 1;
    let mut places = match &filter.search {
        Some(search) => search::places(connection, filter, search, sort, after, wanted)?,
        None => merged(connection, filter, &streams(filter), sort, after, wanted)?,
    };
    first(&mut places, sort, wanted);
    let mut page = PageFill::new(limit);
    let mut statement = connection.prepare_cached("SELECT body FROM conversations WHERE id = ?1 AND tenant = ?2")?;
    for (at, id) in places {
        let text = statement.query_row((id, filter.tenant.bytes()), |row| row.get::<_, String>(0)).optional()?;
        let bytes = text.as_ref().map_or(0, String::len);
        let chat = text.as_deref().map(parse).transpose()?;
        if !page.add((at, Uuid::from_bytes(id)), chat, bytes) {
            break;
        }
    }
    Ok(page.done())
}

/// The first so many of the list, in its order, each once: one's own conversation can be in an own group too.
fn first(places: &mut Vec<Place>, sort: Sort, count: usize) {
    if sort.down() {
        places.sort_unstable_by_key(|place| Reverse(*place));
    } else {
        places.sort_unstable();
    }
    places.dedup();
    places.truncate(count);
}

/// What each stream has next, in no order.
pub(super) fn merged(
    connection: &Connection,
    filter: &Filter,
    streams: &[Along<'_>],
    sort: Sort,
    after: Place,
    limit: usize,
) -> rusqlite::Result<Vec<Place>> {
    const STATUSES: [Status; 4] = [Status::Pending, Status::Active, Status::Resolved, Status::Closed];
    let mut places = Vec::new();
    for along in streams {
        for status in STATUSES.into_iter().filter(|status| filter.status.is_none_or(|asked| asked == *status)) {
            places.extend(read(connection, filter, *along, status, sort, after, limit)?);
        }
        // However many groups somebody is in.
        if places.len() >= MERGED_AT * limit {
            first(&mut places, sort, limit);
        }
    }
    Ok(places)
}

/// The indexes that select most.
fn streams(filter: &Filter) -> Vec<Along<'_>> {
    if let Some(tag) = &filter.tag {
        return vec![Along::Tag(tag)];
    }
    if let Some(assignee) = filter.assignee {
        return vec![Along::Assignee(assignee)];
    }
    match (&filter.visible, filter.group) {
        // Of another group an agent sees only what is their own.
        (Visible::Own { agent, groups }, Some(group)) if !groups.contains(&group) => {
            vec![Along::Assignee(Some(*agent))]
        }
        (_, Some(group)) => vec![Along::Group(Some(group))],
        (Visible::All, None) => vec![Along::Tenant],
        (Visible::Own { agent, groups }, None) => {
            let own = groups.iter().map(|group| Along::Group(Some(*group)));
            own.chain([Along::Group(None), Along::Assignee(Some(*agent))]).collect()
        }
        (Visible::Nothing, None) => Vec::new(),
    }
}

fn read(
    connection: &Connection,
    filter: &Filter,
    along: Along<'_>,
    status: Status,
    sort: Sort,
    (at, id): Place,
    limit: usize,
) -> rusqlite::Result<Vec<Place>> {
    let checked = Checked::new(filter, along);
    let mut statement = connection.prepare_cached(along.sql(sort))?;
    let (tenant, limit, key, status) = (*filter.tenant.bytes(), limit.cast_signed(), along.key(), status.as_str());
    let mut params: Vec<&dyn ToSql> = vec![&tenant, &status, &key, &at, &id, &limit];
    checked.add_to(&mut params);
    // A stream whose index selects all that is asked checks nothing.
    params.truncate(statement.parameter_count());
    let rows = statement.query_map(params.as_slice(), |row| Ok((row.get(0)?, row.get(1)?)))?;
    rows.collect()
}

/// The values of what is checked beside what the index selects.
struct Checked<'a> {
    group: Option<[u8; 16]>,
    all: bool,
    own: Option<[u8; 16]>,
    groups: String,
    by_assignee: bool,
    assignee: Option<[u8; 16]>,
    tag: Option<&'a str>,
}

impl<'a> Checked<'a> {
    fn new(filter: &'a Filter, along: Along<'_>) -> Self {
        let (own, groups): (_, Vec<String>) = match &filter.visible {
            Visible::All | Visible::Nothing => (None, Vec::new()),
            Visible::Own { agent, groups } => {
                (Some(*agent.bytes()), groups.iter().map(|group| hex::encode_upper(group.bytes())).collect())
            }
        };
        Self {
            group: filter.group.map(|group| *group.bytes()),
            all: filter.visible == Visible::All,
            own,
            groups: serde_json::Value::from(groups).to_string(),
            by_assignee: filter.assignee.is_some(),
            assignee: filter.assignee.flatten().map(|agent| *agent.bytes()),
            tag: filter.tag.as_deref().filter(|tag| along != Along::Tag(tag)),
        }
    }

    fn add_to<'s>(&'s self, params: &mut Vec<&'s dyn ToSql>) {
        let values: [&'s dyn ToSql; 7] =
            [&self.group, &self.all, &self.own, &self.groups, &self.by_assignee, &self.assignee, &self.tag];
        params.extend(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No list scans a table, sorts, or reads a row to decide whether it's in the list.
    #[test]
    fn every_stream_is_read_off_an_index_alone() {
        let connection = Connection::open_in_memory().expect("a database");
        crate::store::create_tables(&connection).expect("tables");
        for sql in [ALONG_TENANT, ALONG_ASSIGNEE, ALONG_GROUP, ALONG_TAG].concat() {
            let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
            let nulls = vec![None::<i64>; statement.parameter_count()];
            let rows = statement.query_map(rusqlite::params_from_iter(nulls), |row| row.get::<_, String>(3));
            let plan: Vec<String> = rows.expect("a plan").collect::<rusqlite::Result<_>>().expect("a plan");
            assert!(plan[0].starts_with("SEARCH c USING COVERING INDEX"), "{plan:?}");
            let odd =
                |step: &&String| step.contains("TEMP B-TREE") || (step.contains("SCAN") && !step.contains("json_each"));
            assert_eq!(plan.iter().find(odd), None, "{plan:?}\n{sql}");
        }
    }
}
