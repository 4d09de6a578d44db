//! State as SQLite rows, in the database of the log.
//!
//! Each entity is a row: its key, the columns that queries go by, and the entity itself as JSON in `body`, with every
//! personal text sealed. [`load`] brings rows into a [`State`](crate::core::State) for the writer, [`save`] writes what
//! changed, [`read`], [`inbox`], [`search`] and [`visitor_access`] answer the API from the read-only pool, [`outbox`] says
//! which mails are due, [`hash`] sums all of it up. [`names`] is by what a name is found. What is kept of persons beside the log, so that erasing can take it
//! away, is in [`persons`], what was used of quotas in [`usage`].

pub mod hash;
pub mod inbox;
pub mod load;
pub mod names;
pub mod outbox;
pub mod persons;
pub mod read;
pub mod save;
pub mod search;
pub mod usage;
pub mod visitor_access;

use rusqlite::Connection;

/// Every table of the state; `rebuild` empties and refills them. `requests` is pruned by age and so not hashed.
/// `threads`, `timers`, `conversation_tags` and `visitor_access` are indexes over conversations, and hashed as part of them,
/// `mails_due` one over mails; `audit` is one over the log, whose hash chain covers it.
pub const TABLES: [&str; 24] = [
    "tenants",
    "agents",
    "roles",
    "groups",
    "tags",
    "canned_responses",
    "sessions",
    "challenges",
    "invitations",
    "chatbots",
    "tokens",
    "data_sources",
    "pipes",
    "visitors",
    "conversations",
    "threads",
    "timers",
    "conversation_tags",
    "visitor_access",
    "files",
    "mails",
    "mails_due",
    "requests",
    "audit",
];

/// Makes the tables that aren't there. Columns that must be unique among the living (addresses, names) are `NULL` for the
/// deleted, and their indexes aren't unique: the writer decides, and a replay may write a batch in another order.
///
/// # Errors
/// SQLite's.
pub fn create_tables(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS tenants (id BLOB PRIMARY KEY, slug TEXT NOT NULL UNIQUE, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE TABLE IF NOT EXISTS agents (id BLOB PRIMARY KEY, tenant BLOB NOT NULL, email_hmac TEXT, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS agents_tenant ON agents (tenant);
         CREATE INDEX IF NOT EXISTS agents_email ON agents (email_hmac, tenant) WHERE email_hmac IS NOT NULL;
         CREATE TABLE IF NOT EXISTS roles (id BLOB PRIMARY KEY, tenant BLOB NOT NULL, name TEXT, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS roles_tenant ON roles (tenant, name);
         CREATE INDEX IF NOT EXISTS roles_listed ON roles (tenant, id);
         CREATE TABLE IF NOT EXISTS groups (
             id BLOB PRIMARY KEY, tenant BLOB NOT NULL, is_default INTEGER NOT NULL, deleted INTEGER NOT NULL, body TEXT NOT NULL
         ) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS groups_tenant ON groups (tenant);
         CREATE TABLE IF NOT EXISTS tags (id BLOB PRIMARY KEY, tenant BLOB NOT NULL, name_key TEXT NOT NULL, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS tags_name ON tags (tenant, name_key);
         CREATE INDEX IF NOT EXISTS tags_listed ON tags (tenant, id);
         CREATE TABLE IF NOT EXISTS canned_responses (id BLOB PRIMARY KEY, tenant BLOB NOT NULL, name_key TEXT NOT NULL, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS canned_responses_name ON canned_responses (tenant, name_key);
         CREATE INDEX IF NOT EXISTS canned_responses_listed ON canned_responses (tenant, id);
         CREATE TABLE IF NOT EXISTS sessions (id BLOB PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE TABLE IF NOT EXISTS challenges (id BLOB PRIMARY KEY, agent BLOB NOT NULL, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS challenges_agent ON challenges (agent, id);
         CREATE TABLE IF NOT EXISTS invitations (id BLOB PRIMARY KEY, tenant BLOB NOT NULL, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE TABLE IF NOT EXISTS audit (
             tenant BLOB NOT NULL, at INTEGER NOT NULL, event BLOB NOT NULL, body TEXT NOT NULL, PRIMARY KEY (tenant, at, event)
         ) WITHOUT ROWID, STRICT;
         CREATE TABLE IF NOT EXISTS chatbots (id BLOB PRIMARY KEY, tenant BLOB NOT NULL, api_key TEXT NOT NULL UNIQUE, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS chatbots_tenant ON chatbots (tenant);
         CREATE TABLE IF NOT EXISTS tokens (id BLOB PRIMARY KEY, tenant BLOB NOT NULL, sha256 TEXT NOT NULL UNIQUE, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS tokens_tenant ON tokens (tenant);
         CREATE TABLE IF NOT EXISTS data_sources (id BLOB PRIMARY KEY, tenant BLOB NOT NULL, name TEXT, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS data_sources_name ON data_sources (tenant, name) WHERE name IS NOT NULL;
         CREATE TABLE IF NOT EXISTS pipes (id BLOB PRIMARY KEY, tenant BLOB NOT NULL, name TEXT, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS pipes_name ON pipes (tenant, name) WHERE name IS NOT NULL;
         CREATE TABLE IF NOT EXISTS visitors (
             id BLOB PRIMARY KEY, tenant BLOB NOT NULL, readable_id TEXT NOT NULL, merged_into BLOB, erased INTEGER NOT NULL,
             created_at INTEGER NOT NULL, body TEXT NOT NULL
         ) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS visitors_created ON visitors (tenant, created_at, id) WHERE merged_into IS NULL AND NOT erased;
         CREATE INDEX IF NOT EXISTS visitors_erased ON visitors (id) WHERE erased;
         CREATE INDEX IF NOT EXISTS visitors_readable ON visitors (tenant, readable_id);
         CREATE INDEX IF NOT EXISTS visitors_merged ON visitors (merged_into) WHERE merged_into IS NOT NULL;
         CREATE TABLE IF NOT EXISTS conversations (
             id BLOB PRIMARY KEY, tenant BLOB NOT NULL, visitor BLOB NOT NULL, status TEXT NOT NULL, agent BLOB,
             queue_rank INTEGER, group_id BLOB, updated_at INTEGER NOT NULL, created_at INTEGER NOT NULL, body TEXT NOT NULL
         ) STRICT;
         CREATE INDEX IF NOT EXISTS conversations_status ON conversations (tenant, status, updated_at, id);
         CREATE INDEX IF NOT EXISTS conversations_status_created ON conversations (tenant, status, created_at, id);
         CREATE INDEX IF NOT EXISTS conversations_assignee ON conversations (tenant, agent, status, updated_at, id, group_id);
         CREATE INDEX IF NOT EXISTS conversations_assignee_created ON conversations (tenant, agent, status, created_at, id, group_id);
         CREATE INDEX IF NOT EXISTS conversations_group ON conversations (tenant, group_id, status, updated_at, id);
         CREATE INDEX IF NOT EXISTS conversations_group_created ON conversations (tenant, group_id, status, created_at, id);
         CREATE TABLE IF NOT EXISTS conversation_tags (
             id BLOB NOT NULL, tag TEXT NOT NULL, tenant BLOB NOT NULL, status TEXT NOT NULL, agent BLOB, group_id BLOB,
             updated_at INTEGER NOT NULL, created_at INTEGER NOT NULL, PRIMARY KEY (id, tag)
         ) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS conversation_tags_updated ON conversation_tags (tenant, tag, status, updated_at, id, agent, group_id);
         CREATE INDEX IF NOT EXISTS conversation_tags_created ON conversation_tags (tenant, tag, status, created_at, id, agent, group_id);
         CREATE TABLE IF NOT EXISTS timers (
             id BLOB NOT NULL, kind TEXT NOT NULL, tenant BLOB NOT NULL, due_at INTEGER NOT NULL, PRIMARY KEY (id, kind)
         ) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS timers_due ON timers (due_at);
         CREATE TABLE IF NOT EXISTS files (id BLOB PRIMARY KEY, tenant BLOB NOT NULL, visitor BLOB NOT NULL, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS files_visitor ON files (visitor);
         CREATE INDEX IF NOT EXISTS conversations_visitor ON conversations (visitor, updated_at, id, tenant, status, agent, group_id, created_at);
         CREATE INDEX IF NOT EXISTS conversations_visitor_group ON conversations (visitor, group_id, id);
         CREATE INDEX IF NOT EXISTS conversations_visitor_agent ON conversations (visitor, agent, id);
         CREATE INDEX IF NOT EXISTS conversations_queue ON conversations (tenant, group_id, queue_rank) WHERE queue_rank IS NOT NULL;
         CREATE INDEX IF NOT EXISTS conversations_open ON conversations (tenant, visitor) WHERE status = 'active' OR queue_rank IS NOT NULL;
         CREATE INDEX IF NOT EXISTS conversations_agent ON conversations (agent) WHERE status = 'active';
         CREATE TABLE IF NOT EXISTS threads (id BLOB PRIMARY KEY, conversation BLOB NOT NULL) WITHOUT ROWID, STRICT;
         CREATE TABLE IF NOT EXISTS mails (id BLOB PRIMARY KEY, tenant BLOB NOT NULL, person BLOB NOT NULL, status TEXT NOT NULL, body TEXT NOT NULL) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS mails_person ON mails (person);
         CREATE INDEX IF NOT EXISTS mails_pending ON mails (status) WHERE status = 'pending';
         CREATE TABLE IF NOT EXISTS requests (
             sender TEXT NOT NULL, key TEXT NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (sender, key)
         ) WITHOUT ROWID, STRICT;
         CREATE INDEX IF NOT EXISTS requests_at ON requests (at);",
    )?;
    outbox::create_table(connection)?;
    usage::create_table(connection)?;
    visitor_access::create_tables(connection)?;
    persons::create_tables(connection)?;
    names::create_table(connection)
}

/// Empties every table of the state; part of `rebuild`.
///
/// # Errors
/// SQLite's.
pub fn clear_tables(connection: &Connection) -> rusqlite::Result<()> {
    TABLES.iter().try_for_each(|table| connection.execute(&format!("DELETE FROM {table}"), []).map(drop))
}
