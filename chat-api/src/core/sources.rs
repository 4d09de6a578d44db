//! A tenant's own data sources and endpoints: names, quotas, generations. What is in rows and texts was checked before;
//! that it was checked against the columns that count is decided here.

use super::command::{Command, CommandKind as K, RowChunk};
use super::decide::{Emit, Rejection};
use super::grants::{self, Grant, ScopeKind};
use super::state::{DataSource, Pipe, State};
use ingest::id::{DataSourceId, TenantId};
use ingest::payload::{
    DataSourceCreated, DataSourceDeleted, DataSourceReplaced, PipeDeleted, PipePublished, RowsAppended,
};

/// Living data sources of a tenant: every query looks at their names.
pub const DATA_SOURCES_MAX: u64 = 200;
/// Living endpoints of a tenant.
pub const PIPES_MAX: u64 = 500;
/// The code of a refusal after which rows are to be checked again: the source is another one now.
pub const SOURCE_CHANGED: &str = "data_source_changed";

/// `false` when the command is about something else.
pub(super) fn decide(state: &State, command: &Command, emit: &mut Emit<'_>) -> Result<bool, Rejection> {
    match &command.kind {
        K::CreateDataSource(made) => {
            require(state, command, ScopeKind::DatasourcesCreate)?;
            if state.data_source(command.tenant, &made.name).is_some() {
                let detail = format!("there is a data source '{}'", made.name);
                return Err(Rejection::new(409, "name_taken", detail).at("name"));
            }
            create(state, command.tenant, made, emit)?;
        }
        K::AppendRows { name, source_id, create, replace, chunks } => {
            require(state, command, ScopeKind::DatasourcesAppend)?;
            let known = state.data_source(command.tenant, name);
            append(state, command.tenant, known, (*source_id, create.as_deref(), *replace), chunks, emit)?;
        }
        K::DeleteDataSource { name } => {
            require(state, command, ScopeKind::DatasourcesDrop)?;
            let found = state.data_source(command.tenant, name).ok_or_else(|| Rejection::not_found("data source"))?;
            emit.tenant(DataSourceDeleted { source_id: found.id });
        }
        K::PublishPipe { pipe_id, name, text, reads } => {
            grants::require(state, command, Grant::Endpoint(reads))?;
            let known = state.pipe(command.tenant, name);
            if known.is_none() && owned(state, command.tenant).pipes >= PIPES_MAX {
                return Err(Rejection::new(403, "too_many", format!("a tenant has at most {PIPES_MAX} endpoints")));
            }
            // The same text under other rights is another version: it shows other rows.
            let same = |pipe: &Pipe| pipe.newest().text == *text && pipe.newest().reads.as_ref() == Some(reads);
            if known.is_some_and(same) {
                return Ok(true);
            }
            emit.tenant(PipePublished {
                pipe_id: known.map_or(*pipe_id, |pipe| pipe.id),
                name: name.clone(),
                version: known.map_or(1, |pipe| pipe.newest().version + 1),
                text: text.clone(),
                reads: Some(reads.clone()),
            });
        }
        K::DeletePipe { name } => {
            require(state, command, ScopeKind::PipesDrop)?;
            let found = state.pipe(command.tenant, name).ok_or_else(|| Rejection::not_found("pipe"))?;
            emit.tenant(PipeDeleted { pipe_id: found.id });
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// Tokens were held to their scopes before; an agent needs what it takes to give such a scope.
fn require(state: &State, command: &Command, kind: ScopeKind) -> Result<(), Rejection> {
    grants::require(state, command, Grant::Scope(kind))
}

fn owned(state: &State, tenant: TenantId) -> super::state::Owned {
    state.owned.get(&tenant).copied().unwrap_or_default()
}

fn create(state: &State, tenant: TenantId, made: &DataSourceCreated, emit: &mut Emit<'_>) -> Result<(), Rejection> {
    if owned(state, tenant).data_sources >= DATA_SOURCES_MAX {
        let detail = format!("a tenant has at most {DATA_SOURCES_MAX} data sources");
        return Err(Rejection::new(403, "too_many", detail));
    }
    emit.tenant(made.clone());
    Ok(())
}

fn append(
    state: &State,
    tenant: TenantId,
    known: Option<&DataSource>,
    (source_id, made, replace): (DataSourceId, Option<&DataSourceCreated>, bool),
    chunks: &[RowChunk],
    emit: &mut Emit<'_>,
) -> Result<(), Rejection> {
    let changed = || Rejection::new(409, SOURCE_CHANGED, "the data source was changed meanwhile; send the rows again");
    let current = match (known, made) {
        (Some(source), _) if source.id == source_id => source.generation,
        (None, Some(made)) => {
            create(state, tenant, made, emit)?;
            1
        }
        _ => return Err(changed()),
    };
    let replace = replace && known.is_some();
    let generation = if replace { current + 1 } else { current };
    for RowChunk { quarantined, count, rows } in chunks {
        let (quarantined, count, rows) = (*quarantined, *count, rows.clone());
        emit.tenant(RowsAppended { source_id, generation, quarantined, count, rows });
    }
    if replace {
        // Last: until it is read, none of the new rows is seen.
        emit.tenant(DataSourceReplaced { source_id, generation });
    }
    Ok(())
}

impl State {
    /// The tenant's living data source of this name.
    #[must_use]
    pub fn data_source(&self, tenant: TenantId, name: &str) -> Option<&DataSource> {
        let living = |found: &&DataSource| found.deleted_at.is_none() && found.tenant == tenant && found.name == name;
        self.data_sources.values().find(living)
    }

    /// The tenant's living endpoint of this name.
    #[must_use]
    pub fn pipe(&self, tenant: TenantId, name: &str) -> Option<&Pipe> {
        let living = |found: &&Pipe| found.deleted_at.is_none() && found.tenant == tenant && found.name == name;
        self.pipes.values().find(living)
    }
}
