//! What a command reads: the writer loads it into the state before `decide`.

use super::command::{Command, CommandKind as K, NewAgent, TransferTo};
use super::history;
use ingest::event::Actor;
use ingest::id::{
    AgentId, CannedResponseId, ChallengeId, ChatbotId, ConversationId, GroupId, InvitationId, MailId, RoleId,
    SessionId, TagId, TenantId, TokenId, VisitorId,
};
use ingest::payload::Resource;

/// What has to be in the [`State`](super::State) before `decide` looks at it.
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "each field names the entities to load")]
pub struct Reads {
    pub roster: bool,
    /// Of each group as many of the longest waiting conversations as its agents have free slots, with their visitors;
    /// implies `roster`.
    pub queue_heads: bool,
    /// The active conversations of this agent.
    pub chats_of: Option<AgentId>,
    /// With their custom roles.
    pub agents: Vec<AgentId>,
    /// With whether their names are taken.
    pub roles: Vec<RoleId>,
    pub groups: Vec<GroupId>,
    /// With all that have the same name, whatever its case.
    pub tags: Vec<TagId>,
    pub tag_names: Vec<String>,
    /// With all that have the same shortcut, whatever its case.
    pub canned_responses: Vec<CannedResponseId>,
    pub shortcuts: Vec<String>,
    /// With their agents.
    pub sessions: Vec<SessionId>,
    pub challenges: Vec<ChallengeId>,
    /// The newest challenges of this agent.
    pub challenges_of: Option<AgentId>,
    /// With their custom roles, and whether the address is taken.
    pub invitations: Vec<InvitationId>,
    /// Whether this agent's address is taken.
    pub email_of: Option<AgentId>,
    pub chatbots: Vec<ChatbotId>,
    pub tokens: Vec<TokenId>,
    pub conversations: Vec<ConversationId>,
    pub visitors: Vec<VisitorId>,
    /// The visitors of `conversations` too.
    pub visitors_of_conversations: bool,
    /// All conversations of these visitors, and who was merged into them.
    pub histories: Vec<VisitorId>,
    /// The open conversations of these visitors.
    pub open_of: Vec<VisitorId>,
    /// A conversation by which this agent sees this visitor, if there is one; takes `roster`, and both of them.
    pub seen: Option<(AgentId, VisitorId)>,
    pub mails: Vec<MailId>,
    /// Living ones of these names.
    pub data_sources: Vec<String>,
    pub pipes: Vec<String>,
    /// How many of both there are.
    pub owned: bool,
    /// `slug:…` and `email:…` words whose being taken matters.
    pub words: Vec<String>,
}

/// How a slug is named in [`State::taken`](super::State).
#[must_use]
pub fn slug_word(slug: &str) -> String {
    format!("slug:{slug}")
}

/// How a tenant's agent's address is named in [`State::taken`](super::State).
#[must_use]
pub fn email_word(tenant: TenantId, email_hmac: &str) -> String {
    format!("email:{tenant}:{email_hmac}")
}

/// How a tenant's custom role's name is named in [`State::taken`](super::State): case doesn't tell names apart.
#[must_use]
pub fn role_word(tenant: TenantId, name: &str) -> String {
    format!("role:{tenant}:{}", name.to_lowercase())
}

impl Command {
    /// What the state must hold before this command is decided. The tenant and the idempotency key are always read.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table: an arm a command, and none may be missing")]
    pub fn reads(&self) -> Reads {
        let mut reads = Reads::default();
        if let Actor::Agent(agent) = self.actor {
            reads.agents.push(agent);
            // What they see goes by groups.
            reads.roster = self.conversation().is_some();
        }
        // Whether visitors may still write is theirs, not the conversation's.
        let visitor = matches!(self.actor, Actor::Visitor(_));
        let email = |agent: &NewAgent| agent.email_hmac.as_deref().map(|hmac| email_word(self.tenant, hmac));
        match &self.kind {
            K::CreateTenant { slug, .. } => reads.words.push(slug_word(slug)),
            K::UpdateTenant(_) | K::CreateToken { .. } => {}
            K::RevokeToken { token_id } => reads.tokens.push(*token_id),
            K::CreateAgent(agent) => {
                reads.agents.push(agent.agent_id);
                reads.roles.extend(agent.details.custom_role);
                reads.words.extend(email(agent));
            }
            K::UpdateAgent { change, .. } => {
                reads.agents.push(change.agent_id);
                reads.roles.extend(change.custom_role);
                reads.words.extend(change.email_hmac.as_deref().map(|hmac| email_word(self.tenant, hmac)));
                // An owner may be the last one, and who goes offline gives chats back.
                reads.roster = true;
                reads.chats_of = Some(change.agent_id);
            }
            K::DeleteAgent { agent_id } => {
                reads.agents.push(*agent_id);
                reads.roster = true;
                reads.chats_of = Some(*agent_id);
            }
            K::RestoreAgent { agent_id } => {
                reads.agents.push(*agent_id);
                reads.email_of = Some(*agent_id);
                reads.roster = true;
            }
            K::CreateRole(made) => reads.words.push(role_word(self.tenant, &made.name)),
            K::UpdateRole(change) => {
                reads.roles.push(change.role_id);
                reads.words.extend(change.name.as_deref().map(|name| role_word(self.tenant, name)));
            }
            K::DeleteRole { role_id } | K::RestoreRole { role_id } => reads.roles.push(*role_id),
            K::TransferOwnership { agent_id }
            | K::OpenSession { agent_id, .. }
            | K::ChangePassword { agent_id, .. } => reads.agents.push(*agent_id),
            K::IssueChallenge { agent_id, .. } => {
                reads.agents.push(*agent_id);
                reads.challenges_of = Some(*agent_id);
            }
            K::TryChallenge { challenge_id, agent_id, .. } => {
                reads.agents.push(*agent_id);
                reads.challenges.push(*challenge_id);
            }
            K::Invite(made) => {
                reads.roles.extend(made.custom_role);
                reads.words.push(email_word(self.tenant, &made.email_hmac));
            }
            K::AcceptInvitation { invitation_id, .. } => reads.invitations.push(*invitation_id),
            K::SetAgentStatus { agent_id, .. } => {
                reads.roster = true;
                reads.chats_of = Some(*agent_id);
            }
            K::RefreshSession { session_id, .. } | K::CloseSession { session_id } => reads.sessions.push(*session_id),
            K::CreateChatbot(made) => reads.groups.extend(made.default_group_id),
            K::UpdateChatbot(change) => {
                reads.chatbots.push(change.chatbot_id);
                reads.groups.extend(change.default_group_id.flatten());
            }
            K::RotateChatbot { chatbot_id, .. } => reads.chatbots.push(*chatbot_id),
            // The roster has all groups: names are unique, and the default is one of them.
            K::CreateGroup(_) | K::UpdateGroup(_) | K::ChangeMembers(_) => reads.roster = true,
            K::CreateTag(made) => reads.tag_names.push(made.name.clone()),
            K::UpdateTag(change) => {
                reads.tags.push(change.tag_id);
                reads.tag_names.extend(change.name.clone());
            }
            K::CreateCannedResponse(made) => {
                reads.shortcuts.push(made.shortcut.clone());
                reads.groups.extend(made.group_id);
            }
            K::UpdateCannedResponse(change) => {
                reads.canned_responses.push(change.canned_response_id);
                reads.shortcuts.extend(change.shortcut.clone());
                reads.groups.extend(change.group_id.flatten());
            }
            K::Delete(resource) | K::Restore(resource) => match resource {
                Resource::Group(_) => reads.roster = true,
                Resource::Tag(id) => reads.tags.push(*id),
                Resource::CannedResponse(id) => reads.canned_responses.push(*id),
                Resource::Chatbot(id) => reads.chatbots.push(*id),
            },
            K::StartSession { chatbot_id, visitor, group_id, .. } => {
                reads.chatbots.push(*chatbot_id);
                reads.visitors.push(visitor.visitor_id);
                reads.groups.extend(group_id);
                reads.roster = true;
            }
            K::IdentifyVisitor { source, target } => {
                reads.visitors.extend([*source, target.visitor_id]);
                reads.histories.push(*source);
            }
            K::TrackVisitor { visitor_id, .. } => reads.visitors.push(*visitor_id),
            K::UpdateVisitor { visitor_id, .. } | K::UnblockVisitor { visitor_id } => {
                self.reads_visitor(*visitor_id, &mut reads);
            }
            K::BlockVisitor { visitor_id } => {
                self.reads_visitor(*visitor_id, &mut reads);
                reads.open_of.push(*visitor_id);
                reads.roster = true;
            }
            K::EraseVisitor { visitor_id } => {
                self.reads_visitor(*visitor_id, &mut reads);
                reads.histories.push(*visitor_id);
                reads.roster = true;
            }
            K::ExpireStandby { conversation_id, .. } => {
                reads.conversations.push(*conversation_id);
                reads.roster = true;
            }
            K::PostNote { conversation_id, .. }
            | K::Rate { conversation_id, .. }
            | K::Tag { conversation_id, .. }
            | K::Snooze { conversation_id, .. }
            | K::Read { conversation_id, .. } => {
                reads.conversations.push(*conversation_id);
                reads.visitors_of_conversations = visitor;
            }
            K::UpdateConversation { conversation_id, group_id, .. } => {
                reads.conversations.push(*conversation_id);
                reads.groups.extend(group_id.flatten());
                reads.roster = true;
            }
            K::Transfer { conversation_id, to, .. } => {
                reads.conversations.push(*conversation_id);
                reads.roster = true;
                if let TransferTo::Group(group) = to {
                    reads.groups.push(*group);
                }
            }
            K::PostMessage { conversation_id, .. } => {
                reads.conversations.push(*conversation_id);
                reads.visitors_of_conversations = true;
                reads.roster = true;
            }
            K::Take { conversation_id }
            | K::Unassign { conversation_id }
            | K::Resolve { conversation_id }
            | K::Reopen { conversation_id }
            | K::Close { conversation_id }
            | K::MarkStale { conversation_id }
            | K::TimerDue { conversation_id, .. }
            | K::Assign { conversation_id, .. }
            | K::RequestAgentMails { conversation_id, .. } => {
                reads.conversations.push(*conversation_id);
                reads.visitors_of_conversations = visitor;
                reads.roster = true;
            }
            K::RequestWelcome { conversation_id, .. } => {
                reads.conversations.push(*conversation_id);
                reads.visitors_of_conversations = true;
            }
            K::AssignQueue { .. } => reads.queue_heads = true,
            K::CreateDataSource(made) => {
                reads.data_sources.push(made.name.clone());
                reads.owned = true;
            }
            K::AppendRows { name, create, .. } => {
                reads.data_sources.push(name.clone());
                reads.owned = create.is_some();
            }
            K::DeleteDataSource { name } => reads.data_sources.push(name.clone()),
            K::PublishPipe { name, .. } => {
                reads.pipes.push(name.clone());
                reads.owned = true;
            }
            K::DeletePipe { name } => reads.pipes.push(name.clone()),
            K::RecordMail { mail_id, .. } => reads.mails.push(*mail_id),
            K::Import(import) => {
                reads.conversations.push(import.conversation_id);
                self.reads_visitor(import.visitor.visitor_id, &mut reads);
                // An export carries this installation's own ids; importing it here again must change nothing.
                reads.conversations.extend(import.external_id.parse::<ConversationId>().ok());
                reads.agents.extend(import.agent.as_ref().map(|agent| agent.agent_id));
                reads.words.extend(import.agent.as_ref().and_then(email));
            }
            K::ImportHistory(import) => {
                self.reads_visitor(import.visitor.visitor_id, &mut reads);
                reads.conversations.push(import.conversation_id);
                reads.conversations.extend(import.external_id.parse::<ConversationId>().ok());
                reads.conversations.extend(import.events.first().and_then(history::continues));
                // What they had becomes the visitor's.
                reads.visitors.extend(import.merged.iter().map(|visitor| visitor.visitor_id));
                reads.histories.extend(import.merged.iter().map(|visitor| visitor.visitor_id));
                reads.agents.extend(import.agents.iter().map(|agent| agent.agent_id));
                reads.words.extend(import.agents.iter().filter_map(email));
                reads.groups.extend(import.groups.iter().map(|group| group.group_id));
                // Groups' names are unique.
                reads.roster |= !import.groups.is_empty();
            }
        }
        reads
    }

    /// A visitor, and whether the one who asks sees them.
    fn reads_visitor(&self, visitor: VisitorId, reads: &mut Reads) {
        reads.visitors.push(visitor);
        if let Actor::Agent(agent) = self.actor {
            reads.roster = true;
            reads.seen = Some((agent, visitor));
        }
    }
}
