//! The mail port: one mail out, or why not and whether to try again. Two adapters, chosen by the configuration.

use super::config::{ConfigError, MailConfig, MailTarget};
use super::message::Mail;
use super::server::Server;
use super::spool::Spool;
use std::sync::atomic::{AtomicU8, Ordering};

/// How far a mail has come on its way to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendStage {
    /// Nothing of it was said: there is no connection yet.
    Connecting,
    /// The server is told sender and recipient. A mail that ends here wasn't taken.
    Envelope,
    /// The server has its words, or some. It may take it, whatever becomes of the connection.
    Content,
}

/// The stage of one try, for who waits for it.
#[derive(Debug, Default)]
pub struct SendProgress(AtomicU8);

impl SendProgress {
    /// The stage now.
    #[must_use]
    pub fn stage(&self) -> SendStage {
        match self.0.load(Ordering::Relaxed) {
            0 => SendStage::Connecting,
            1 => SendStage::Envelope,
            _ => SendStage::Content,
        }
    }

    pub(super) fn reached(&self, stage: SendStage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }
}

/// Takes mails. Cheap to share behind an `Arc`; sends in parallel.
pub struct Mailer {
    adapter: Adapter,
}

enum Adapter {
    Spool(Spool),
    Server(Box<Server>),
}

/// A mail that was not taken. The reasons hold no address and no word of the mail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// This mail will never be taken. Never retry.
    #[error("failed to send: {reason}")]
    Refused {
        /// For the log and the status.
        reason: String,
    },
    /// This mail was not taken now. Retry it later.
    #[error("failed to send for now: {reason}")]
    Retry {
        /// For the log and the status.
        reason: String,
    },
    /// The server has the mail and didn't say whether it takes it. A retry may be a second copy.
    #[error("failed to learn whether the mail was taken: {reason}")]
    Unknown {
        /// For the log and the status.
        reason: String,
    },
    /// No mail can be sent now. Retry all of them later.
    #[error("failed to reach the mail server: {reason}")]
    Unreachable {
        /// For the log and the status.
        reason: String,
    },
}

impl Mailer {
    /// The adapter that `config` names. Connects only when there is something to send.
    ///
    /// # Errors
    /// [`ConfigError::Tls`] when TLS is wanted and the system's certificates can't be used.
    pub fn new(config: &MailConfig) -> Result<Self, ConfigError> {
        let adapter = match &config.target {
            MailTarget::Spool(dir) => Adapter::Spool(Spool::new(dir.clone(), config.from.clone())),
            MailTarget::Server(server) => Adapter::Server(Box::new(Server::new(server.clone(), config.from.clone())?)),
        };
        Ok(Self { adapter })
    }

    /// Hands a mail over. `Ok` means that the server has taken it, or that it lies synced in the spool. May be dropped at
    /// any time; `progress` tells what that means for the mail.
    ///
    /// # Errors
    /// [`SendError`] says whether a retry makes sense.
    pub async fn send(&self, mail: &Mail, progress: &SendProgress) -> Result<(), SendError> {
        match &self.adapter {
            Adapter::Spool(spool) => spool.send(mail).await,
            Adapter::Server(server) => server.send(mail, progress).await,
        }
    }

    /// The spool, if that is where mail goes.
    #[must_use]
    pub fn spool(&self) -> Option<&Spool> {
        match &self.adapter {
            Adapter::Spool(spool) => Some(spool),
            Adapter::Server(_) => None,
        }
    }

    /// Closes idle connections.
    pub async fn close(&self) {
        if let Adapter::Server(server) = &self.adapter {
            server.close().await;
        }
    }
}
