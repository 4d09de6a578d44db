//! `decide(state, command, now) -> events | rejection`: every rule of the product, pure.
//!
//! This file has the entry, the idempotency check and the roles. The rules are a file a topic: [`accounts`],
//! [`agents`], [`roles`], [`credentials`], [`configuration`], who gets a conversation in [`assignment`], what is said in
//! one in [`lifecycle`], what else is done with it in [`actions`], its people in [`visitors`], [`mail`], [`import`], [`history`], a tenant's own tables in [`sources`].
//! What an agent doesn't see they can't change ([`visibility`]), and nobody gives more than they hold ([`grants`](super::grants)).

use super::command::{Command, CommandKind as K, NewAgent, NewVisitor};
use super::state::{Conversation, RequestRecord, State};
use super::{
    accounts, actions, agents, assignment, configuration, credentials, history, import, lifecycle, mail, roles,
    sources, visibility, visitors,
};
use ingest::event::{Actor, Event, Origin, RequestKey};
use ingest::id::{AgentId, ConversationId, EventId, TenantId, ThreadId};
use ingest::payload::{AgentCreated, Payload, Permission, PermissionSet, VisitorCreated};
use ingest::time::Timestamp;
use uuid::Uuid;

/// How long an idempotency key is remembered.
pub const REQUEST_LIFE_MS: i64 = 24 * 60 * 60 * 1_000;

/// A decision against a command. Nothing was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// HTTP status.
    pub status: u16,
    /// Stable word for programs.
    pub code: &'static str,
    /// Sentence for people.
    pub detail: String,
    /// The field at fault, by its name in the API.
    pub field: Option<&'static str>,
    /// Who won a lost race.
    pub winner: Option<AgentId>,
}

impl Rejection {
    /// A refusal with its words.
    #[must_use]
    pub fn new(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), field: None, winner: None }
    }

    /// The same answer for an unknown id and for another tenant's.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(404, "not_found", format!("there is no such {what}"))
    }

    /// The caller's role doesn't allow it.
    #[must_use]
    pub fn forbidden(what: &str) -> Self {
        Self::new(403, "forbidden", format!("your role doesn't allow to {what}"))
    }

    /// With the field at fault.
    #[must_use]
    pub fn at(mut self, field: &'static str) -> Self {
        self.field = Some(field);
        self
    }
}

/// What a command leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// These events, in order; none when it already holds.
    Events(Vec<Event>),
    /// The idempotency key was used before, with the same body: this is what it led to.
    Repeated(RequestRecord),
}

/// Collects the events of one command: ids, seqs and envelope fields follow from the command.
pub(super) struct Emit<'a> {
    command: &'a Command,
    now: Timestamp,
    origin: Origin,
    events: Vec<Event>,
    seqs: Vec<(ConversationId, u64)>,
}

impl<'a> Emit<'a> {
    fn new(command: &'a Command, now: Timestamp) -> Self {
        let origin =
            if matches!(command.kind, K::Import(_) | K::ImportHistory(_)) { Origin::Import } else { Origin::Live };
        Self { command, now, origin, events: Vec::new(), seqs: Vec::new() }
    }

    /// When the command was decided.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// The id that the next event gets; a thread that an event opens has the event's id.
    pub(super) fn next_thread(&self) -> ThreadId {
        ThreadId(self.next_id())
    }

    fn next_id(&self) -> Uuid {
        Uuid::from_u128(self.command.first_event.0.as_u128().wrapping_add(self.events.len() as u128))
    }

    /// An event outside of any conversation.
    pub(super) fn tenant(&mut self, payload: impl Into<Payload>) {
        self.push(None, 0, self.now, self.command.actor, payload.into());
    }

    /// An event outside of any conversation that happened elsewhere, at another time.
    pub(super) fn tenant_at(&mut self, at: Timestamp, payload: impl Into<Payload>) {
        self.push(None, 0, at, self.command.actor, payload.into());
    }

    /// The next event of a conversation, by the command's actor.
    pub(super) fn conversation(&mut self, conversation: &Conversation, payload: impl Into<Payload>) {
        self.conversation_as(conversation.id, conversation.last_seq, self.now, self.command.actor, payload);
    }

    /// The next event of a conversation whose last stored event is `last_seq`.
    pub(super) fn conversation_as(
        &mut self,
        id: ConversationId,
        last_seq: u64,
        at: Timestamp,
        actor: Actor,
        payload: impl Into<Payload>,
    ) {
        let seq = if let Some((_, seq)) = self.seqs.iter_mut().find(|(known, _)| *known == id) {
            *seq += 1;
            *seq
        } else {
            self.seqs.push((id, last_seq + 1));
            last_seq + 1
        };
        self.push(Some(id), seq, at, actor, payload.into());
    }

    fn push(&mut self, conversation: Option<ConversationId>, seq: u64, at: Timestamp, actor: Actor, payload: Payload) {
        self.events.push(Event {
            id: EventId(self.next_id()),
            tenant: self.command.tenant,
            conversation,
            seq,
            occurred_at: at,
            recorded_at: self.now,
            origin: self.origin,
            actor,
            cause: self.command.cause.clone(),
            request: if self.events.is_empty() { self.command.request.clone() } else { None },
            payload,
        });
    }

    /// A visitor who is first seen.
    pub(super) fn visitor(&mut self, new: &NewVisitor, at: Timestamp) {
        let payload = VisitorCreated {
            visitor_id: new.visitor_id,
            readable_id: new.readable_id.clone(),
            name: new.name.clone(),
            email: new.email.clone(),
            phone: new.phone.clone(),
            metadata: new.metadata.clone(),
            external_id: None,
            external_ref: new.external_ref.clone(),
            user_id: new.user_id.clone(),
        };
        self.push(None, 0, at, self.command.actor, payload.into());
    }

    /// An agent who is added.
    pub(super) fn agent(&mut self, new: &NewAgent, at: Timestamp) {
        let payload = AgentCreated {
            agent_id: new.agent_id,
            name: new.name.clone(),
            email: new.email.clone(),
            email_hmac: new.email_hmac.clone(),
            password_hash: new.password_hash.clone(),
            role: new.role,
            max_concurrent_chats: new.max_concurrent_chats,
            external_id: new.external_id.clone(),
            custom_role: new.details.custom_role,
            phone: new.details.phone.clone(),
            avatar: new.details.avatar.clone(),
            skills: new.details.skills.clone(),
            allow: new.details.allow,
            deny: new.details.deny,
        };
        self.push(None, 0, at, self.command.actor, payload.into());
    }
}

/// What a request led to when it was sent before, by what is known of its key.
///
/// # Errors
/// The key was used for something else.
pub fn repeated(
    found: Option<&RequestRecord>,
    request: &RequestKey,
    now: Timestamp,
) -> Result<Option<RequestRecord>, Rejection> {
    let Some(record) = found.filter(|record| now.since(record.at) < REQUEST_LIFE_MS) else { return Ok(None) };
    if record.body == request.body {
        return Ok(Some(record.clone()));
    }
    let detail = "this idempotency key was used with another body within 24 hours";
    Err(Rejection::new(422, "idempotency_mismatch", detail))
}

/// Decides; changes nothing.
///
/// # Errors
/// [`Rejection`], with the words for the caller.
pub fn decide(state: &State, command: &Command, now: Timestamp) -> Result<Decision, Rejection> {
    if let Some(request) = &command.request {
        let found = state.requests.get(&(request.sender.clone(), request.key.clone()));
        if let Some(record) = repeated(found, request, now)? {
            return Ok(Decision::Repeated(record));
        }
    }
    if !matches!(command.kind, K::CreateTenant { .. }) && !state.tenants.contains_key(&command.tenant) {
        return Err(Rejection::not_found("tenant"));
    }
    visibility::require_conversation(state, command)?;
    let mut emit = Emit::new(command, now);
    let handled = accounts::decide(state, command, &mut emit)?
        || agents::decide(state, command, &mut emit)?
        || roles::decide(state, command, &mut emit)?
        || credentials::decide(state, command, &mut emit)?
        || configuration::decide(state, command, &mut emit)?
        || assignment::decide(state, command, now, &mut emit)?
        || visitors::decide(state, command, &mut emit)?
        || actions::decide(state, command, &mut emit)?
        || lifecycle::decide(state, command, &mut emit)?
        || mail::decide(state, command, &mut emit)?
        || sources::decide(state, command, &mut emit)?
        || import::decide(state, command, &mut emit)?
        || history::decide(state, command, &mut emit)?;
    debug_assert!(handled, "a command that no topic knows");
    Ok(Decision::Events(emit.events))
}

/// The conversation that a command is about.
pub(super) fn conversation(state: &State, tenant: TenantId, id: ConversationId) -> Result<&Conversation, Rejection> {
    state.conversation(tenant, id).ok_or_else(|| Rejection::not_found("conversation"))
}

/// What the one who asks may do; the system and the operator everything, a visitor nothing that takes a permission.
pub(super) fn permissions_of(state: &State, command: &Command) -> PermissionSet {
    match command.actor {
        Actor::Agent(id) => {
            state.agent(command.tenant, id).map_or(PermissionSet::NONE, |agent| state.permissions(agent))
        }
        Actor::System | Actor::Operator => PermissionSet::all(),
        Actor::Visitor(_) => PermissionSet::NONE,
    }
}

pub(super) fn may(state: &State, command: &Command, permission: Permission) -> bool {
    permissions_of(state, command).has(permission)
}

pub(super) fn require(state: &State, command: &Command, permission: Permission, what: &str) -> Result<(), Rejection> {
    if may(state, command, permission) { Ok(()) } else { Err(Rejection::forbidden(what)) }
}
