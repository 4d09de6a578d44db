//! `decide(state, command, now) -> events | rejection`: every rule of the product, pure.
//!
//! This file has the entry, the idempotency check, and accounts (tenants, agents, sessions, chatbots, tokens). What
//! happens in a conversation is in [`lifecycle`](super::lifecycle), who gets it in [`assignment`](super::assignment).

use super::command::{Command, CommandKind as K, NewAgent, NewVisitor, email_word, slug_word};
use super::state::{Conversation, RequestRecord, State, Status};
use super::{assignment, lifecycle};
use ingest::event::{Actor, Event, Origin};
use ingest::id::{AgentId, ConversationId, EventId, TenantId, ThreadId};
use ingest::payload::{
    AgentCreated, AgentStatus, AgentStatusChanged, AgentUpdated, ChatbotCreated, ChatbotUpdated, Payload, Role,
    SessionClosed, SessionOpened, SessionRefreshed, TenantCreated, TenantUpdated, TokenCreated, Trigger,
    VisitorCreated,
};
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
        let origin = if matches!(command.kind, K::Import(_)) { Origin::Import } else { Origin::Live };
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
            external_id: new.external_id.clone(),
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
        };
        self.push(None, 0, at, self.command.actor, payload.into());
    }
}

/// Decides; changes nothing.
///
/// # Errors
/// [`Rejection`], with the words for the caller.
pub fn decide(state: &State, command: &Command, now: Timestamp) -> Result<Decision, Rejection> {
    if let Some(request) = &command.request
        && let Some(record) = state.requests.get(&(request.sender.clone(), request.key.clone()))
        && now.since(record.at) < REQUEST_LIFE_MS
    {
        if record.body == request.body {
            return Ok(Decision::Repeated(record.clone()));
        }
        let detail = "this idempotency key was used with another body within 24 hours";
        return Err(Rejection::new(422, "idempotency_mismatch", detail));
    }
    if !matches!(command.kind, K::CreateTenant { .. }) && !state.tenants.contains_key(&command.tenant) {
        return Err(Rejection::not_found("tenant"));
    }
    let mut emit = Emit::new(command, now);
    if !accounts(state, command, &mut emit)? && !assignment::decide(state, command, now, &mut emit)? {
        lifecycle::decide(state, command, &mut emit)?;
    }
    Ok(Decision::Events(emit.events))
}

/// The role of the agent who asks; the system and the operator may do everything.
pub(super) fn role_of(state: &State, command: &Command) -> Option<Role> {
    match command.actor {
        Actor::Agent(agent) => state.agent(command.tenant, agent).map(|agent| agent.role),
        Actor::System | Actor::Operator => Some(Role::Owner),
        Actor::Visitor(_) => None,
    }
}

pub(super) fn require(state: &State, command: &Command, role: Role, what: &str) -> Result<(), Rejection> {
    if role_of(state, command).is_some_and(|found| found >= role) { Ok(()) } else { Err(Rejection::forbidden(what)) }
}

/// Tenants, agents, sessions, chatbots, tokens. `false` when the command is about something else.
fn accounts(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    match &command.kind {
        K::CreateTenant { name, slug, time_zone, owner } => {
            if state.taken.contains(&slug_word(slug)) {
                let detail = format!("the name '{slug}' is taken");
                return Err(Rejection::new(409, "slug_taken", detail).at("name"));
            }
            emit.tenant(TenantCreated { name: name.clone(), slug: slug.clone(), time_zone: time_zone.clone() });
            owner.iter().for_each(|owner| emit.agent(owner, emit.now));
        }
        K::UpdateTenant { name, time_zone } => {
            require(state, command, Role::Admin, "change the tenant")?;
            if name.is_some() || time_zone.is_some() {
                emit.tenant(TenantUpdated { name: name.clone(), time_zone: time_zone.clone() });
            }
        }
        K::CreateAgent(new) => create_agent(state, command, new, emit)?,
        K::UpdateAgent { .. } => update_agent(state, command, emit)?,
        K::SetAgentStatus { agent_id, status, accepting_chats } => {
            set_agent_status(state, command, *agent_id, *status, *accepting_chats, emit)?;
        }
        K::OpenSession { .. } | K::RefreshSession { .. } | K::CloseSession { .. } => sessions(state, command, emit)?,
        K::CreateChatbot { chatbot_id, name, api_key, allowed_origins, greeting, waiting_text } => {
            require(state, command, Role::Admin, "create chatbots")?;
            emit.tenant(ChatbotCreated {
                chatbot_id: *chatbot_id,
                name: name.clone(),
                api_key: api_key.clone(),
                allowed_origins: allowed_origins.clone(),
                greeting: greeting.clone(),
                waiting_text: waiting_text.clone(),
            });
        }
        K::UpdateChatbot { chatbot_id, name, allowed_origins, greeting, waiting_text } => {
            require(state, command, Role::Admin, "change chatbots")?;
            state
                .chatbots
                .get(chatbot_id)
                .filter(|found| found.tenant == command.tenant)
                .ok_or_else(|| Rejection::not_found("chatbot"))?;
            emit.tenant(ChatbotUpdated {
                chatbot_id: *chatbot_id,
                name: name.clone(),
                allowed_origins: allowed_origins.clone(),
                greeting: greeting.clone(),
                waiting_text: waiting_text.clone(),
            });
        }
        K::CreateToken { token_id, name, sha256, scopes, expires_at } => {
            require(state, command, Role::Admin, "create tokens")?;
            emit.tenant(TokenCreated {
                token_id: *token_id,
                name: name.clone(),
                sha256: sha256.clone(),
                scopes: scopes.clone(),
                expires_at: *expires_at,
            });
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn create_agent(state: &State, command: &Command, new: &NewAgent, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    require(state, command, Role::Admin, "add agents")?;
    if new.role == Role::Owner && role_of(state, command) != Some(Role::Owner) {
        return Err(Rejection::forbidden("make owners").at("role"));
    }
    if let Some(hmac) = &new.email_hmac
        && state.taken.contains(&email_word(command.tenant, hmac))
    {
        return Err(Rejection::new(409, "email_taken", "an agent of this tenant has this address").at("email"));
    }
    emit.agent(new, emit.now);
    Ok(())
}

fn update_agent(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let K::UpdateAgent { agent_id, name, role, max_concurrent_chats } = &command.kind else { return Ok(()) };
    let agent = state.agent(command.tenant, *agent_id).ok_or_else(|| Rejection::not_found("agent"))?;
    let own = command.actor == Actor::Agent(*agent_id);
    if !own || role.is_some() || max_concurrent_chats.is_some() {
        require(state, command, Role::Admin, "change agents")?;
    }
    let touches_owner = agent.role == Role::Owner || *role == Some(Role::Owner);
    if role.is_some() && touches_owner && *role != Some(agent.role) {
        return Err(Rejection::forbidden("make or unmake owners; transfer the ownership instead").at("role"));
    }
    if name.is_some() || role.is_some() || max_concurrent_chats.is_some() {
        emit.tenant(AgentUpdated {
            agent_id: *agent_id,
            name: name.clone(),
            role: *role,
            max_concurrent_chats: *max_concurrent_chats,
        });
    }
    Ok(())
}

fn set_agent_status(
    state: &State,
    command: &Command,
    agent_id: AgentId,
    status: AgentStatus,
    accepting: Option<bool>,
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    let agent = state.agent(command.tenant, agent_id).ok_or_else(|| Rejection::not_found("agent"))?;
    if command.actor != Actor::Agent(agent_id) {
        require(state, command, Role::Supervisor, "change another agent's status")?;
    }
    let accepting_chats = accepting.unwrap_or(agent.accepting_chats);
    if agent.status == status && agent.accepting_chats == accepting_chats {
        return Ok(());
    }
    emit.tenant(AgentStatusChanged { agent_id, status, accepting_chats });
    if status == AgentStatus::Offline {
        // Oldest last, so that the oldest ends up at the very front.
        let mut chats: Vec<&Conversation> = state
            .conversations
            .values()
            .filter(|chat| {
                chat.tenant == command.tenant && chat.status == Status::Active && chat.agent == Some(agent_id)
            })
            .collect();
        chats.sort_by_key(|chat| std::cmp::Reverse((chat.created_at, chat.id)));
        let front = assignment::front_rank(state, command.tenant);
        for (chat, rank) in chats.into_iter().zip((i64::MIN..=front).rev()) {
            assignment::give_back(chat, agent_id, Trigger::AgentOffline, rank, emit);
        }
    }
    Ok(())
}

fn sessions(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    let expired = || Rejection::new(401, "invalid_refresh_token", "the refresh token is expired, used or unknown");
    match &command.kind {
        K::OpenSession { session_id, agent_id, refresh_sha256, expires_at } => {
            state.agent(command.tenant, *agent_id).ok_or_else(|| Rejection::not_found("agent"))?;
            emit.tenant(SessionOpened {
                session_id: *session_id,
                agent_id: *agent_id,
                refresh_sha256: refresh_sha256.clone(),
                expires_at: *expires_at,
            });
        }
        K::RefreshSession { session_id, presented_sha256, refresh_sha256 } => {
            let session = state.sessions.get(session_id).filter(|found| found.tenant == command.tenant);
            let session = session.filter(|found| !found.closed && found.expires_at > emit.now).ok_or_else(expired)?;
            if session.refresh_sha256 == *presented_sha256 {
                emit.tenant(SessionRefreshed { session_id: *session_id, refresh_sha256: refresh_sha256.clone() });
            } else {
                // Someone uses a token that was replaced: a thief or the robbed. The whole family ends.
                emit.tenant(SessionClosed { session_id: *session_id, reason: "refresh_reused".to_owned() });
            }
        }
        K::CloseSession { session_id } => {
            let session = state.sessions.get(session_id).filter(|found| found.tenant == command.tenant);
            if session.ok_or_else(expired)?.closed {
                return Ok(());
            }
            emit.tenant(SessionClosed { session_id: *session_id, reason: "logout".to_owned() });
        }
        _ => {}
    }
    Ok(())
}

/// The conversation that a command is about.
pub(super) fn conversation(state: &State, tenant: TenantId, id: ConversationId) -> Result<&Conversation, Rejection> {
    state.conversation(tenant, id).ok_or_else(|| Rejection::not_found("conversation"))
}
