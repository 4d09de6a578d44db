//! Answers that may be long and aren't paged: made piece by piece as their reader takes them, each piece under a hold. So an answer
//! of any length holds a piece or two of memory, however slowly it's read. Start at [`answer`].

use super::page::{Items, held};
use crate::limits::{Reader, Reading};
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use std::io;
use std::sync::Arc;

/// A piece of JSON, and where the answer goes on.
pub(super) type Piece<P> = (Vec<u8>, Option<P>);

/// JSON of the pieces that `make` gives from a place on, until one is the last. An answer of one piece that fails is refused; a
/// longer one breaks off, so that nobody takes a part for the whole.
///
/// # Errors
/// Those of the first piece.
pub(super) async fn answer<P, F, E>(
    reading: &Reading,
    reader: Reader,
    start: P,
    make: impl Fn(P) -> F + Send + Sync + 'static,
) -> Result<Response, E>
where
    P: Send + 'static,
    F: Future<Output = Result<Piece<P>, E>> + Send + 'static,
    E: Send + 'static,
{
    let (first, rest) = piece(reading, reader, make(start)).await?;
    let body = match rest {
        None => Body::from(first),
        Some(place) => {
            let (reading, make) = (reading.clone(), Arc::new(make));
            let pieces = stream::try_unfold((Some(first), Some(place)), move |(ready, place)| {
                let (reading, make) = (reading.clone(), Arc::clone(&make));
                async move {
                    let (bytes, place) = match (ready, place) {
                        (Some(bytes), place) => (bytes, place),
                        (None, None) => return Ok(None),
                        (None, Some(place)) => {
                            let made = piece(&reading, reader, make(place)).await;
                            made.map_err(|_| io::Error::other("the answer broke off"))?
                        }
                    };
                    Ok::<_, io::Error>(Some((bytes, (None, place))))
                }
            });
            Body::from_stream(pieces)
        }
    };
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Where an array goes on.
pub(super) struct At<K> {
    /// Behind this key.
    pub(super) after: K,
    begun: bool,
    any: bool,
}

impl<K> At<K> {
    /// At the begin of a list whose keys are all behind this one.
    pub(super) fn start(after: K) -> Self {
        Self { after, begun: false, any: false }
    }
}

/// The items that come next in `{…"word":[…]}`; `head` is what stands before the first, the end follows the last.
pub(super) fn array<K, T>(head: &str, at: &At<K>, items: &Items<T>, next: Option<K>) -> Piece<At<K>> {
    let mut json = if at.begun { Vec::new() } else { head.as_bytes().to_vec() };
    let inner = items.inner();
    if at.any && !inner.is_empty() {
        json.push(b',');
    }
    json.extend_from_slice(inner);
    if next.is_none() {
        json.extend_from_slice(b"]}");
    }
    let any = at.any || !inner.is_empty();
    (json, next.map(|after| At { after, begun: true, any }))
}

async fn piece<P, E>(
    reading: &Reading,
    reader: Reader,
    making: impl Future<Output = Result<Piece<P>, E>>,
) -> Result<(Bytes, Option<P>), E> {
    let hold = reading.hold(reader).await;
    let (json, place) = making.await?;
    Ok((held(hold, json), place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest::sqlite::RowPage;
    use serde_json::{Value, json};

    /// Whatever pieces it comes in, empty ones too, an array is JSON and whole.
    #[test]
    fn an_array_of_pieces_is_json() {
        let stories: [&[&[u32]]; 6] =
            [&[&[]], &[&[1]], &[&[], &[1, 2]], &[&[1], &[], &[2]], &[&[], &[]], &[&[1], &[2], &[]]];
        for pieces in stories {
            let (mut text, mut at) = (Vec::new(), At::start(0));
            for (number, piece) in pieces.iter().enumerate() {
                let next = (number + 1 < pieces.len()).then_some(number + 1);
                let rows = RowPage { items: piece.iter().map(|item| (0, *item)).collect(), next };
                let (items, next) = Items::of(&rows, |item| Ok(Some(*item))).expect("items");
                let (json, rest) = array("{\"a\":0,\"list\":[", &at, &items, next);
                text.extend(json);
                let Some(rest) = rest else { break };
                at = rest;
            }
            let whole: Value = serde_json::from_slice(&text).expect("JSON");
            assert_eq!(whole, json!({ "a": 0, "list": pieces.concat() }));
        }
    }
}
