//! A tenant's own data sources and endpoints. Their rows are not here: they are in the log and its columnar views.

use ingest::id::{DataSourceId, PipeId, TenantId};
use ingest::payload::{PublisherReads, SourceColumn};
use ingest::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A table that the tenant fills.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSource {
    /// Its id.
    pub id: DataSourceId,
    /// The tenant.
    pub tenant: TenantId,
    /// Lower case, unique among the living of the tenant.
    pub name: String,
    /// They never change.
    pub columns: Vec<SourceColumn>,
    /// Which of its rows count; each replacement is the next.
    pub generation: u32,
    /// Rows that count.
    pub rows: u64,
    /// Their bytes in the log.
    pub bytes: u64,
    /// Rows that didn't fit, of all generations.
    pub quarantined: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When rows came in last.
    pub updated_at: Timestamp,
    /// When it was deleted, for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

/// One text of an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PipeVersion {
    /// From 1 on.
    pub version: u32,
    /// The datafile.
    pub text: String,
    /// What its publisher could read; `None` for those that were published before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<PublisherReads>,
    /// When it was published.
    pub at: Timestamp,
}

/// An endpoint that the tenant published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipe {
    /// Its id.
    pub id: PipeId,
    /// The tenant.
    pub tenant: TenantId,
    /// Lower case, unique among the living of the tenant.
    pub name: String,
    /// The newest versions, the newest last; at least one. All are in the log.
    pub versions: Vec<PipeVersion>,
    /// When it was first published.
    pub created_at: Timestamp,
    /// When it was deleted, for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
}

impl Pipe {
    /// The text that is called.
    #[must_use]
    pub fn newest(&self) -> &PipeVersion {
        self.versions.last().expect("a pipe has a version")
    }
}

/// How many living ones a tenant has, as of the last commit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owned {
    /// Data sources.
    pub data_sources: u64,
    /// Endpoints.
    pub pipes: u64,
}
