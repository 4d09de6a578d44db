//! Data sources and endpoints of tenants.

use crate::core::state::{DataSource, Key, Pipe, PipeVersion, State};
use ingest::event::Event;
use ingest::payload::Payload;

/// Texts of an endpoint that stay readable.
const VERSIONS_MAX: usize = 20;

pub(super) fn apply(state: &mut State, event: &Event) {
    let at = event.occurred_at;
    let id = match &event.payload {
        Payload::DataSourceCreated(made) => {
            let source = DataSource {
                id: made.source_id,
                tenant: event.tenant,
                name: made.name.clone(),
                columns: made.columns.clone(),
                generation: 1,
                rows: 0,
                bytes: 0,
                quarantined: 0,
                created_at: at,
                updated_at: at,
                deleted_at: None,
            };
            state.data_sources.insert(made.source_id, source);
            made.source_id
        }
        Payload::RowsAppended(rows) => {
            let Some(source) = state.data_sources.get_mut(&rows.source_id) else { return };
            let (count, bytes) = (u64::from(rows.count), rows.rows.json().len() as u64);
            if rows.quarantined {
                source.quarantined += count;
            } else if rows.generation == source.generation {
                source.rows += count;
                source.bytes += bytes;
            } else {
                // The first of the next generation.
                (source.generation, source.rows, source.bytes) = (rows.generation, count, bytes);
            }
            source.updated_at = at;
            rows.source_id
        }
        Payload::DataSourceReplaced(change) => {
            let Some(source) = state.data_sources.get_mut(&change.source_id) else { return };
            if source.generation != change.generation {
                (source.generation, source.rows, source.bytes) = (change.generation, 0, 0);
            }
            source.updated_at = at;
            change.source_id
        }
        Payload::DataSourceDeleted(change) => {
            let Some(source) = state.data_sources.get_mut(&change.source_id) else { return };
            source.deleted_at = Some(at);
            change.source_id
        }
        _ => return apply_pipe(state, event),
    };
    state.dirty.insert(Key::DataSource(id));
}

fn apply_pipe(state: &mut State, event: &Event) {
    let at = event.occurred_at;
    let id = match &event.payload {
        Payload::PipePublished(made) => {
            let new = || Pipe {
                id: made.pipe_id,
                tenant: event.tenant,
                name: made.name.clone(),
                versions: Vec::new(),
                created_at: at,
                deleted_at: None,
            };
            let pipe = state.pipes.entry(made.pipe_id).or_insert_with(new);
            let (text, reads) = (made.text.clone(), made.reads.clone());
            pipe.versions.push(PipeVersion { version: made.version, text, reads, at });
            let surplus = pipe.versions.len().saturating_sub(VERSIONS_MAX);
            pipe.versions.drain(..surplus);
            made.pipe_id
        }
        Payload::PipeDeleted(change) => {
            let Some(pipe) = state.pipes.get_mut(&change.pipe_id) else { return };
            pipe.deleted_at = Some(at);
            change.pipe_id
        }
        _ => return,
    };
    state.dirty.insert(Key::Pipe(id));
}
