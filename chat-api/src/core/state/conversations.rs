//! Conversations, their threads and their place in the queue.

use ingest::id::{AgentId, ChatbotId, ConversationId, FileId, GroupId, TenantId, ThreadId, VisitorId};
use ingest::payload::Payload;
use ingest::seal::Sealed;
use ingest::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Where a conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No agent yet.
    Pending,
    /// An agent has it.
    Active,
    /// Done; goes on when the visitor writes.
    Resolved,
    /// Read-only.
    Closed,
}

impl Status {
    /// The word in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Resolved => "resolved",
            Self::Closed => "closed",
        }
    }
}

/// A phase of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thread {
    /// Its id.
    pub id: ThreadId,
    /// When it began.
    pub created_at: Timestamp,
    /// How it ended; `None` while it's active.
    pub closed: Option<ThreadClosed>,
}

/// Why a thread ended whose conversation didn't: only who answers is another.
const THREAD_GOES_ON: [&str; 2] = ["agent_assigned", "transferred"];

/// How a thread ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThreadClosed {
    /// When.
    pub at: Timestamp,
    /// `agent`, `visitor`, `system` or `operator`.
    pub by: String,
    /// `agent_assigned`, `transferred`, `resolved`, `standby_expired`, `closed`, `idle`.
    pub reason: String,
}

/// The end that a visitor rates: the last resolve, or the last close of what wasn't resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The thread that ended.
    pub thread: ThreadId,
    /// Who had it then, and gets the credit.
    pub agent: Option<AgentId>,
}

/// The newest rating.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rated {
    /// Of which thread.
    pub thread: ThreadId,
    /// 1 to 5.
    pub score: u8,
    /// By what its words are known again; none without words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment_mark: Option<String>,
}

/// Place in the tenant's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// Smaller is served first.
    pub rank: i64,
    /// When it was put there.
    pub since: Timestamp,
}

/// The newest message, for lists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LastMessage {
    /// Its text.
    pub content: Sealed,
    /// `visitor`, `agent` or `bot`.
    pub author_type: String,
    /// When.
    pub at: Timestamp,
}

/// Messages that a side hasn't read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// Read up to and with this event.
    pub read: u64,
    /// Unread messages before those in `seqs`; a conversation may be left unread for years.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub older: u64,
    /// The newest unread messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seqs: Vec<u64>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Unread {
    /// Unread messages whose places are kept; before them only their number is.
    const PLACES_MAX: usize = 200;

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.older + self.seqs.len() as u64
    }

    pub(crate) fn add(&mut self, seq: u64) {
        self.seqs.push(seq);
        if self.seqs.len() > Self::PLACES_MAX {
            self.seqs.remove(0);
            self.older += 1;
        }
    }

    pub(crate) fn read_to(&mut self, seq: u64) {
        self.read = self.read.max(seq);
        if self.seqs.first().is_some_and(|first| *first <= seq) {
            self.older = 0;
        }
        self.seqs.retain(|unread| *unread > seq);
    }
}

/// What happens to a conversation by itself, at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerKind {
    /// It's back from being put aside.
    Snooze,
    /// Nobody has written for long.
    Idle,
    /// It was resolved long ago.
    AutoClose,
}

impl TimerKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Snooze, Self::Idle, Self::AutoClose];

    /// The word in its row.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snooze => "snooze",
            Self::Idle => "idle",
            Self::AutoClose => "auto_close",
        }
    }
}

/// When what is due; the rows of `timers` are an index over these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// See [`TimerKind::Snooze`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snooze: Option<Timestamp>,
    /// See [`TimerKind::Idle`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Timestamp>,
    /// See [`TimerKind::AutoClose`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_close: Option<Timestamp>,
}

impl Timers {
    /// When one of them is due, if it's running.
    #[must_use]
    pub fn due(&self, kind: TimerKind) -> Option<Timestamp> {
        match kind {
            TimerKind::Snooze => self.snooze,
            TimerKind::Idle => self.idle,
            TimerKind::AutoClose => self.auto_close,
        }
    }
}

/// A file that was sent in a conversation; its bytes lie sealed in the data directory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredFile {
    /// Its id, and its name in the data directory.
    pub id: FileId,
    /// The tenant.
    pub tenant: TenantId,
    /// Where it was sent.
    pub conversation: ConversationId,
    /// Whose key seals it.
    pub visitor: VisitorId,
    /// The message's metadata: name, type and bytes.
    pub metadata: Option<Sealed>,
}

/// What the end of an import puts aside, for a conversation that hadn't ended where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the conversation's fields of these names")]
pub struct Unresolved {
    pub status: Status,
    pub agent: Option<AgentId>,
    pub stale: bool,
    pub snoozed_until: Option<Timestamp>,
    /// Its thread wasn't closed.
    pub thread_open: bool,
}

/// A conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conversation {
    /// Its id.
    pub id: ConversationId,
    /// The tenant.
    pub tenant: TenantId,
    /// Whose.
    pub visitor: VisitorId,
    /// The widget; none when imported.
    pub chatbot: Option<ChatbotId>,
    /// The department.
    pub group: Option<GroupId>,
    /// Where it stands.
    pub status: Status,
    /// The agent who has it, or had it when it was resolved.
    pub agent: Option<AgentId>,
    /// In the queue; only while pending.
    pub queued: Option<Queued>,
    /// All phases; the last one is active unless it's closed.
    pub threads: Vec<Thread>,
    /// Tags, sorted.
    pub tags: BTreeSet<String>,
    /// What the agent should know, for the strategy of that name.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub skills: BTreeSet<String>,
    /// Events so far.
    pub last_seq: u64,
    /// The last one that visitors get, where those after it are for agents. Looking for it would read as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown_seq: Option<u64>,
    /// Public messages of visitors so far.
    pub visitor_messages: u64,
    /// The newest public message.
    pub last_message: Option<LastMessage>,
    /// 1 to 5, the newest.
    pub rating: Option<u8>,
    /// The thread that a rating is of; none before the first end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    /// What a repeat of it is told by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rated: Option<Rated>,
    /// The agents' own words about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes: Option<Sealed>,
    /// Nobody waits for an answer: it takes no slot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stale: bool,
    /// Put aside until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snoozed_until: Option<Timestamp>,
    /// Visitors' messages that no agent has read.
    #[serde(default)]
    pub unread_by_agents: Unread,
    /// Agents' and bots' messages that the visitor hasn't read.
    #[serde(default)]
    pub unread_by_visitor: Unread,
    /// What happens by itself.
    #[serde(default)]
    pub timers: Timers,
    /// The newest public message or assignment: from here on it's idle.
    pub active_at: Timestamp,
    /// Closed, and the visitor went on in this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continued_in: Option<ConversationId>,
    /// Id in the system it was imported from.
    pub external_id: Option<String>,
    /// How it stood when it was imported, if it hadn't ended: more of it may come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unresolved: Option<Unresolved>,
    /// First event.
    pub created_at: Timestamp,
    /// Newest event.
    pub updated_at: Timestamp,
}

impl Conversation {
    /// The thread that new events join: the last one, also when it's closed.
    #[must_use]
    pub fn thread(&self) -> &Thread {
        self.threads.last().expect("a conversation starts with a thread")
    }

    /// The `seq` of the last event that visitors get.
    #[must_use]
    pub fn last_shown_seq(&self) -> u64 {
        self.shown_seq.unwrap_or(self.last_seq)
    }

    /// Someone waits or talks in it: it's in the queue, or an agent has it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.status == Status::Active || self.queued.is_some()
    }

    /// Whether it came to an end at `at` or later; also if it goes on by now.
    #[must_use]
    pub fn has_ended_since(&self, at: Timestamp) -> bool {
        let ended = |closed: &ThreadClosed| closed.at >= at && !THREAD_GOES_ON.contains(&&*closed.reason);
        matches!(self.status, Status::Resolved | Status::Closed)
            || self.threads.iter().filter_map(|thread| thread.closed.as_ref()).any(ended)
    }

    /// The agent whose slot it takes.
    #[must_use]
    pub fn slot_of(&self) -> Option<AgentId> {
        self.agent.filter(|_| self.status == Status::Active && !self.stale)
    }
}

/// Whether an event of a conversation is for agents only: visitors don't get it.
#[must_use]
pub fn is_for_agents(payload: &Payload) -> bool {
    matches!(
        payload,
        Payload::NotePosted(_)
            | Payload::ConversationTagged(_)
            | Payload::ConversationUpdated(_)
            | Payload::ConversationStale(_)
            | Payload::ConversationSnoozed(_)
    )
}
