//! A mail as bytes. Headers are built, never pasted: a name or an address can't add one.

use super::address::address;
use super::names::without_links;
use super::sink::SendError;
use super::templates::Words;
use ingest::id::MailId;
use ingest::time::Timestamp;
use lettre::Message;
use lettre::message::header::{Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, MultiPart, SinglePart};
use std::fmt;
use std::time::{Duration, SystemTime};

/// Characters of a display name or a subject at most; what is longer is cut.
const HEADER_CHARS_MAX: usize = 120;

/// Who gets a mail. Its `Debug` shows neither name nor address.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Display name, as the person typed it.
    pub name: Option<String>,
    /// Address, as the person typed it.
    pub email: String,
    /// They have used something that was mailed to it.
    pub proven: bool,
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recipient(…)")
    }
}

/// One mail to one person.
#[derive(Debug, Clone)]
pub struct Mail {
    /// Becomes the Message-ID and the name in the spool: the same mail is recognizably the same.
    pub id: MailId,
    /// Who gets it.
    pub to: Recipient,
    /// Subject and body.
    pub words: Words,
    /// The Date header: when the mail was requested, so that a repeat has the same bytes.
    pub date: Timestamp,
}

/// Tells other machines not to answer (RFC 3834).
#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// Builds the message.
///
/// # Errors
/// `Refused` for an address that isn't one: no server would take it.
pub(crate) fn build(from: &Mailbox, mail: &Mail) -> Result<Message, SendError> {
    let refused = |reason: &str| SendError::Refused { reason: reason.to_owned() };
    let email = mail.to.email.trim();
    if email.chars().any(char::is_control) {
        return Err(refused("the address has control characters"));
    }
    let address = address(email).ok_or_else(|| refused("the address is not one"))?;
    let name = mail.to.name.as_deref().map(without_links).filter(|name| !name.is_empty());
    let milliseconds = u64::try_from(mail.date.0).unwrap_or(0);
    let body = MultiPart::alternative()
        .boundary(format!("parlance-{}", mail.id))
        .singlepart(SinglePart::plain(mail.words.text.clone()))
        .singlepart(SinglePart::html(mail.words.html.clone()));
    Message::builder()
        .message_id(Some(format!("<{}@{}>", mail.id, from.email.domain())))
        .date(SystemTime::UNIX_EPOCH + Duration::from_millis(milliseconds))
        .from(from.clone())
        .to(Mailbox::new(name, address))
        .subject(one_line(&mail.words.subject))
        .header(AutoSubmitted)
        .multipart(body)
        .map_err(|_| refused("the message can't be built"))
}

/// One line without control characters, cut to a length that every server takes.
fn one_line(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    spaced.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(HEADER_CHARS_MAX).collect()
}
