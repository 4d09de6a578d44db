//! Brings rows into the state in memory: what a command names before `decide`, what an event touches before `apply`.
//!
//! What is in memory already wins over its row: it may hold changes that aren't written yet.

use super::visitor_access;
use crate::core::reads::{Reads, email_word, role_word};
use crate::core::state::{Key, Owned, Roster, State, Status, name_key};
use crate::core::visibility::Visible;
use ingest::event::{Event, RequestKey};
use ingest::id::{
    AgentId, CannedResponseId, ChallengeId, ConversationId, DataSourceId, GroupId, InvitationId, PipeId, TagId,
    TenantId, VisitorId,
};
use ingest::payload::{Payload, Resource};
use rusqlite::{Connection, OptionalExtension as _, Params};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::collections::hash_map::Entry;
use uuid::Uuid;

/// Newest challenges of an agent that a command looks at.
const CHALLENGES_READ: i64 = 50;

/// Reads the JSON of one row.
///
/// # Errors
/// SQLite's; a body that isn't the entity's JSON is a conversion failure that names the column.
pub fn body<T: DeserializeOwned>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> rusqlite::Result<Option<T>> {
    connection.prepare_cached(sql)?.query_row(params, |row| parse(&row.get::<_, String>(0)?)).optional()
}

fn text(connection: &Connection, sql: &str, id: &[u8; 16]) -> rusqlite::Result<Option<String>> {
    connection.prepare_cached(sql)?.query_row([id], |row| row.get(0)).optional()
}

/// Reads an entity's JSON.
///
/// # Errors
/// As a conversion failure of column 0.
pub fn parse<T: DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error)))
}

macro_rules! loaders {
    ($($load:ident: $map:ident from $table:literal by $id:ty;)*) => {$(
        fn $load(connection: &Connection, state: &mut State, id: $id) -> rusqlite::Result<()> {
            if let Entry::Vacant(place) = state.$map.entry(id)
                && let Some(text) =
                    text(connection, concat!("SELECT body FROM ", $table, " WHERE id = ?1"), id.bytes())?
            {
                place.insert(parse(&text)?);
                state.bytes += text.len();
            }
            Ok(())
        }
    )*};
}

loaders! {
    load_tenant: tenants from "tenants" by TenantId;
    load_agent: agents from "agents" by AgentId;
    load_role: roles from "roles" by ingest::id::RoleId;
    load_group: groups from "groups" by GroupId;
    load_tag: tags from "tags" by TagId;
    load_canned_response: canned_responses from "canned_responses" by CannedResponseId;
    load_session: sessions from "sessions" by ingest::id::SessionId;
    load_challenge: challenges from "challenges" by ChallengeId;
    load_invitation: invitations from "invitations" by InvitationId;
    load_chatbot: chatbots from "chatbots" by ingest::id::ChatbotId;
    load_token: tokens from "tokens" by ingest::id::TokenId;
    load_data_source: data_sources from "data_sources" by ingest::id::DataSourceId;
    load_pipe: pipes from "pipes" by ingest::id::PipeId;
    load_visitor: visitors from "visitors" by VisitorId;
    load_conversation: conversations from "conversations" by ConversationId;
    load_file: files from "files" by ingest::id::FileId;
    load_mail: mails from "mails" by ingest::id::MailId;
}

/// Loads what a command of `tenant` reads.
///
/// # Errors
/// SQLite's.
pub fn load(
    connection: &Connection,
    state: &mut State,
    tenant: TenantId,
    request: Option<&RequestKey>,
    reads: &Reads,
) -> rusqlite::Result<()> {
    load_tenant(connection, state, tenant)?;
    if let Some(request) = request {
        load_request(connection, state, request)?;
    }
    if reads.roster || reads.queue_heads {
        load_roster(connection, state, tenant)?;
    }
    reads.agents.iter().try_for_each(|id| load_agent_with_role(connection, state, *id))?;
    reads.roles.iter().try_for_each(|id| load_role_with_word(connection, state, *id))?;
    reads.groups.iter().try_for_each(|id| load_group(connection, state, *id))?;
    reads.sessions.iter().try_for_each(|id| load_session_with_agent(connection, state, *id))?;
    reads.challenges.iter().try_for_each(|id| load_challenge(connection, state, *id))?;
    reads.invitations.iter().try_for_each(|id| load_invitation_with_word(connection, state, *id))?;
    reads.chatbots.iter().try_for_each(|id| load_chatbot(connection, state, *id))?;
    reads.tokens.iter().try_for_each(|id| load_token(connection, state, *id))?;
    reads.visitors.iter().try_for_each(|id| load_visitor(connection, state, *id))?;
    reads.mails.iter().try_for_each(|id| load_mail(connection, state, *id))?;
    load_words(connection, state, tenant, reads)?;
    load_own(connection, state, tenant, reads)?;
    for id in &reads.conversations {
        load_conversation(connection, state, *id)?;
        if reads.visitors_of_conversations
            && let Some(visitor) = state.conversations.get(id).map(|found| found.visitor)
        {
            load_visitor(connection, state, visitor)?;
        }
    }
    reads.histories.iter().try_for_each(|id| load_history(connection, state, *id))?;
    reads.open_of.iter().try_for_each(|id| load_open(connection, state, tenant, *id))?;
    if let Some((agent, visitor)) = reads.seen {
        load_seen(connection, state, tenant, agent, visitor)?;
    }
    reads.words.iter().try_for_each(|word| load_word(connection, state, word))?;
    if let Some(agent) = reads.challenges_of {
        let sql = "SELECT id FROM challenges WHERE agent = ?1 ORDER BY id DESC LIMIT ?2";
        let newest = ids(connection, sql, (agent.bytes(), CHALLENGES_READ))?;
        newest.into_iter().try_for_each(|id| load_challenge(connection, state, ChallengeId(id)))?;
    }
    if let Some(agent) = reads.email_of
        && let Some(agent) = state.agents.get(&agent)
        && let Some(hmac) = &agent.email_hmac
    {
        let word = email_word(agent.tenant, hmac);
        load_word(connection, state, &word)?;
    }
    if let Some(agent) = reads.chats_of {
        load_chats(connection, state, agent)?;
    }
    if reads.queue_heads { load_queue_heads(connection, state, tenant) } else { Ok(()) }
}

/// Tags and canned responses, with those whose name is the same or wanted.
fn load_words(connection: &Connection, state: &mut State, tenant: TenantId, reads: &Reads) -> rusqlite::Result<()> {
    reads.tags.iter().try_for_each(|id| load_tag(connection, state, *id))?;
    reads.canned_responses.iter().try_for_each(|id| load_canned_response(connection, state, *id))?;
    let own = reads.tags.iter().filter_map(|id| state.tags.get(id)).map(|tag| name_key(&tag.name));
    let names: Vec<String> = own.chain(reads.tag_names.iter().map(|name| name_key(name))).collect();
    for name in names {
        let sql = "SELECT id FROM tags WHERE tenant = ?1 AND name_key = ?2";
        for id in ids(connection, sql, (tenant.bytes(), name))? {
            load_tag(connection, state, TagId(id))?;
        }
    }
    let responses = reads.canned_responses.iter().filter_map(|id| state.canned_responses.get(id));
    let own = responses.map(|response| name_key(&response.shortcut));
    let shortcuts: Vec<String> = own.chain(reads.shortcuts.iter().map(|name| name_key(name))).collect();
    for shortcut in shortcuts {
        let sql = "SELECT id FROM canned_responses WHERE tenant = ?1 AND name_key = ?2";
        for id in ids(connection, sql, (tenant.bytes(), shortcut))? {
            load_canned_response(connection, state, CannedResponseId(id))?;
        }
    }
    Ok(())
}

/// The tenant's own data sources and endpoints, by name, and how many there are.
fn load_own(connection: &Connection, state: &mut State, tenant: TenantId, reads: &Reads) -> rusqlite::Result<()> {
    for name in &reads.data_sources {
        let sql = "SELECT id FROM data_sources WHERE tenant = ?1 AND name = ?2";
        for id in ids(connection, sql, (tenant.bytes(), name))? {
            load_data_source(connection, state, DataSourceId(id))?;
        }
    }
    for name in &reads.pipes {
        for id in ids(connection, "SELECT id FROM pipes WHERE tenant = ?1 AND name = ?2", (tenant.bytes(), name))? {
            load_pipe(connection, state, PipeId(id))?;
        }
    }
    if reads.owned {
        let count = |table: &str| {
            let sql = format!("SELECT count(*) FROM {table} WHERE tenant = ?1 AND name IS NOT NULL");
            connection.prepare_cached(&sql)?.query_row([tenant.bytes()], |row| row.get::<_, i64>(0))
        };
        let owned =
            Owned { data_sources: count("data_sources")?.cast_unsigned(), pipes: count("pipes")?.cast_unsigned() };
        state.owned.insert(tenant, owned);
    }
    Ok(())
}

/// An agent with the custom role that says what it may do.
fn load_agent_with_role(connection: &Connection, state: &mut State, id: AgentId) -> rusqlite::Result<()> {
    load_agent(connection, state, id)?;
    match state.agents.get(&id).and_then(|agent| agent.custom_role) {
        Some(role) => load_role(connection, state, role),
        None => Ok(()),
    }
}

/// A role, and whether its name is taken by a living one.
fn load_role_with_word(connection: &Connection, state: &mut State, id: ingest::id::RoleId) -> rusqlite::Result<()> {
    load_role(connection, state, id)?;
    match state.roles.get(&id).map(|role| role_word(role.tenant, &role.name)) {
        Some(word) => load_word(connection, state, &word),
        None => Ok(()),
    }
}

/// A session with the agent who says whether it still holds.
fn load_session_with_agent(
    connection: &Connection,
    state: &mut State,
    id: ingest::id::SessionId,
) -> rusqlite::Result<()> {
    load_session(connection, state, id)?;
    match state.sessions.get(&id).map(|session| session.agent) {
        Some(agent) => load_agent_with_role(connection, state, agent),
        None => Ok(()),
    }
}

/// An invitation with its custom role, and whether its address is taken meanwhile.
fn load_invitation_with_word(connection: &Connection, state: &mut State, id: InvitationId) -> rusqlite::Result<()> {
    load_invitation(connection, state, id)?;
    let Some(found) = state.invitations.get(&id) else { return Ok(()) };
    let (role, word) = (found.custom_role, email_word(found.tenant, &found.email_hmac));
    if let Some(role) = role {
        load_role(connection, state, role)?;
    }
    load_word(connection, state, &word)
}

fn load_request(connection: &Connection, state: &mut State, request: &RequestKey) -> rusqlite::Result<()> {
    let key = (request.sender.clone(), request.key.clone());
    if let Entry::Vacant(place) = state.requests.entry(key)
        && let Some(found) = super::read::request(connection, request)?
    {
        place.insert(found);
    }
    Ok(())
}

fn ids(connection: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<Vec<Uuid>> {
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params, |row| row.get::<_, [u8; 16]>(0))?;
    rows.map(|row| row.map(Uuid::from_bytes)).collect()
}

fn load_roster(connection: &Connection, state: &mut State, tenant: TenantId) -> rusqlite::Result<()> {
    if state.rosters.contains_key(&tenant) {
        return Ok(());
    }
    for id in ids(connection, "SELECT id FROM agents WHERE tenant = ?1", [tenant.bytes()])? {
        load_agent_with_role(connection, state, AgentId(id))?;
    }
    for id in ids(connection, "SELECT id FROM groups WHERE tenant = ?1", [tenant.bytes()])? {
        load_group(connection, state, GroupId(id))?;
    }
    // What was added earlier in this batch has no row yet.
    let mut roster = Roster {
        agents: state.agents.values().filter(|agent| agent.tenant == tenant).map(|agent| agent.id).collect(),
        groups: state.groups.values().filter(|group| group.tenant == tenant).map(|group| group.id).collect(),
        ..Roster::default()
    };
    let sql = "SELECT queue_rank, id, group_id FROM conversations WHERE tenant = ?1 AND queue_rank IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([tenant.bytes()])?;
    while let Some(row) = rows.next()? {
        let group: Option<[u8; 16]> = row.get(2)?;
        let group = group.map(|id| GroupId(Uuid::from_bytes(id)));
        roster.queue.insert(group, row.get(0)?, ConversationId(Uuid::from_bytes(row.get(1)?)));
    }
    state.rosters.insert(tenant, roster);
    Ok(())
}

/// Of each group the longest waiting conversations, as many as free slots: more can't be assigned now.
fn load_queue_heads(connection: &Connection, state: &mut State, tenant: TenantId) -> rusqlite::Result<()> {
    for (_, id) in state.queue_heads(tenant).into_values().flatten() {
        load_conversation(connection, state, id)?;
        if let Some(visitor) = state.conversations.get(&id).map(|found| found.visitor) {
            load_visitor(connection, state, visitor)?;
        }
    }
    Ok(())
}

fn load_chats(connection: &Connection, state: &mut State, agent: AgentId) -> rusqlite::Result<()> {
    let sql = "SELECT id FROM conversations WHERE agent = ?1 AND status = 'active'";
    let chats = ids(connection, sql, [agent.bytes()])?;
    chats.into_iter().try_for_each(|id| load_conversation(connection, state, ConversationId(id)))
}

/// All conversations of a visitor, and who was merged into them.
fn load_history(connection: &Connection, state: &mut State, visitor: VisitorId) -> rusqlite::Result<()> {
    let merged = ids(connection, "SELECT id FROM visitors WHERE merged_into = ?1", [visitor.bytes()])?;
    merged.into_iter().try_for_each(|id| load_visitor(connection, state, VisitorId(id)))?;
    let chats = ids(connection, "SELECT id FROM conversations WHERE visitor = ?1", [visitor.bytes()])?;
    chats.into_iter().try_for_each(|id| load_conversation(connection, state, ConversationId(id)))
}

/// A visitor's conversations that wait or are talked in.
fn load_open(connection: &Connection, state: &mut State, tenant: TenantId, visitor: VisitorId) -> rusqlite::Result<()> {
    let sql = "SELECT id FROM conversations
         WHERE tenant = ?1 AND visitor = ?2 AND (status = 'active' OR queue_rank IS NOT NULL)";
    let chats = ids(connection, sql, (tenant.bytes(), visitor.bytes()))?;
    chats.into_iter().try_for_each(|id| load_conversation(connection, state, ConversationId(id)))
}

/// A conversation by which an agent sees a visitor, if there is one; of one who sees none, by which others do. Who sees all
/// needs none.
fn load_seen(
    connection: &Connection,
    state: &mut State,
    tenant: TenantId,
    agent: AgentId,
    visitor: VisitorId,
) -> rusqlite::Result<()> {
    let Some(owner) = state.visitor(tenant, visitor).map(|found| found.merged_into.unwrap_or(found.id)) else {
        return Ok(());
    };
    let visible = match state.agent(tenant, agent).map(|agent| state.visible_to(agent)) {
        None | Some(Visible::All) => return Ok(()),
        Some(Visible::Nothing) => Visible::Own { agent, groups: BTreeSet::new() },
        Some(own @ Visible::Own { .. }) => own,
    };
    let is_seen =
        |state: &State| state.conversations_of(tenant, owner).into_iter().any(|chat| visible.covers_chat(chat));
    if is_seen(state) {
        return Ok(());
    }
    for grantee in visitor_access::grantees_among(connection, &visible, owner, usize::MAX)? {
        // The first, unless this batch has moved it.
        for id in grantee.conversations(connection, owner)? {
            load_conversation(connection, state, id)?;
            if is_seen(state) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn load_word(connection: &Connection, state: &mut State, word: &str) -> rusqlite::Result<()> {
    let taken = if let Some(slug) = word.strip_prefix("slug:") {
        !ids(connection, "SELECT id FROM tenants WHERE slug = ?1", [slug])?.is_empty()
    } else if let Some((tenant, hmac)) = word.strip_prefix("email:").and_then(|rest| rest.split_once(':')) {
        let tenant = tenant.parse::<TenantId>().map_or([0; 16], |id| *id.bytes());
        !ids(connection, "SELECT id FROM agents WHERE email_hmac = ?1 AND tenant = ?2", (hmac, tenant))?.is_empty()
    } else if let Some((tenant, name)) = word.strip_prefix("role:").and_then(|rest| rest.split_once(':')) {
        let tenant = tenant.parse::<TenantId>().map_or([0; 16], |id| *id.bytes());
        !ids(connection, "SELECT id FROM roles WHERE tenant = ?1 AND name = ?2", (tenant, name))?.is_empty()
    } else {
        false
    };
    if taken {
        state.taken.insert(word.to_owned());
    }
    Ok(())
}

fn load_resource(connection: &Connection, state: &mut State, resource: Resource) -> rusqlite::Result<()> {
    match resource {
        Resource::Group(id) => load_group(connection, state, id),
        Resource::Tag(id) => load_tag(connection, state, id),
        Resource::CannedResponse(id) => load_canned_response(connection, state, id),
        Resource::Chatbot(id) => load_chatbot(connection, state, id),
    }
}

/// Loads what `apply` changes for `event`, whether or not a command has named it.
///
/// # Errors
/// SQLite's.
pub fn load_for_apply(connection: &Connection, state: &mut State, event: &Event) -> rusqlite::Result<()> {
    if let Some(conversation) = event.conversation {
        load_tenant(connection, state, event.tenant)?;
        load_conversation(connection, state, conversation)?;
        let holder = state.conversations.get(&conversation).filter(|chat| chat.status == Status::Active);
        if let Some(holder) = holder.and_then(|chat| chat.agent) {
            load_agent(connection, state, holder)?;
        }
    }
    match &event.payload {
        Payload::TenantUpdated(_) => load_tenant(connection, state, event.tenant),
        Payload::AgentUpdated(change) => load_agent(connection, state, change.agent_id),
        Payload::AgentStatusChanged(change) => load_agent(connection, state, change.agent_id),
        Payload::AgentDeleted(change) => load_agent(connection, state, change.agent_id),
        Payload::AgentRestored(change) => load_agent(connection, state, change.agent_id),
        Payload::PasswordChanged(change) => load_agent(connection, state, change.agent_id),
        Payload::SessionOpened(made) => load_agent(connection, state, made.agent_id),
        Payload::OwnershipTransferred(change) => {
            load_agent(connection, state, change.from_agent_id)?;
            load_agent(connection, state, change.to_agent_id)
        }
        Payload::RoleUpdated(change) => load_role(connection, state, change.role_id),
        Payload::RoleDeleted(change) => load_role(connection, state, change.role_id),
        Payload::RoleRestored(change) => load_role(connection, state, change.role_id),
        Payload::ChallengeFailed(change) => load_challenge(connection, state, change.challenge_id),
        Payload::ChallengeUsed(change) => {
            load_agent(connection, state, change.agent_id)?;
            load_challenge(connection, state, change.challenge_id)
        }
        Payload::InvitationAccepted(change) => {
            load_agent(connection, state, AgentId(change.invitation_id.0))?;
            load_invitation(connection, state, change.invitation_id)
        }
        Payload::AgentAssigned(assigned) => {
            load_agent(connection, state, assigned.agent_id)?;
            if let Some(group) = assigned.group_id {
                load_group(connection, state, group)?;
            }
            let visitor = event.conversation.and_then(|id| state.conversations.get(&id)).map(|found| found.visitor);
            visitor.map_or(Ok(()), |visitor| load_visitor(connection, state, visitor))
        }
        Payload::AgentUnassigned(unassigned) => load_agent(connection, state, unassigned.agent_id),
        Payload::SessionRefreshed(change) => load_session(connection, state, change.session_id),
        Payload::SessionClosed(change) => load_session(connection, state, change.session_id),
        Payload::ConversationStarted(made) => {
            made.continues.map_or(Ok(()), |closed| load_conversation(connection, state, closed))?;
            made.chatbot_id.map_or(Ok(()), |chatbot| load_chatbot(connection, state, chatbot))
        }
        Payload::ChatbotUpdated(change) => load_chatbot(connection, state, change.chatbot_id),
        Payload::ChatbotRotated(change) => load_chatbot(connection, state, change.chatbot_id),
        Payload::TokenRevoked(change) => load_token(connection, state, change.token_id),
        Payload::GroupUpdated(change) => load_group(connection, state, change.group_id),
        Payload::GroupMembersChanged(change) => load_group(connection, state, change.group_id),
        Payload::TagUpdated(change) => load_tag(connection, state, change.tag_id),
        Payload::CannedResponseUpdated(change) => load_canned_response(connection, state, change.canned_response_id),
        Payload::ResourceDeleted(change) => load_resource(connection, state, change.0),
        Payload::ResourceRestored(change) => load_resource(connection, state, change.0),
        Payload::ConversationRead(read) => load_conversation(connection, state, read.conversation_id),
        Payload::RowsAppended(rows) => load_data_source(connection, state, rows.source_id),
        Payload::DataSourceReplaced(change) => load_data_source(connection, state, change.source_id),
        Payload::DataSourceDeleted(change) => load_data_source(connection, state, change.source_id),
        Payload::PipePublished(made) => load_pipe(connection, state, made.pipe_id),
        Payload::PipeDeleted(change) => load_pipe(connection, state, change.pipe_id),
        Payload::VisitorUpdated(change) => load_visitor(connection, state, change.visitor_id),
        Payload::VisitorTracked(tracked) => load_visitor(connection, state, tracked.visitor_id),
        Payload::VisitorBlocked(change) => load_visitor(connection, state, change.visitor_id),
        Payload::VisitorUnblocked(change) => load_visitor(connection, state, change.visitor_id),
        Payload::VisitorErased(erased) => {
            load_visitor(connection, state, erased.visitor_id)?;
            erased.merged.iter().try_for_each(|id| load_visitor(connection, state, *id))
        }
        Payload::VisitorMerged(merged) => {
            load_visitor(connection, state, merged.source_visitor_id)?;
            load_visitor(connection, state, merged.target_visitor_id)?;
            merged.conversations.iter().try_for_each(|id| load_conversation(connection, state, *id))
        }
        Payload::MailRequested(made) => load_visitor(connection, state, VisitorId(made.person_id.0)),
        Payload::MailSent(done) => load_mail(connection, state, done.mail_id),
        Payload::MailFailed(done) => load_mail(connection, state, done.mail_id),
        _ => Ok(()),
    }
}

/// Loads one entity by its key; for tests and tools.
///
/// # Errors
/// SQLite's.
pub fn load_key(connection: &Connection, state: &mut State, key: &Key) -> rusqlite::Result<()> {
    match key {
        Key::Tenant(id) => load_tenant(connection, state, *id),
        Key::Agent(id) => load_agent(connection, state, *id),
        Key::Role(id) => load_role(connection, state, *id),
        Key::Group(id) => load_group(connection, state, *id),
        Key::Tag(id) => load_tag(connection, state, *id),
        Key::CannedResponse(id) => load_canned_response(connection, state, *id),
        Key::Session(id) => load_session(connection, state, *id),
        Key::Challenge(id) => load_challenge(connection, state, *id),
        Key::Invitation(id) => load_invitation(connection, state, *id),
        Key::Chatbot(id) => load_chatbot(connection, state, *id),
        Key::Token(id) => load_token(connection, state, *id),
        Key::DataSource(id) => load_data_source(connection, state, *id),
        Key::Pipe(id) => load_pipe(connection, state, *id),
        Key::Visitor(id) => load_visitor(connection, state, *id),
        Key::Conversation(id) => load_conversation(connection, state, *id),
        Key::File(id) => load_file(connection, state, *id),
        Key::Mail(id) => load_mail(connection, state, *id),
        Key::Request(..) => Ok(()),
    }
}
