//! The JSON of both directions, and the codes of the close frames. The tests below have an example of each frame.

use super::credential::Person;
use crate::view::{ConversationView, EventView};
use axum::extract::ws::{CloseCode, CloseFrame, Utf8Bytes};
use ingest::id::ConversationId;
use ingest::payload::AuthorType;
use serde::{Deserialize, Serialize};

/// The topic that agents may subscribe to.
pub(super) const INBOX: &str = "inbox";

/// What a client may send.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(super) enum ClientFrame {
    /// The first frame; later ones renew an expiring token.
    Auth { token: String },
    /// A conversation from `after` on (without it: from now on), or `"topic": "inbox"`.
    Subscribe { conversation_id: Option<String>, topic: Option<String>, after: Option<u64> },
    /// Ends a subscription.
    Unsubscribe { conversation_id: Option<String>, topic: Option<String> },
    /// Keys are being pressed.
    Typing { conversation_id: String },
    /// For clients that can't send protocol pings.
    Ping {},
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all_fields = "camelCase")]
enum ServerFrame<'a> {
    #[serde(rename = "ready")]
    Ready,
    #[serde(rename = "pong")]
    Pong,
    #[serde(rename = "subscribed")]
    Subscribed { conversation_id: ConversationId, last_seq: u64 },
    #[serde(rename = "subscribed")]
    SubscribedTopic { topic: &'a str },
    #[serde(rename = "unsubscribed")]
    Unsubscribed {
        #[serde(skip_serializing_if = "Option::is_none")]
        conversation_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        topic: Option<&'a str>,
    },
    #[serde(rename = "event")]
    Event { event: &'a EventView },
    #[serde(rename = "conversation.updated")]
    ConversationUpdated { conversation: &'a ConversationView },
    #[serde(rename = "typing")]
    Typing { conversation_id: ConversationId, author_type: &'a str, author: Author<'a> },
    #[serde(rename = "read")]
    Read { conversation_id: ConversationId, author_type: AuthorType, seq: u64 },
    #[serde(rename = "presence")]
    Presence { conversation_id: ConversationId, author_type: &'a str, author: Author<'a>, status: &'a str },
    #[serde(rename = "queue")]
    Queue { conversation_id: ConversationId, position: Option<u64>, eta_seconds: Option<u64> },
    #[serde(rename = "error")]
    Error {
        code: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        conversation_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
}

#[derive(Serialize)]
struct Author<'a> {
    id: String,
    name: Option<&'a str>,
}

fn text(frame: &ServerFrame<'_>) -> Utf8Bytes {
    serde_json::to_string(frame).expect("a frame's fields all have a JSON form").into()
}

pub(super) fn ready() -> Utf8Bytes {
    text(&ServerFrame::Ready)
}

pub(super) fn pong() -> Utf8Bytes {
    text(&ServerFrame::Pong)
}

pub(super) fn subscribed(conversation_id: ConversationId, last_seq: u64) -> Utf8Bytes {
    text(&ServerFrame::Subscribed { conversation_id, last_seq })
}

pub(super) fn subscribed_topic(topic: &str) -> Utf8Bytes {
    text(&ServerFrame::SubscribedTopic { topic })
}

pub(super) fn unsubscribed(conversation_id: Option<&str>, topic: Option<&str>) -> Utf8Bytes {
    text(&ServerFrame::Unsubscribed { conversation_id, topic })
}

pub(super) fn event(event: &EventView) -> Utf8Bytes {
    text(&ServerFrame::Event { event })
}

pub(super) fn conversation_updated(conversation: &ConversationView) -> Utf8Bytes {
    text(&ServerFrame::ConversationUpdated { conversation })
}

pub(super) fn typing(conversation_id: ConversationId, person: Person, name: Option<&str>) -> Utf8Bytes {
    let (author_type, author) = author(person, name);
    text(&ServerFrame::Typing { conversation_id, author_type, author })
}

fn author(person: Person, name: Option<&str>) -> (&'static str, Author<'_>) {
    match person {
        Person::Agent(id) => ("agent", Author { id: id.to_string(), name }),
        Person::Visitor(id) => ("visitor", Author { id: id.to_string(), name }),
    }
}

/// Somebody has read up to and with an event.
pub(super) fn read(conversation_id: ConversationId, author_type: AuthorType, seq: u64) -> Utf8Bytes {
    text(&ServerFrame::Read { conversation_id, author_type, seq })
}

/// `status` is `online`, `away` or `offline`.
pub(super) fn presence(conversation_id: ConversationId, person: Person, name: Option<&str>, status: &str) -> Utf8Bytes {
    let (author_type, author) = author(person, name);
    text(&ServerFrame::Presence { conversation_id, author_type, author, status })
}

/// The place in the queue from 1; `None` when the conversation waits no longer.
pub(super) fn queue(conversation_id: ConversationId, position: Option<u64>, eta_seconds: Option<u64>) -> Utf8Bytes {
    text(&ServerFrame::Queue { conversation_id, position, eta_seconds })
}

pub(super) fn error(code: &str) -> Utf8Bytes {
    text(&ServerFrame::Error { code, conversation_id: None, detail: None })
}

/// An error about one conversation, named as the client named it.
pub(super) fn error_about(code: &str, conversation_id: &str) -> Utf8Bytes {
    text(&ServerFrame::Error { code, conversation_id: Some(conversation_id), detail: None })
}

pub(super) fn malformed(detail: impl Into<String>) -> Utf8Bytes {
    text(&ServerFrame::Error { code: "malformed", conversation_id: None, detail: Some(detail.into()) })
}

/// Why the server closes a socket; the numbers are part of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// The client has left or can't be reached: there is nobody to tell.
    Gone,
    /// 1001: the server stops; come back and resume.
    GoingAway,
    /// 1002: not the WebSocket protocol.
    Protocol,
    /// 1009: a frame over the limit.
    TooBig,
    /// 1011: something can't be read now; come back and resume.
    Internal,
    /// 1013: too many sockets; come back later.
    Busy,
    /// 4001: no good token in time.
    Unauthorized,
    /// 4002: too many malformed frames.
    Malformed,
    /// 4003: the token ended or was revoked; get another one.
    Ended,
    /// 4004: the page's origin is not on the list.
    Origin,
    /// 4008: it read too slowly, or not at all; resume by `after`.
    Slow,
}

impl Close {
    fn words(self) -> (CloseCode, &'static str) {
        match self {
            Self::Gone => (1000, ""),
            Self::GoingAway => (1001, "the server stops"),
            Self::Protocol => (1002, "protocol error"),
            Self::TooBig => (1009, "frame over 64 KiB"),
            Self::Internal => (1011, "try again"),
            Self::Busy => (1013, "too many sockets"),
            Self::Unauthorized => (4001, "authenticate first"),
            Self::Malformed => (4002, "too many malformed frames"),
            Self::Ended => (4003, "the token ended"),
            Self::Origin => (4004, "origin not allowed"),
            Self::Slow => (4008, "too slow, resume by after"),
        }
    }

    /// The close frame; `None` when there is nobody to tell.
    pub(super) fn frame(self) -> Option<CloseFrame> {
        let (code, reason) = self.words();
        (self != Self::Gone).then(|| CloseFrame { code, reason: Utf8Bytes::from_static(reason) })
    }

    /// The code in the last frame of an event stream.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::GoingAway => "going_away",
            Self::Protocol | Self::Malformed => "malformed",
            Self::TooBig => "too_big",
            Self::Internal => "internal",
            Self::Busy => "too_many_sockets",
            Self::Unauthorized => "unauthorized",
            Self::Ended => "token_ended",
            Self::Origin => "origin_not_allowed",
            Self::Slow => "too_slow",
        }
    }

    /// For metrics and the log.
    pub(super) fn code(self) -> CloseCode {
        self.words().0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<ClientFrame, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn client_frames_are_read_strictly() {
        let subscribe = ClientFrame::Subscribe { conversation_id: Some("c".into()), topic: None, after: Some(3) };
        assert_eq!(read(r#"{"type":"subscribe","conversationId":"c","after":3}"#), Ok(subscribe));
        assert_eq!(read(r#"{"type":"auth","token":"t"}"#), Ok(ClientFrame::Auth { token: "t".into() }));
        assert_eq!(read(r#"{"type":"ping"}"#), Ok(ClientFrame::Ping {}));
        for wrong in [
            "",
            "[]",
            r#"{"type":"shout"}"#,
            r#"{"type":"ping","more":1}"#,
            r#"{"type":"subscribe","conversationId":"c","since":3}"#,
            r#"{"type":"subscribe","conversationId":"c","after":-1}"#,
            r#"{"type":"typing"}"#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn server_frames_are_these() {
        assert_eq!(ready().as_str(), r#"{"type":"ready"}"#);
        assert_eq!(error("not_found").as_str(), r#"{"type":"error","code":"not_found"}"#);
        assert_eq!(
            error_about("not_found", "x").as_str(),
            r#"{"type":"error","code":"not_found","conversationId":"x"}"#
        );
        assert_eq!(subscribed_topic("inbox").as_str(), r#"{"type":"subscribed","topic":"inbox"}"#);
        let (id, agent) = (ConversationId::fresh(), ingest::id::AgentId::fresh());
        assert_eq!(
            queue(id, Some(3), None).as_str(),
            format!(r#"{{"type":"queue","conversationId":"{id}","position":3,"etaSeconds":null}}"#)
        );
        assert_eq!(
            presence(id, Person::Agent(agent), None, "away").as_str(),
            format!(
                r#"{{"type":"presence","conversationId":"{id}","authorType":"agent","author":{{"id":"{agent}","name":null}},"status":"away"}}"#
            )
        );
        assert_eq!(
            subscribed(id, 7).as_str(),
            format!(r#"{{"type":"subscribed","conversationId":"{id}","lastSeq":7}}"#)
        );
        assert_eq!(
            typing(id, Person::Agent(agent), Some("Ada")).as_str(),
            format!(
                r#"{{"type":"typing","conversationId":"{id}","authorType":"agent","author":{{"id":"{agent}","name":"Ada"}}}}"#
            )
        );
    }
}
