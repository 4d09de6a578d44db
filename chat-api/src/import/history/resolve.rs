//! The names that a line gives its people, groups and threads, as this tenant's ids. Start at [`resolve`].
//!
//! - A visitor is always one of imports, by an id derived from the name: no line writes in the name of who came by themselves.
//! - An agent is this tenant's own of that id, else one who was imported under that name, else whoever has the address, if the one
//!   who imports may see addresses; else they are made.
//! - A group is this tenant's own of that id, else one that was imported under that name, else one that is called the same; else
//!   it's made.
//! - A chatbot is this tenant's own of that id, or one that is called the same; else there is none: it would need a key.

use super::{History, Name, Named};
use crate::core::command::ImportedGroup;
use crate::core::state::{Chatbot, Conversation, Group};
use crate::import::parse::Bad;
use crate::import::transcript::Party;
use crate::import::{Importer, email_hmac};
use crate::store::read;
use ingest::id::{AgentId, ChatbotId, ConversationId, GroupId, TenantId, ThreadId, VisitorId};
use std::collections::{BTreeMap, HashMap};

/// Who and what a line's events are about.
pub(super) struct Parties {
    /// Agents who aren't there.
    pub new_agents: Vec<(AgentId, Party)>,
    /// Groups that aren't there.
    pub new_groups: Vec<ImportedGroup>,
}

/// An id that follows from the tenant and a name of another system.
macro_rules! derived {
    ($id:ident, $tenant:expr, $name:expr) => {
        $id::derived(&[$tenant.bytes(), $name.as_bytes()])
    };
}
pub(super) use derived;

/// Puts this tenant's ids in the place of all names of the line's events.
///
/// # Errors
/// The outer one is the database's; the inner one a name that the line doesn't list, or a group without a name that isn't there.
pub(super) fn resolve(
    importer: &Importer,
    tenant: TenantId,
    history: &mut History,
    conversation: ConversationId,
    chat: Option<&Conversation>,
) -> rusqlite::Result<Result<Parties, Bad>> {
    let visitors = std::iter::once(&history.visitor).chain(&history.merged_visitors);
    let visitors: HashMap<&str, VisitorId> =
        visitors.map(|visitor| (visitor.id.as_str(), derived!(VisitorId, tenant, visitor.id))).collect();
    let agents = agents(importer, tenant, &history.agents)?;
    let groups = groups(importer, tenant, &history.groups)?;
    let chatbot = chatbot(importer, tenant, history.chatbot.as_ref())?;
    let mut used_agents = BTreeMap::new();
    let mut used_groups = BTreeMap::new();
    for (index, event) in history.events.iter_mut().enumerate() {
        event.chatbot = event.chatbot.take().and(chatbot).map(|id| id.to_string());
        let found: Result<(), Name> = event.each_name(|kind, name| {
            let id = match kind {
                Name::Visitor => visitors.get(name.as_str()).map(ToString::to_string),
                Name::Agent => agents.get(name.as_str()).map(|(id, new)| {
                    used_agents.insert(*id, *new);
                    id.to_string()
                }),
                Name::Group => groups.get(name.as_str()).map(|(id, new)| {
                    used_groups.insert(*id, *new);
                    id.to_string()
                }),
                Name::Chatbot => Some(name.clone()),
                Name::Thread => Some(thread(conversation, chat, name).to_string()),
                Name::Conversation => Some(derived!(ConversationId, tenant, name).to_string()),
            };
            *name = id.ok_or(kind)?;
            Ok(())
        });
        if let Err(kind) = found {
            let detail = format!(
                "it names a{} {} that the line doesn't list",
                if kind == Name::Agent { "n" } else { "" },
                kind.word()
            );
            return Ok(Err(Bad::field(format!("events[{index}]"), "unknown_name", detail)));
        }
    }
    let new_agents = used_agents.into_iter().filter_map(|(id, new)| Some((id, new?.clone()))).collect();
    let mut new_groups = Vec::new();
    for (group_id, new) in used_groups.into_iter().filter_map(|(id, new)| Some((id, new?))) {
        let Some(name) = new.name.clone() else {
            let detail = "a group of the line isn't there, and has no name to be made with";
            return Ok(Err(Bad::field("groups", "unknown_group", detail)));
        };
        new_groups.push(ImportedGroup { group_id, name });
    }
    Ok(Ok(Parties { new_agents, new_groups }))
}

/// A thread of the conversation by its own id, or by one that follows from the name.
fn thread(conversation: ConversationId, chat: Option<&Conversation>, name: &str) -> ThreadId {
    let own = name.parse::<ThreadId>().ok();
    let own = own.filter(|id| chat.is_some_and(|chat| chat.threads.iter().any(|thread| thread.id == *id)));
    own.unwrap_or_else(|| ThreadId::derived(&[conversation.bytes(), name.as_bytes()]))
}

type Found<'a, I, P> = HashMap<&'a str, (I, Option<&'a P>)>;

/// By their names: each agent's id, and who is to be made with it if nobody has it.
fn agents<'a>(
    importer: &Importer,
    tenant: TenantId,
    parties: &'a [Party],
) -> rusqlite::Result<Found<'a, AgentId, Party>> {
    let mut found = HashMap::new();
    importer.pool.read(|connection| {
        for party in parties {
            let own = party.id.parse::<AgentId>().ok();
            let derived = derived!(AgentId, tenant, party.id);
            let mut known = None;
            for id in own.into_iter().chain([derived]) {
                if known.is_none() {
                    known = read::agent(connection, tenant, id)?.map(|agent| agent.id);
                }
            }
            let address = party.email.as_ref().filter(|_| importer.reach.addresses && known.is_none());
            if let Some(address) = address {
                let hmac = email_hmac(&importer.key_file, address);
                known = read::agent_by_email(connection, tenant, &hmac)?.map(|agent| agent.id);
            }
            let new = known.is_none().then_some(party);
            found.insert(party.id.as_str(), (known.unwrap_or(derived), new));
        }
        Ok(())
    })?;
    Ok(found)
}

/// By their names: each group's id, and what is to be made with it if there is none.
fn groups<'a>(
    importer: &Importer,
    tenant: TenantId,
    parties: &'a [Named],
) -> rusqlite::Result<Found<'a, GroupId, Named>> {
    if parties.is_empty() {
        return Ok(HashMap::new());
    }
    let all: Vec<Group> = importer.pool.read(|connection| read::groups(connection, tenant, |group| group))?;
    let living = |name: &String| {
        let name = name.to_lowercase();
        all.iter().find(|group| group.deleted_at.is_none() && group.name.to_lowercase() == name)
    };
    let known = parties.iter().map(|named| {
        let own = named.id.parse::<GroupId>().ok();
        let derived = derived!(GroupId, tenant, named.id);
        let by_id = |id: GroupId| all.iter().find(|group| group.id == id);
        let known = own.and_then(by_id).or_else(|| by_id(derived)).or_else(|| named.name.as_ref().and_then(living));
        let id = known.map_or(derived, |group| group.id);
        (named.id.as_str(), (id, known.is_none().then_some(named)))
    });
    Ok(known.collect())
}

fn chatbot(importer: &Importer, tenant: TenantId, named: Option<&Named>) -> rusqlite::Result<Option<ChatbotId>> {
    let Some(named) = named else { return Ok(None) };
    let all: Vec<Chatbot> = importer.pool.read(|connection| read::chatbots(connection, tenant, |chatbot| chatbot))?;
    let own = named.id.parse::<ChatbotId>().ok();
    let by_id = all.iter().find(|chatbot| Some(chatbot.id) == own);
    let by_name = || all.iter().find(|chatbot| Some(&chatbot.name) == named.name.as_ref());
    Ok(by_id.or_else(by_name).map(|chatbot| chatbot.id))
}
