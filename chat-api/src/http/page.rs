//! Lists: `{"items":[…],"nextCursor":"…"|null}`, and cursors, which mean nothing to clients.

use super::problem::{Outcome, Problem};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts; `null` at the end.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// The page after `after` of a list that is short and ordered by id.
    pub fn by_id(list: Vec<T>, after: Option<Uuid>, limit: usize, id: impl Fn(&T) -> Uuid) -> Self {
        let mut items: Vec<T> =
            list.into_iter().filter(|item| after.is_none_or(|after| id(item) > after)).take(limit + 1).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let next_cursor = items.last().filter(|_| more).map(|last| BASE64.encode(id(last).as_bytes()));
        Self { items, next_cursor }
    }

    /// A list that is short enough for one page.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, next_cursor: None }
    }

    /// The same page of something made from each item.
    ///
    /// # Errors
    /// The first that `make` gives.
    pub fn try_map<U, E>(self, make: impl FnMut(T) -> Result<U, E>) -> Result<Page<U>, E> {
        let items = self.items.into_iter().map(make).collect::<Result<_, E>>()?;
        Ok(Page { items, next_cursor: self.next_cursor })
    }
}

fn invalid_cursor() -> Problem {
    Problem::invalid("cursor", "'cursor' is not a nextCursor of this list")
}

/// Reads a cursor of a list by id.
///
/// # Errors
/// 422 for what no list gave.
pub fn after_id(cursor: Option<&str>) -> Outcome<Option<Uuid>> {
    let Some(cursor) = cursor else { return Ok(None) };
    let bytes = BASE64.decode(cursor).map_err(|_| invalid_cursor())?;
    Uuid::from_slice(&bytes).map(Some).map_err(|_| invalid_cursor())
}

/// A cursor of a list by time and id.
#[must_use]
pub fn time_cursor(at: i64, id: Uuid) -> String {
    let mut bytes = at.to_be_bytes().to_vec();
    bytes.extend_from_slice(id.as_bytes());
    BASE64.encode(bytes)
}

/// Reads a cursor of a list by time and id.
///
/// # Errors
/// 422 for what no list gave.
pub fn before_time(cursor: Option<&str>) -> Outcome<Option<(i64, Uuid)>> {
    let Some(cursor) = cursor else { return Ok(None) };
    let bytes = BASE64.decode(cursor).map_err(|_| invalid_cursor())?;
    let (at, id) = bytes.split_at_checked(8).ok_or_else(invalid_cursor)?;
    let at = i64::from_be_bytes(at.try_into().map_err(|_| invalid_cursor())?);
    let id = Uuid::from_slice(id).map_err(|_| invalid_cursor())?;
    Ok(Some((at, id)))
}
