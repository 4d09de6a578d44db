//! What the publisher of an endpoint can read: taken from the token that publishes, kept with the version, given to the
//! engine at each call. Start at [`reads`].

use super::TokenCaller;
use ingest::payload::PublisherReads as Kept;
use sql::{PublisherReads, Readable, TableName};

/// Bytes of names and row filters that are kept with a version: four times what a JWT can carry. Every version keeps its
/// own, so it's bounded as its text is (400).
const READS_BYTES_MAX: usize = 64 * 1_024;

/// What whoever holds this token can read, to be kept with what they publish.
///
/// # Errors
/// The token has more names and filters than a version keeps.
pub fn reads(token: &TokenCaller) -> Result<Kept, String> {
    let tables = match token.readable() {
        Readable::All => None,
        Readable::Only(tables) => Some(tables.names().map(str::to_owned).collect()),
    };
    let filters = token.scopes.filters().into_iter().map(|(table, conditions)| (table.to_string(), conditions));
    let kept = Kept { tables, filters: filters.collect() };
    let names = kept.tables.iter().flatten().chain(kept.filters.keys());
    let bytes: usize = names.chain(kept.filters.values().flatten()).map(String::len).sum();
    if bytes > READS_BYTES_MAX {
        let error = "the token's tables and row filters have more than";
        return Err(format!("{error} {READS_BYTES_MAX} bytes; publish with a token that has fewer"));
    }
    Ok(kept)
}

/// For the engine.
#[must_use]
pub fn of_version(kept: &Kept) -> PublisherReads {
    let tables = match &kept.tables {
        None => Readable::All,
        Some(tables) => Readable::Only(tables.iter().map(|table| TableName::of(table)).collect()),
    };
    let filters = kept.filters.iter().map(|(table, conditions)| (TableName::of(table), conditions.clone()));
    PublisherReads { tables, filters: filters.collect() }
}
