//! Lists of what a tenant may have made tens of megabytes of: written as they are read, each part on the engine's threads and in
//! the tenant's turn, so that a list holds neither a socket's thread nor, while its reader is slow, more than a part of memory.
//! Start at [`list`].

use super::piecewise;
use super::problem::Problem;
use super::v0::V0Error;
use crate::app::App;
use crate::limits::Reader;
use axum::response::Response;
use ingest::id::TenantId;
use serde::Serialize;
use std::sync::Arc;

/// Bytes of a part; its last entry may pass that.
const PART_BYTES: usize = 64 * 1024;
/// Entries that are looked at for a part, whether they are shown or not.
const PART_ENTRIES_MAX: usize = 16;

/// One entry: where it goes on after it, and its JSON if it's shown.
pub(super) type Entry<P> = (P, Option<Vec<u8>>);

/// An entry's JSON.
pub(super) fn json(entry: &impl Serialize) -> Result<Vec<u8>, V0Error> {
    serde_json::to_vec(entry).map_err(|error| Problem::internal(&error).into())
}

/// Some of a list.
struct Part<P> {
    json: Vec<u8>,
    /// Something was written before the next part.
    any: bool,
    /// Where it goes on.
    place: Option<P>,
}

/// `{"word":[…]}`, of the entries that `next` gives from a place on, until it gives none.
///
/// # Errors
/// Those of the first part; a longer list breaks off.
pub(super) async fn list<P, F>(
    app: &Arc<App>,
    tenant: TenantId,
    word: &str,
    start: P,
    next: F,
) -> Result<Response, V0Error>
where
    P: Send + 'static,
    F: Fn(P) -> Result<Option<Entry<P>>, V0Error> + Send + Sync + 'static,
{
    let (next, shared) = (Arc::new(next), Arc::clone(app));
    let begun = Part { json: format!("{{\"{word}\":[").into_bytes(), any: false, place: Some(start) };
    let make = move |part: Part<P>| {
        let (next, app) = (Arc::clone(&next), Arc::clone(&shared));
        async move {
            let part = app.reports.in_turn(&tenant.to_string(), move || Ok(read(part, &*next))).await??;
            let Part { json, any, place } = part;
            let rest = place.map(|place| Part { json: Vec::new(), any, place: Some(place) });
            Ok::<_, V0Error>((json, rest))
        }
    };
    piecewise::answer(&app.limiter.reading, Reader::token(tenant), begun, make).await
}

fn read<P>(mut part: Part<P>, next: impl Fn(P) -> Result<Option<Entry<P>>, V0Error>) -> Result<Part<P>, V0Error> {
    for _ in 0..PART_ENTRIES_MAX {
        let Some(place) = part.place.take() else { break };
        let Some((place, entry)) = next(place)? else {
            part.json.extend_from_slice(b"]}");
            break;
        };
        part.place = Some(place);
        if let Some(entry) = entry {
            part.json.extend_from_slice(if part.any { b"," } else { b"" });
            part.json.extend_from_slice(&entry);
            part.any = true;
        }
        if part.json.len() >= PART_BYTES {
            break;
        }
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// However many of its entries are shown, a list is JSON.
    #[test]
    fn lists_are_json_whatever_is_shown() {
        for (count, shown) in [(0, 1), (1, 1), (16, 1), (17, 1), (100, 1), (100, 3), (100, 40), (100, 99), (100, 101)] {
            let next = |at: usize| {
                let entry = (at % shown == shown - 1).then(|| b"1".to_vec());
                Ok((at < count).then_some((at + 1, entry)))
            };
            let (mut text, mut parts) = (b"{\"numbers\":[".to_vec(), 0);
            let mut part = Part { json: Vec::new(), any: false, place: Some(0) };
            while part.place.is_some() {
                part = read(Part { json: Vec::new(), ..part }, next).expect("a part");
                text.extend_from_slice(&part.json);
                parts += 1;
            }
            let expected = vec![1; count / shown];
            assert_eq!(serde_json::from_slice::<Value>(&text).expect("JSON"), json!({ "numbers": expected }));
            assert_eq!(parts, 1 + count / PART_ENTRIES_MAX);
        }
        let large = |at: usize| Ok((at < 3).then(|| (at + 1, Some(vec![b'1'; PART_BYTES]))));
        let part = read(Part { json: Vec::new(), any: false, place: Some(0) }, large).expect("a part");
        assert_eq!((part.json.len(), part.place), (PART_BYTES, Some(1)));
    }
}
