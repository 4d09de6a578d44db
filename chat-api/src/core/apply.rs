//! `apply(state, event)`: the only thing that changes state. Pure; the same events give the same state.
//!
//! It never refuses: what is in the log has happened. An event about something that isn't loaded is skipped, which can
//! only be a roster or an agent's counters of a tenant that the command didn't name (see [`Reads`](super::command::Reads)).

use super::command::{email_word, slug_word};
use super::state::{
    Agent, Chatbot, Conversation, Key, LastMessage, Mail, MailStatus, Queued, RequestRecord, Session, State, Status,
    Tenant, Thread, ThreadClosed, Token, Visitor,
};
use ingest::event::{Actor, Event};
use ingest::id::{AgentId, ConversationId, TenantId, ThreadId};
use ingest::payload::{AgentStatus, MessagePosted, Payload};
use uuid::Uuid;

/// Changes `state` by what happened.
pub fn apply(state: &mut State, event: &Event) {
    match &event.payload {
        Payload::TenantCreated(_)
        | Payload::TenantUpdated(_)
        | Payload::ChatbotCreated(_)
        | Payload::ChatbotUpdated(_)
        | Payload::TokenCreated(_) => apply_configuration(state, event),
        Payload::AgentCreated(_)
        | Payload::AgentUpdated(_)
        | Payload::AgentStatusChanged(_)
        | Payload::SessionOpened(_)
        | Payload::SessionRefreshed(_)
        | Payload::SessionClosed(_) => apply_agent(state, event),
        Payload::VisitorCreated(_) | Payload::VisitorUpdated(_) => apply_visitor(state, event),
        Payload::MailRequested(_) | Payload::MailSent(_) | Payload::MailFailed(_) => apply_mail(state, event),
        _ => apply_conversation(state, event),
    }
    if let Some(request) = &event.request {
        let record = RequestRecord {
            body: request.body.clone(),
            event: event.id,
            conversation: event.conversation,
            seq: event.seq,
            resource: resource_of(&event.payload),
            at: event.recorded_at,
        };
        state.requests.insert((request.sender.clone(), request.key.clone()), record);
        state.dirty.insert(Key::Request(request.sender.clone(), request.key.clone()));
    }
}

/// What an event made, for the answer to a repeated request.
fn resource_of(payload: &Payload) -> Option<Uuid> {
    match payload {
        Payload::AgentCreated(made) => Some(made.agent_id.0),
        Payload::ChatbotCreated(made) => Some(made.chatbot_id.0),
        Payload::TokenCreated(made) => Some(made.token_id.0),
        Payload::VisitorCreated(made) => Some(made.visitor_id.0),
        _ => None,
    }
}

fn apply_configuration(state: &mut State, event: &Event) {
    let (tenant, at) = (event.tenant, event.occurred_at);
    match &event.payload {
        Payload::TenantCreated(made) => {
            state.taken.insert(slug_word(&made.slug));
            state.tenants.insert(
                tenant,
                Tenant {
                    id: tenant,
                    name: made.name.clone(),
                    slug: made.slug.clone(),
                    time_zone: made.time_zone.clone(),
                    created_at: at,
                },
            );
            // A new tenant's roster is known whole: it's empty.
            state.rosters.insert(tenant, super::state::Roster::default());
            state.dirty.insert(Key::Tenant(tenant));
        }
        Payload::TenantUpdated(change) => {
            let Some(found) = state.tenants.get_mut(&tenant) else { return };
            set(&mut found.name, change.name.as_ref());
            set(&mut found.time_zone, change.time_zone.as_ref());
            state.dirty.insert(Key::Tenant(tenant));
        }
        Payload::ChatbotCreated(made) => {
            let chatbot = Chatbot {
                id: made.chatbot_id,
                tenant,
                name: made.name.clone(),
                api_key: made.api_key.clone(),
                allowed_origins: made.allowed_origins.clone(),
                greeting: made.greeting.clone(),
                waiting_text: made.waiting_text.clone(),
                created_at: at,
                updated_at: at,
            };
            state.chatbots.insert(made.chatbot_id, chatbot);
            state.dirty.insert(Key::Chatbot(made.chatbot_id));
        }
        Payload::ChatbotUpdated(change) => {
            let Some(found) = state.chatbots.get_mut(&change.chatbot_id) else { return };
            set(&mut found.name, change.name.as_ref());
            set(&mut found.allowed_origins, change.allowed_origins.as_ref());
            set(&mut found.greeting, change.greeting.as_ref());
            set(&mut found.waiting_text, change.waiting_text.as_ref());
            found.updated_at = at;
            state.dirty.insert(Key::Chatbot(change.chatbot_id));
        }
        Payload::TokenCreated(made) => {
            let token = Token {
                id: made.token_id,
                tenant,
                name: made.name.clone(),
                sha256: made.sha256.clone(),
                scopes: made.scopes.clone(),
                expires_at: made.expires_at,
                created_at: at,
            };
            state.tokens.insert(made.token_id, token);
            state.dirty.insert(Key::Token(made.token_id));
        }
        _ => {}
    }
}

fn set<T: Clone>(field: &mut T, change: Option<&T>) {
    if let Some(value) = change {
        field.clone_from(value);
    }
}

fn apply_agent(state: &mut State, event: &Event) {
    let (tenant, at) = (event.tenant, event.occurred_at);
    match &event.payload {
        Payload::AgentCreated(made) => {
            if let Some(hmac) = &made.email_hmac {
                state.taken.insert(email_word(tenant, hmac));
            }
            let agent = Agent {
                id: made.agent_id,
                tenant,
                name: made.name.clone(),
                email: made.email.clone(),
                email_hmac: made.email_hmac.clone(),
                password_hash: made.password_hash.clone(),
                role: made.role,
                status: AgentStatus::Offline,
                accepting_chats: true,
                max_concurrent_chats: made.max_concurrent_chats,
                active_chats: 0,
                idle_since: at,
                external_id: made.external_id.clone(),
                created_at: at,
            };
            state.agents.insert(made.agent_id, agent);
            if let Some(roster) = state.rosters.get_mut(&tenant) {
                roster.agents.insert(made.agent_id);
            }
            state.dirty.insert(Key::Agent(made.agent_id));
        }
        Payload::AgentUpdated(change) => {
            let Some(agent) = state.agents.get_mut(&change.agent_id) else { return };
            set(&mut agent.name, change.name.as_ref());
            set(&mut agent.role, change.role.as_ref());
            set(&mut agent.max_concurrent_chats, change.max_concurrent_chats.as_ref());
            state.dirty.insert(Key::Agent(change.agent_id));
        }
        Payload::AgentStatusChanged(change) => {
            let Some(agent) = state.agents.get_mut(&change.agent_id) else { return };
            agent.status = change.status;
            agent.accepting_chats = change.accepting_chats;
            state.dirty.insert(Key::Agent(change.agent_id));
        }
        Payload::SessionOpened(made) => {
            let session = Session {
                id: made.session_id,
                tenant,
                agent: made.agent_id,
                refresh_sha256: made.refresh_sha256.clone(),
                expires_at: made.expires_at,
                closed: false,
            };
            state.sessions.insert(made.session_id, session);
            state.dirty.insert(Key::Session(made.session_id));
        }
        Payload::SessionRefreshed(change) => {
            let Some(session) = state.sessions.get_mut(&change.session_id) else { return };
            session.refresh_sha256.clone_from(&change.refresh_sha256);
            state.dirty.insert(Key::Session(change.session_id));
        }
        Payload::SessionClosed(change) => {
            let Some(session) = state.sessions.get_mut(&change.session_id) else { return };
            session.closed = true;
            state.dirty.insert(Key::Session(change.session_id));
        }
        _ => {}
    }
}

fn apply_visitor(state: &mut State, event: &Event) {
    match &event.payload {
        Payload::VisitorCreated(made) => {
            let visitor = Visitor {
                id: made.visitor_id,
                tenant: event.tenant,
                readable_id: made.readable_id.clone(),
                name: made.name.clone(),
                email: made.email.clone(),
                phone: made.phone.clone(),
                metadata: made.metadata.clone(),
                external_id: made.external_id.clone(),
                welcomed: false,
                created_at: event.occurred_at,
            };
            state.visitors.insert(made.visitor_id, visitor);
            state.dirty.insert(Key::Visitor(made.visitor_id));
        }
        Payload::VisitorUpdated(change) => {
            let Some(visitor) = state.visitors.get_mut(&change.visitor_id) else { return };
            for (field, change) in [
                (&mut visitor.name, &change.name),
                (&mut visitor.email, &change.email),
                (&mut visitor.phone, &change.phone),
            ] {
                if change.is_some() {
                    field.clone_from(change);
                }
            }
            state.dirty.insert(Key::Visitor(change.visitor_id));
        }
        _ => {}
    }
}

fn apply_mail(state: &mut State, event: &Event) {
    let (id, status) = match &event.payload {
        Payload::MailRequested(made) => {
            let mail = Mail {
                id: made.mail_id,
                tenant: event.tenant,
                kind: made.kind,
                person: made.person_id,
                about: made.about,
                readable_id: made.readable_id.clone(),
                requested_at: event.occurred_at,
                status: MailStatus::Pending,
            };
            if made.kind == ingest::payload::MailKind::Welcome {
                let visitor = ingest::id::VisitorId(made.person_id.0);
                if let Some(found) = state.visitors.get_mut(&visitor) {
                    found.welcomed = true;
                    state.dirty.insert(Key::Visitor(visitor));
                }
            }
            state.mails.insert(made.mail_id, mail);
            (made.mail_id, MailStatus::Pending)
        }
        Payload::MailSent(done) => (done.mail_id, MailStatus::Sent),
        Payload::MailFailed(done) => (done.mail_id, MailStatus::Failed),
        _ => return,
    };
    if let Some(mail) = state.mails.get_mut(&id) {
        mail.status = status;
        state.dirty.insert(Key::Mail(id));
    }
}

/// `agent`, `visitor`, `system` or `operator`, for `closedBy`.
fn actor_word(actor: Actor) -> &'static str {
    match actor {
        Actor::Visitor(_) => "visitor",
        Actor::Agent(_) => "agent",
        Actor::System => "system",
        Actor::Operator => "operator",
    }
}

fn apply_conversation(state: &mut State, event: &Event) {
    let Some(id) = event.conversation else { return };
    if let Payload::ConversationStarted(made) = &event.payload {
        let conversation = Conversation {
            id,
            tenant: event.tenant,
            visitor: made.visitor_id,
            chatbot: made.chatbot_id,
            group: made.group_id,
            status: Status::Pending,
            agent: None,
            queued: None,
            threads: vec![Thread { id: made.thread_id, created_at: event.occurred_at, closed: None }],
            tags: made.tags.iter().cloned().collect(),
            last_seq: event.seq,
            visitor_messages: 0,
            last_message: None,
            rating: None,
            external_id: made.external_id.clone(),
            created_at: event.occurred_at,
            updated_at: event.occurred_at,
        };
        state.conversations.insert(id, conversation);
        state.dirty.insert(Key::Conversation(id));
        return;
    }
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    conversation.last_seq = event.seq;
    conversation.updated_at = event.occurred_at;
    state.dirty.insert(Key::Conversation(id));
    match &event.payload {
        Payload::MessagePosted(message) => post(conversation, message, event),
        Payload::ConversationQueued(queued) => {
            conversation.status = Status::Pending;
            conversation.agent = None;
            conversation.queued = Some(Queued { rank: queued.rank, since: event.occurred_at });
            if let Some(roster) = state.rosters.get_mut(&event.tenant) {
                roster.queue.insert(queued.rank, id);
            }
        }
        Payload::AgentAssigned(assigned) => {
            close_thread(conversation, event, "agent_assigned");
            open_thread(conversation, event, assigned.thread_id);
            conversation.status = Status::Active;
            conversation.agent = Some(assigned.agent_id);
            leave_queue(state, event.tenant, id);
            if let Some(previous) = assigned.previous_agent_id {
                count_chat(state, previous, event, -1);
            }
            count_chat(state, assigned.agent_id, event, 1);
        }
        Payload::AgentUnassigned(unassigned) => {
            conversation.agent = None;
            conversation.status = Status::Pending;
            count_chat(state, unassigned.agent_id, event, -1);
        }
        Payload::ConversationResolved(resolved) => end(state, event, id, Status::Resolved, resolved.agent_id),
        Payload::ConversationClosed(closed) => end(state, event, id, Status::Closed, closed.agent_id),
        Payload::ConversationReopened(reopened) => {
            conversation.status = Status::Pending;
            conversation.agent = None;
            open_thread(conversation, event, reopened.thread_id);
        }
        Payload::ConversationRated(rated) => conversation.rating = Some(rated.score),
        Payload::ConversationTagged(tagged) => {
            conversation.tags.extend(tagged.add.iter().cloned());
            conversation.tags.retain(|tag| !tagged.remove.contains(tag));
        }
        _ => {}
    }
}

fn post(conversation: &mut Conversation, message: &MessagePosted, event: &Event) {
    conversation.visitor_messages += u64::from(message.author_type == ingest::payload::AuthorType::Visitor);
    conversation.last_message = Some(LastMessage {
        content: message.content.clone(),
        author_type: message.author_type.as_str().to_owned(),
        at: event.occurred_at,
    });
}

fn open_thread(conversation: &mut Conversation, event: &Event, id: ThreadId) {
    conversation.threads.push(Thread { id, created_at: event.occurred_at, closed: None });
}

fn close_thread(conversation: &mut Conversation, event: &Event, reason: &str) {
    if let Some(thread) = conversation.threads.last_mut()
        && thread.closed.is_none()
    {
        let by = actor_word(event.actor).to_owned();
        thread.closed = Some(ThreadClosed { at: event.occurred_at, by, reason: reason.to_owned() });
    }
}

fn leave_queue(state: &mut State, tenant: TenantId, id: ConversationId) {
    let Some(queued) = state.conversations.get_mut(&id).and_then(|conversation| conversation.queued.take()) else {
        return;
    };
    if let Some(roster) = state.rosters.get_mut(&tenant) {
        roster.queue.remove(&queued.rank);
    }
}

fn count_chat(state: &mut State, agent: AgentId, event: &Event, change: i32) {
    if let Some(found) = state.agents.get_mut(&agent) {
        found.active_chats = found.active_chats.saturating_add_signed(change);
        found.idle_since = event.occurred_at;
        state.dirty.insert(Key::Agent(agent));
    }
}

/// Resolved or closed: the thread ends, the slot is free, the queue forgets it; the agent stays for the credit.
fn end(state: &mut State, event: &Event, id: ConversationId, status: Status, agent: Option<AgentId>) {
    let Some(conversation) = state.conversations.get_mut(&id) else { return };
    let was_active = conversation.status == Status::Active;
    let holder = conversation.agent;
    conversation.status = status;
    conversation.agent = agent.or(holder);
    close_thread(conversation, event, if status == Status::Resolved { "resolved" } else { "closed" });
    leave_queue(state, event.tenant, id);
    if let (true, Some(holder)) = (was_active, holder) {
        count_chat(state, holder, event, -1);
    }
}
