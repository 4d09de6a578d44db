//! What a `/v0` token may do: its scopes, read in one place for routes, for engines and for those who make tokens.
//!
//! No scopes read everything and write nothing. A scope's `filter` holds for every row its table shows to the token, in endpoints too;
//! its `fixed_params` replace whatever a caller sends.

use ingest::payload::Scope;
use serde_json::Value;
use sql::{Params, RowFilters};

/// Reads endpoints.
pub const PIPES_READ: &str = "PIPES:READ";
/// Reads tables.
pub const DATASOURCES_READ: &str = "DATASOURCES:READ";
/// Writes rows into the tenant's own tables, and makes one that isn't there.
pub const DATASOURCES_APPEND: &str = "DATASOURCES:APPEND";

/// Makes, fills, replaces and deletes the tenant's own tables.
pub const DATASOURCES_CREATE: &str = "DATASOURCES:CREATE";
/// Deletes them.
pub const DATASOURCES_DROP: &str = "DATASOURCES:DROP";
/// Publishes and deletes endpoints.
pub const PIPES_CREATE: &str = "PIPES:CREATE";
/// Deletes them.
pub const PIPES_DROP: &str = "PIPES:DROP";

/// Every type.
pub const TYPES: [&str; 7] =
    [PIPES_READ, DATASOURCES_READ, DATASOURCES_APPEND, DATASOURCES_CREATE, DATASOURCES_DROP, PIPES_CREATE, PIPES_DROP];
/// Scopes of a token.
const SCOPES_MAX: usize = 100;
/// Characters of a resource's name.
const NAME_CHARS_MAX: usize = 200;
/// Parameters that a scope fixes.
const FIXED_MAX: usize = 100;
/// Bytes of a row filter or of a fixed value.
const TEXT_BYTES_MAX: usize = 4_096;
/// Requests a second that a token can be held to.
pub const RPS_MAX: u32 = 100_000;

/// Whether scopes can be understood. Whether a filter fits its table is for the engine to say.
///
/// # Errors
/// What is wrong, for whoever made them.
pub fn check(scopes: &[Scope]) -> Result<(), String> {
    if scopes.len() > SCOPES_MAX {
        return Err(format!("'scopes' has at most {SCOPES_MAX} entries"));
    }
    for (at, scope) in scopes.iter().enumerate() {
        if !TYPES.contains(&scope.r#type.as_str()) {
            return Err(format!("a scope's type is one of {}", TYPES.join(", ")));
        }
        if !(1..=NAME_CHARS_MAX).contains(&scope.resource.chars().count()) {
            return Err(format!("a scope's resource is a name of 1 to {NAME_CHARS_MAX} characters, or *"));
        }
        if scopes[..at].iter().any(|other| (&other.r#type, &other.resource) == (&scope.r#type, &scope.resource)) {
            return Err(format!("there are two scopes {}:{}", scope.r#type, scope.resource));
        }
        check_fixed(scope)?;
        check_filter(scope)?;
    }
    Ok(())
}

fn check_fixed(scope: &Scope) -> Result<(), String> {
    if scope.fixed_params.is_empty() {
        return Ok(());
    }
    if scope.r#type != PIPES_READ {
        return Err(format!("'fixed_params' is for scopes of type {PIPES_READ}"));
    }
    if scope.fixed_params.len() > FIXED_MAX {
        return Err(format!("'fixed_params' has at most {FIXED_MAX} entries"));
    }
    for (name, value) in &scope.fixed_params {
        if sql::RESERVED_PARAMETERS.contains(&name.as_str()) {
            return Err(format!("the parameter '{name}' is reserved and can't be fixed"));
        }
        let texts = texts(value).filter(|texts| texts.iter().map(String::len).sum::<usize>() <= TEXT_BYTES_MAX);
        if texts.is_none() {
            return Err(format!(
                "the fixed parameter '{name}' is a text, a number, a boolean or a list of them, of up to {TEXT_BYTES_MAX} bytes"
            ));
        }
    }
    Ok(())
}

fn check_filter(scope: &Scope) -> Result<(), String> {
    let Some(filter) = &scope.filter else { return Ok(()) };
    if scope.r#type != DATASOURCES_READ || scope.resource == "*" {
        return Err(format!("'filter' is for scopes of type {DATASOURCES_READ} with the name of one table"));
    }
    if filter.trim().is_empty() || filter.len() > TEXT_BYTES_MAX {
        return Err(format!("'filter' is a SQL condition of up to {TEXT_BYTES_MAX} bytes"));
    }
    Ok(())
}

/// A parameter's texts as a request would carry them; `None` for what no request can carry.
fn texts(value: &Value) -> Option<Vec<String>> {
    let one = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    match value {
        Value::Array(values) => values.iter().map(one).collect(),
        value => one(value).map(|text| vec![text]),
    }
}

/// Whether `kind` is granted for `resource`. Without scopes everything may be read, and nothing written.
#[must_use]
pub fn may(scopes: &[Scope], kind: &str, resource: &str) -> bool {
    let named = |scope: &Scope| scope.resource == "*" || scope.resource.eq_ignore_ascii_case(resource);
    match scopes {
        [] => kind == PIPES_READ || kind == DATASOURCES_READ,
        scopes => scopes.iter().any(|scope| scope.r#type == kind && named(scope)),
    }
}

/// The conditions that a token's rows must meet.
#[must_use]
pub fn filters(scopes: &[Scope]) -> RowFilters {
    let mut filters = RowFilters::new();
    for scope in scopes {
        if let Some(filter) = &scope.filter {
            filters.entry(scope.resource.to_lowercase()).or_default().push(filter.clone());
        }
    }
    filters
}

/// Puts the fixed parameters of an endpoint in the place of the caller's. What is fixed for one endpoint goes before
/// what is fixed for all.
pub fn fix(scopes: &[Scope], endpoint: &str, params: &mut Params) {
    for resource in ["*", endpoint] {
        let matching = scopes.iter().filter(|scope| scope.r#type == PIPES_READ && scope.resource == resource);
        for (name, value) in matching.flat_map(|scope| &scope.fixed_params) {
            params.insert(name.clone(), texts(value).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn scopes(json: Value) -> Vec<Scope> {
        serde_json::from_value(json).expect("scopes")
    }

    #[test]
    fn scopes_that_mean_nothing_are_refused() {
        for (wrong, word) in [
            (json!([{ "type": "ADMIN", "resource": "*" }]), "type is one of"),
            (json!([{ "type": "PIPES:READ", "resource": "" }]), "resource"),
            (
                json!([{ "type": "PIPES:READ", "resource": "a" }, { "type": "PIPES:READ", "resource": "a" }]),
                "two scopes",
            ),
            (json!([{ "type": "PIPES:READ", "resource": "a", "filter": "x = 1" }]), "'filter'"),
            (json!([{ "type": "DATASOURCES:READ", "resource": "*", "filter": "x = 1" }]), "'filter'"),
            (json!([{ "type": "DATASOURCES:READ", "resource": "a", "filter": " " }]), "'filter'"),
            (json!([{ "type": "DATASOURCES:READ", "resource": "a", "fixed_params": { "x": 1 } }]), "'fixed_params'"),
            (json!([{ "type": "PIPES:READ", "resource": "a", "fixed_params": { "token": "x" } }]), "reserved"),
            (json!([{ "type": "PIPES:READ", "resource": "a", "fixed_params": { "x": { "y": 1 } } }]), "'x'"),
            (json!([{ "type": "PIPES:READ", "resource": "a", "fixed_params": { "x": null } }]), "'x'"),
        ] {
            let refused = check(&scopes(wrong.clone())).expect_err("refused");
            assert!(refused.contains(word), "{wrong}: {refused}");
        }
    }

    #[test]
    fn fixed_parameters_replace_what_was_sent() {
        let scopes = scopes(json!([
            { "type": "PIPES:READ", "resource": "usage", "fixed_params": { "granularity": "day", "ids": [1, "b"] } },
            { "type": "PIPES:READ", "resource": "*", "fixed_params": { "granularity": "total", "by": true } },
        ]));
        assert_eq!(check(&scopes), Ok(()));
        let sent = || Params::from([("granularity".to_owned(), vec!["minute".to_owned()]), ("x".to_owned(), vec![])]);
        let mut params = sent();
        fix(&scopes, "usage", &mut params);
        assert_eq!(params["granularity"], ["day"]);
        assert_eq!(
            (&*params["ids"], &*params["by"]),
            (&["1".to_owned(), "b".to_owned()][..], &["true".to_owned()][..])
        );
        assert!(params.contains_key("x"));
        let mut params = sent();
        fix(&scopes, "csat", &mut params);
        assert_eq!(params["granularity"], ["total"]);
        assert!(!params.contains_key("ids"));
    }
}
