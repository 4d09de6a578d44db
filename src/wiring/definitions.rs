//! How the facts' tables show their stored columns under each version of the metrics' definitions: the plain names are the
//! call's version, those with a version's number are that version's always. Start at [`view`].

use arrow::datatypes::{Field, Schema, SchemaRef};
use sinks::parquet::Table;
use sql::{MetricsVersion, NewestBy, TableView};
use std::sync::{Arc, LazyLock};

/// Of a thread's ratings the last one is shown. Their times rise with their places as long as the clock does.
const ONE_RATING_A_THREAD: NewestBy = NewestBy {
    key: "thread_id_v2",
    version: "seq",
    fixed: &["conversation_id", "thread_id_v2"],
    rising: &["seq", "occurred_at"],
};

/// The columns that SQL sees: those that are stored, and version 1 under its number.
pub fn shown(table: Table) -> SchemaRef {
    static MESSAGES: LazyLock<SchemaRef> = LazyLock::new(|| {
        let stored = Table::Messages.schema();
        let first = stored.field_with_name("reply_seconds").expect("a column of the table").clone();
        let first: Arc<Field> = Arc::new(first.with_name("reply_seconds_v1"));
        Arc::new(Schema::new(stored.fields().iter().cloned().chain([first]).collect::<Vec<_>>()))
    });
    match table {
        Table::Messages => Arc::clone(&MESSAGES),
        other => other.schema(),
    }
}

/// What a table shows under a version; `None` for what has one definition.
pub fn view(table: Table, metrics: MetricsVersion) -> Option<TableView> {
    use MetricsVersion::{V1, V2};
    let (columns, newest_by): (&[(&str, &str)], Option<NewestBy>) = match (table, metrics) {
        (Table::Messages, V1) => (&[("reply_seconds_v1", "reply_seconds")], None),
        (Table::Messages, V2) => {
            (&[("reply_seconds", "reply_seconds_v2"), ("reply_seconds_v1", "reply_seconds")], None)
        }
        (Table::Ratings, V2) => {
            (&[("agent_id", "agent_id_v2"), ("group_id", "group_id_v2")], Some(ONE_RATING_A_THREAD))
        }
        _ => return None,
    };
    Some(TableView { columns, newest_by })
}
