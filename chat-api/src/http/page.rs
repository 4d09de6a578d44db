//! Lists: `{"items":[…],"nextCursor":"…"|null}`, and cursors, which mean nothing to clients.
//!
//! A page is read while its reader holds room for it ([`Reading`](crate::limits::Reading)), and keeps that until the answer is
//! taken. It ends by number or by bytes, of its rows and of its JSON. There is no other way to make one: [`Page::of`], or
//! [`Items::of`] for lists in an answer of another shape, out of a [`RowPage`].

use super::problem::{Outcome, Problem};
use super::surface::describe::{Gives, Operation};
use crate::limits::Hold;
use axum::body::{Body, Bytes};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use ingest::sqlite::{PAGE_BYTES_MAX, RowPage};
use schemars::JsonSchema;
use schemars::r#gen::SchemaGenerator;
use schemars::schema::Schema;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::marker::PhantomData;
use uuid::Uuid;

/// One page of a list.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// The items; fewer than `limit` where they are large.
    pub items: Items<T>,
    /// Where the next page starts; `null` at the end.
    pub next_cursor: Option<String>,
}

impl<T: Serialize> Page<T> {
    /// A page of what `view` makes of the rows, those aside that it gives nothing for.
    ///
    /// # Errors
    /// The first that `view` gives.
    pub fn of<K: Clone, R>(
        hold: Hold,
        rows: &RowPage<K, R>,
        cursor: impl Fn(&K) -> String,
        view: impl FnMut(&R) -> Outcome<Option<T>>,
    ) -> Outcome<Held<Self>> {
        let (items, next) = Items::of(rows, view)?;
        Ok(Held::new(hold, Self { items, next_cursor: next.as_ref().map(cursor) }))
    }
}

/// The items of a page, as JSON.
#[derive(Debug)]
pub struct Items<T> {
    json: Box<RawValue>,
    shape: PhantomData<fn() -> T>,
}

impl<T: Serialize> Items<T> {
    /// As many as a page has room for, at least one; and after which key the list goes on, if it does.
    ///
    /// # Errors
    /// The first that `view` gives.
    pub fn of<K: Clone, R>(
        rows: &RowPage<K, R>,
        mut view: impl FnMut(&R) -> Outcome<Option<T>>,
    ) -> Outcome<(Self, Option<K>)> {
        let (mut json, mut last, mut next) = (vec![b'['], None, rows.next.clone());
        for (key, row) in &rows.items {
            if let Some(item) = view(row)?
                && !add(&mut json, &item)?
            {
                next = last;
                break;
            }
            last = Some(key.clone());
        }
        json.push(b']');
        Ok((Self::raw(json)?, next))
    }

    /// A list that is part of the program: its length is known.
    ///
    /// # Errors
    /// 500.
    pub fn fixed(items: &[T]) -> Outcome<Self> {
        Self::raw(serde_json::to_vec(items).map_err(|error| Problem::internal(&error))?)
    }

    fn raw(json: Vec<u8>) -> Outcome<Self> {
        let text = String::from_utf8(json).map_err(|error| Problem::internal(&error))?;
        let json = RawValue::from_string(text).map_err(|error| Problem::internal(&error))?;
        Ok(Self { json, shape: PhantomData })
    }
}

impl<T> Items<T> {
    /// Their JSON, without the brackets.
    pub(super) fn inner(&self) -> &[u8] {
        let json = self.json.get().as_bytes();
        &json[1..json.len() - 1]
    }
}

/// Writes an item behind the others; `false`, and nothing, where it has no room.
fn add(json: &mut Vec<u8>, item: &impl Serialize) -> Outcome<bool> {
    let begin = json.len();
    let is_first = begin == 1;
    if !is_first {
        json.push(b',');
    }
    serde_json::to_writer(&mut *json, item).map_err(|error| Problem::internal(&error))?;
    let fits = is_first || json.len() <= PAGE_BYTES_MAX;
    if !fits {
        json.truncate(begin);
    }
    Ok(fits)
}

impl<T> Serialize for Items<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Items<T> {
    fn is_referenceable() -> bool {
        false
    }

    fn schema_name() -> String {
        Vec::<T>::schema_name()
    }

    fn json_schema(shapes: &mut SchemaGenerator) -> Schema {
        Vec::<T>::json_schema(shapes)
    }
}

/// An answer that counts as held until its reader has taken it.
pub struct Held<T> {
    hold: Hold,
    body: T,
}

impl<T> Held<T> {
    /// What was read under this hold.
    pub fn new(hold: Hold, body: T) -> Self {
        Self { hold, body }
    }
}

impl<T: Serialize> IntoResponse for Held<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.body) {
            Ok(json) => {
                ([(header::CONTENT_TYPE, "application/json")], Body::from(held(self.hold, json))).into_response()
            }
            Err(error) => Problem::internal(&error).into_response(),
        }
    }
}

impl<T: JsonSchema> Gives for Held<T> {
    fn describe(operation: &mut Operation<'_>) {
        operation.gives_json::<T>();
    }
}

/// Bytes that keep their hold until the connection has written them, or is gone.
pub(crate) fn held(mut hold: Hold, bytes: Vec<u8>) -> Bytes {
    struct Owner {
        bytes: Vec<u8>,
        _hold: Hold,
    }
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    hold.becomes(bytes.len());
    Bytes::from_owner(Owner { bytes, _hold: hold })
}

fn invalid_cursor() -> Problem {
    Problem::invalid("cursor", "'cursor' is not a nextCursor of this list")
}

fn decoded(cursor: &str) -> Outcome<Vec<u8>> {
    BASE64.decode(cursor).map_err(|_| invalid_cursor())
}

/// A cursor of a list by id.
#[must_use]
pub fn id_cursor(id: Uuid) -> String {
    BASE64.encode(id.as_bytes())
}

/// Reads a cursor of a list by id.
///
/// # Errors
/// 422 for what no list gave.
pub fn after_id(cursor: Option<&str>) -> Outcome<Option<Uuid>> {
    let Some(cursor) = cursor else { return Ok(None) };
    Uuid::from_slice(&decoded(cursor)?).map(Some).map_err(|_| invalid_cursor())
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
    let bytes = decoded(cursor)?;
    let (at, id) = bytes.split_at_checked(8).ok_or_else(invalid_cursor)?;
    let at = i64::from_be_bytes(at.try_into().map_err(|_| invalid_cursor())?);
    let id = Uuid::from_slice(id).map_err(|_| invalid_cursor())?;
    Ok(Some((at, id)))
}

/// A cursor of a list by a number that rises.
#[must_use]
pub fn number_cursor(number: u64) -> String {
    BASE64.encode(number.to_be_bytes())
}

/// Reads a cursor of a list by number; 0 without one.
///
/// # Errors
/// 422 for what no list gave.
pub fn after_number(cursor: Option<&str>) -> Outcome<u64> {
    let Some(cursor) = cursor else { return Ok(0) };
    let bytes = decoded(cursor)?.try_into().map_err(|_| invalid_cursor())?;
    Ok(u64::from_be_bytes(bytes))
}

/// A cursor of a list by a word.
#[must_use]
pub fn word_cursor(word: &str) -> String {
    BASE64.encode(word)
}

/// Reads a cursor of a list by a word; empty without one.
///
/// # Errors
/// 422 for what no list gave.
pub fn after_word(cursor: Option<&str>) -> Outcome<String> {
    let Some(cursor) = cursor else { return Ok(String::new()) };
    String::from_utf8(decoded(cursor)?).map_err(|_| invalid_cursor())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Items that weigh more as JSON than as rows: a page still ends by its bytes, and nothing is lost between two.
    #[test]
    fn a_page_ends_by_the_bytes_of_its_json() {
        let sizes = [1, 100_000, 100_000, 100_000, 600_000, 1, 1, 300_000, 200_000, 62_000, 100];
        let (mut after, mut seen, mut pages) = (0, Vec::new(), 0);
        loop {
            let items: Vec<(usize, usize)> = sizes.iter().copied().enumerate().skip(after).collect();
            let rows = RowPage { items, next: None };
            // One is read and not shown.
            let shown = |size: &usize| Ok((*size != 100).then(|| "x".repeat(*size)));
            let (page, next) = Items::<String>::of(&rows, shown).expect("a page");
            let texts: Vec<String> = serde_json::from_str(page.json.get()).expect("JSON");
            assert!(texts.len() == 1 || page.json.get().len() <= PAGE_BYTES_MAX + 1, "{}", page.json.get().len());
            seen.extend(texts.iter().map(String::len));
            pages += 1;
            let Some(next) = next else { break };
            after = next + 1;
        }
        assert_eq!(seen, sizes[..10]);
        assert_eq!(pages, 6);
    }

    #[test]
    fn a_list_goes_on_where_its_rows_do() {
        let rows = RowPage { items: vec![(4, 'a')], next: Some(9) };
        let (items, next) = Items::of(&rows, |_| Ok(None::<Value>)).expect("a page");
        assert_eq!((items.json.get(), next), ("[]", Some(9)), "nothing to show, and more to look at");
    }

    #[test]
    fn cursors_are_read_as_they_were_given() {
        let id = Uuid::now_v7();
        assert_eq!(after_id(Some(&id_cursor(id))).ok(), Some(Some(id)));
        assert_eq!(before_time(Some(&time_cursor(-7, id))).ok(), Some(Some((-7, id))));
        assert_eq!(after_number(Some(&number_cursor(7))).ok(), Some(7));
        assert_eq!(after_word(Some(&word_cursor("acme-2"))).ok().as_deref(), Some("acme-2"));
        for odd in ["", "!", "AAAA"] {
            assert!(
                after_id(Some(odd)).is_err() && before_time(Some(odd)).is_err() && after_number(Some(odd)).is_err()
            );
        }
    }
}
