//! The words of the mails: subject, plain text and simple HTML. Pure. Whatever comes from outside is escaped.

use super::names::without_links;
use ingest::id::ConversationId;
use ingest::payload::MailKind;

/// A mail's subject and its body in two forms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// One line.
    pub subject: String,
    /// Plain text.
    pub text: String,
    /// The same as HTML.
    pub html: String,
}

/// What a mail is about.
#[derive(Clone, Copy)]
pub struct About<'a> {
    /// The tenant's display name, as its owner typed it: it's shown without links.
    pub tenant: &'a str,
    /// The visitor's readable id: two words and a number.
    pub readable_id: &'a str,
    /// The conversation, if it's about one.
    pub conversation: Option<ConversationId>,
    /// The code, or the token of the link; empty for mails without.
    pub secret: &'a str,
    /// Where the installation is, without a slash at the end.
    pub public_url: &'a str,
}

/// The words of one kind of mail.
#[must_use]
pub fn words(kind: MailKind, about: About<'_>) -> Words {
    let tenant = without_links(about.tenant);
    let about = About { tenant: &tenant, ..about };
    match kind {
        MailKind::Welcome => welcome(about),
        MailKind::NewConversation => new_conversation(about),
        MailKind::Otp => otp(about),
        MailKind::PasswordReset => password_reset(about),
        MailKind::Invitation => invitation(about),
    }
}

fn welcome(About { tenant, readable_id, .. }: About<'_>) -> Words {
    let lines = [
        format!(
            "Thank you for writing to {tenant}. We have your message and will answer in the chat as soon as we can."
        ),
        format!("Your reference is {readable_id}. You can go on with the chat on the page where you started it."),
    ];
    Words {
        subject: format!("{tenant}: we have your message ({readable_id})"),
        text: text(&lines, None),
        html: html(&lines, None),
    }
}

fn new_conversation(About { tenant, readable_id, conversation, public_url, .. }: About<'_>) -> Words {
    let lines = [
        format!("{readable_id} has started a conversation with {tenant} while you were offline."),
        "Nobody needs to wait for you to read this mail: the conversation is in the inbox.".to_owned(),
    ];
    let link = match conversation {
        Some(conversation) => format!("{public_url}/inbox?conversation={conversation}"),
        None => format!("{public_url}/inbox"),
    };
    Words {
        subject: format!("{tenant}: new conversation with {readable_id}"),
        text: text(&lines, Some(&link)),
        html: html(&lines, Some(("Open the conversation", &link))),
    }
}

fn otp(About { tenant, secret, .. }: About<'_>) -> Words {
    let lines = [
        format!("Your code to sign in to {tenant} is {secret}. It is good once, for ten minutes."),
        "If you didn't ask for it, you can ignore this mail. Give the code to nobody.".to_owned(),
    ];
    Words { subject: format!("{tenant}: your sign-in code"), text: text(&lines, None), html: html(&lines, None) }
}

/// The token stands behind `#`, where no server's log and no referrer has it.
fn password_reset(About { tenant, secret, public_url, .. }: About<'_>) -> Words {
    let lines = [
        format!("Someone, hopefully you, wants to set a new password for your account with {tenant}."),
        "The link is good once, for an hour. If it wasn't you, you can ignore this mail: nothing has changed."
            .to_owned(),
    ];
    let link = format!("{public_url}/reset-password#token={secret}");
    Words {
        subject: format!("{tenant}: set a new password"),
        text: text(&lines, Some(&link)),
        html: html(&lines, Some(("Set a new password", &link))),
    }
}

fn invitation(About { tenant, secret, public_url, .. }: About<'_>) -> Words {
    let lines = [
        format!("You are invited to answer the visitors of {tenant}."),
        "The link is good once, for seven days. If you expected no invitation, you can ignore this mail.".to_owned(),
    ];
    let link = format!("{public_url}/accept-invitation#token={secret}");
    Words {
        subject: format!("{tenant} invites you"),
        text: text(&lines, Some(&link)),
        html: html(&lines, Some(("Accept the invitation", &link))),
    }
}

fn text(lines: &[String], link: Option<&str>) -> String {
    let mut text = lines.join("\r\n\r\n");
    if let Some(link) = link {
        text.push_str("\r\n\r\n");
        text.push_str(link);
    }
    text.push_str("\r\n");
    text
}

fn html(lines: &[String], link: Option<(&str, &str)>) -> String {
    let mut html = String::from("<!doctype html>\r\n<html><body style=\"font-family: sans-serif\">\r\n");
    for line in lines {
        html.push_str(&format!("<p>{}</p>\r\n", escape(line)));
    }
    if let Some((label, link)) = link {
        html.push_str(&format!("<p><a href=\"{}\">{}</a></p>\r\n", escape(link), escape(label)));
    }
    html.push_str("</body></html>\r\n");
    html
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(tenant: &'static str) -> About<'static> {
        let conversation = ConversationId::derived(&[b"c1"]);
        About {
            tenant,
            readable_id: "calm-otter-7",
            conversation: Some(conversation),
            secret: "s3cret",
            public_url: "https://chat.example",
        }
    }

    #[test]
    fn the_agents_mail_links_to_the_conversation() {
        let words = words(MailKind::NewConversation, about("Acme"));
        assert_eq!(words.subject, "Acme: new conversation with calm-otter-7");
        let link = format!("https://chat.example/inbox?conversation={}", ConversationId::derived(&[b"c1"]));
        assert!(words.text.contains(&link) && words.html.contains(&link));
    }

    /// The secret is in the body, as a code or behind a link's `#`, and never in the subject.
    #[test]
    fn a_secret_is_in_its_mails_body_only() {
        let links = [
            (MailKind::Otp, "code to sign in to Acme is s3cret."),
            (MailKind::PasswordReset, "https://chat.example/reset-password#token=s3cret"),
            (MailKind::Invitation, "https://chat.example/accept-invitation#token=s3cret"),
        ];
        for (kind, found) in links {
            let words = words(kind, about("Acme"));
            assert!(words.text.contains(found) && words.html.contains(found), "{}", words.text);
            assert!(!words.subject.contains("s3cret"));
        }
        for kind in [MailKind::Welcome, MailKind::NewConversation] {
            assert!(!words(kind, about("Acme")).text.contains("s3cret"));
        }
    }

    /// A tenant's name is text, not markup.
    #[test]
    fn names_cant_add_markup() {
        for kind in MailKind::ALL {
            let words = words(kind, about("<img src=x onerror='a' & \"b\">"));
            assert!(!words.html.contains("<img"), "{}", words.html);
            assert!(words.html.contains("img src x onerror &#39;a&#39; &amp; b"), "{}", words.html);
        }
    }

    /// Nor is it something to click on.
    #[test]
    fn names_cant_add_links() {
        for kind in MailKind::ALL {
            let words = words(kind, about("You have won! https://evil.example/claim?id=1 www.evil.example"));
            for text in [&words.subject, &words.text, &words.html] {
                assert!(!text.contains("evil.example"), "{text}");
            }
        }
    }
}
