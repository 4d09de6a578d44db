//! Whether there is room for what somebody wants written: their quotas, and the disk. Every door asks here.

use super::disk::{Disk, LowDisk, Writes};
use super::quotas::{ByteQuota, ByteQuotas, Usage, UsedUp, Whose};
use ingest::id::{ChatbotId, TenantId, VisitorId};
use ingest::time::Timestamp;

/// What is written that has no words of its own comes to some hundred bytes; a command is refused when less is left.
const COMMAND_BYTES: u64 = 1_024;
/// Part of a tenant's quota of text that its visitors leave to its agents: one in so many.
const AGENTS_SHARE: u64 = 4;

/// There is no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSpace {
    /// A quota is used up.
    UsedUp(UsedUp),
    /// The disk is nearly full.
    Disk(LowDisk),
}

impl From<UsedUp> for NoSpace {
    fn from(used_up: UsedUp) -> Self {
        Self::UsedUp(used_up)
    }
}

impl From<LowDisk> for NoSpace {
    fn from(low: LowDisk) -> Self {
        Self::Disk(low)
    }
}

/// Quotas and the disk.
#[derive(Debug)]
pub struct Room {
    /// What was used of the quotas.
    pub usage: Usage,
    /// The disk.
    pub disk: Disk,
}

/// Who sends a file.
#[derive(Debug, Clone, Copy)]
pub struct FileSender {
    /// In whose conversation.
    pub tenant: TenantId,
    /// The visitor, and the chatbot they came through; none for an agent.
    pub visitor: Option<(VisitorId, ChatbotId)>,
}

impl FileSender {
    fn quotas(self) -> Vec<(ByteQuota, Whose)> {
        let tenant = *self.tenant.bytes();
        let mut quotas = vec![(ByteQuota::TenantFiles, tenant), (ByteQuota::TenantFilesKept, tenant)];
        if let Some((visitor, chatbot)) = self.visitor {
            quotas.push((ByteQuota::VisitorFiles, *visitor.bytes()));
            quotas.push((ByteQuota::ChatbotFiles, *chatbot.bytes()));
        }
        quotas
    }
}

impl Room {
    /// Room within these quotas, on this disk.
    #[must_use]
    pub fn new(quotas: ByteQuotas, disk: Disk) -> Self {
        Self { usage: Usage::new(quotas), disk }
    }

    /// Room for everything.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(ByteQuotas::off(), Disk::unwatched())
    }

    /// For a visitor's writing, or a session's beginning when there is no visitor yet.
    ///
    /// # Errors
    /// See [`NoSpace`]; so for all here.
    pub fn visitor(&self, tenant: TenantId, chatbot: ChatbotId, visitor: Option<VisitorId>) -> Result<(), NoSpace> {
        let now = Timestamp::now().0;
        let tenant = *tenant.bytes();
        let mut own = vec![(ByteQuota::ChatbotText, *chatbot.bytes()), (ByteQuota::TenantLog, tenant)];
        own.extend(visitor.map(|visitor| (ByteQuota::VisitorText, *visitor.bytes())));
        self.usage.check(&own, COMMAND_BYTES, now)?;
        let left = self.usage.quota(ByteQuota::TenantText) / AGENTS_SHARE;
        self.usage.check(&[(ByteQuota::TenantText, tenant)], left, now)?;
        if visitor.is_none() {
            self.disk.room(Writes::Conversation, 0)?;
        }
        Ok(())
    }

    /// For an agent's, a job's or an import's text.
    ///
    /// # Errors
    /// See [`NoSpace`].
    pub fn text(&self, tenant: TenantId) -> Result<(), NoSpace> {
        let own = [ByteQuota::TenantText, ByteQuota::TenantLog].map(|quota| (quota, *tenant.bytes()));
        Ok(self.usage.check(&own, COMMAND_BYTES, Timestamp::now().0)?)
    }

    /// For transcripts of so many bytes.
    ///
    /// # Errors
    /// See [`NoSpace`].
    pub fn transcripts(&self, tenant: TenantId, bytes: u64) -> Result<(), NoSpace> {
        self.disk.room(Writes::Bulk, bytes)?;
        let own = [ByteQuota::TenantText, ByteQuota::TenantLog].map(|quota| (quota, *tenant.bytes()));
        Ok(self.usage.check(&own, bytes, Timestamp::now().0)?)
    }

    /// For so many bytes of a tenant's own rows.
    ///
    /// # Errors
    /// See [`NoSpace`].
    pub fn rows(&self, tenant: TenantId, bytes: u64) -> Result<(), NoSpace> {
        self.disk.room(Writes::Bulk, bytes)?;
        let own = [ByteQuota::TenantRows, ByteQuota::TenantLog].map(|quota| (quota, *tenant.bytes()));
        Ok(self.usage.check(&own, bytes, Timestamp::now().0)?)
    }

    /// Takes room for a file of so many bytes.
    ///
    /// # Errors
    /// See [`NoSpace`].
    pub fn take_file(&self, sender: FileSender, bytes: u64) -> Result<(), NoSpace> {
        self.disk.room(Writes::Bulk, bytes)?;
        Ok(self.usage.take(&sender.quotas(), bytes, Timestamp::now().0)?)
    }

    /// What was taken for a file and isn't needed.
    pub fn give_back_file(&self, sender: FileSender, bytes: u64) {
        self.usage.give_back(&sender.quotas(), bytes, Timestamp::now().0);
    }
}
