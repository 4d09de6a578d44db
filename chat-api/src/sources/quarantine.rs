//! A row that doesn't fit, as its source's quarantine keeps it: what is wrong, the row as it was sent, its values as texts.

use super::columns::Tree;
use super::rows::Row;
use super::{Fault, ROW_BYTES_MAX};
use ingest::payload::SourceColumn;
use ingest::time::Timestamp;
use serde_json::{Value, json};

/// Bytes of the row's own text, then, when what comes of it is too large, less of it.
const TEXT_BYTES: [usize; 3] = [48 * 1024, 6 * 1024, 0];

/// The logged form, in the order of the quarantine's columns.
pub(super) fn row(
    columns: &[SourceColumn],
    tree: &Tree,
    row: &Row<'_>,
    faults: &[Fault],
    import_id: &str,
    now: Timestamp,
) -> String {
    let names = faults.iter().filter_map(|fault| Some(columns.get(fault.column?)?.name.as_str()));
    let reasons = faults.iter().map(|fault| fault.reason.as_str());
    let (names, reasons): (Vec<_>, Vec<_>) = (names.collect(), reasons.collect());
    let values = row.values(columns, tree).unwrap_or_else(|_| vec![None; columns.len()]);
    let values: Vec<Option<String>> = values.iter().map(|value| value.as_deref().and_then(shown)).collect();
    let mut text = String::new();
    for max in TEXT_BYTES {
        let mut cells = vec![json!(names), json!(reasons), json!(import_id), json!(now.0.div_euclid(1_000))];
        cells.push(json!(row.text(max)));
        let mut left = max;
        for value in &values {
            // A value that has no place any more is in the row's text.
            let fits = value.as_ref().filter(|value| value.len() <= left);
            left -= fits.map_or(0, |value| value.len());
            cells.push(fits.map_or(Value::Null, |value| json!(value)));
        }
        text = Value::Array(cells).to_string();
        if text.len() <= ROW_BYTES_MAX {
            break;
        }
    }
    text
}

/// A value as text; NULL as none.
fn shown(value: &str) -> Option<String> {
    match value {
        "null" => None,
        // What isn't a text, though it's quoted, is shown as it was sent.
        _ => Some(serde_json::from_str::<String>(value).unwrap_or_else(|_| value.to_owned())),
    }
}
