//! What a `/v0` token may do: its scopes, read once for routes, for engines and for those who make tokens. Start at
//! [`Scopes`].
//!
//! No scopes read everything and write nothing. A scope's `filter` holds for every row its table shows to the token, in endpoints too;
//! its `fixed_params` replace whatever a caller sends. What is stored or signed is a text; what is asked here is a
//! [`Right`] over a name, and no text of a request is compared with a scope's.

use crate::core::grants::ScopeKind;
use ingest::payload::{PermissionSet, Scope};
use serde_json::Value;
use sql::{EndpointName, Params, Readable, RowFilters, TableName};
use std::collections::BTreeSet;
use std::fmt;

/// What a token may do, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right<'a> {
    /// Calls and describes an endpoint.
    ReadPipe(&'a EndpointName),
    /// Publishes an endpoint, and deletes it.
    CreatePipe(&'a EndpointName),
    /// Deletes an endpoint.
    DropPipe(&'a EndpointName),
    /// Reads a table.
    ReadTable(&'a TableName),
    /// Writes rows into one of the tenant's own tables, and makes one that isn't there.
    AppendTable(&'a TableName),
    /// Makes, fills, replaces and deletes one of the tenant's own tables.
    CreateTable(&'a TableName),
    /// Deletes one.
    DropTable(&'a TableName),
}

impl<'a> Right<'a> {
    fn kind(self) -> ScopeKind {
        match self {
            Self::ReadPipe(_) => ScopeKind::PipesRead,
            Self::CreatePipe(_) => ScopeKind::PipesCreate,
            Self::DropPipe(_) => ScopeKind::PipesDrop,
            Self::ReadTable(_) => ScopeKind::DatasourcesRead,
            Self::AppendTable(_) => ScopeKind::DatasourcesAppend,
            Self::CreateTable(_) => ScopeKind::DatasourcesCreate,
            Self::DropTable(_) => ScopeKind::DatasourcesDrop,
        }
    }

    /// The name of what it's a right over.
    #[must_use]
    pub fn resource(self) -> &'a str {
        match self {
            Self::ReadPipe(name) | Self::CreatePipe(name) | Self::DropPipe(name) => name.as_str(),
            Self::ReadTable(name) | Self::AppendTable(name) | Self::CreateTable(name) | Self::DropTable(name) => {
                name.as_str()
            }
        }
    }
}

/// The scope that gives it: `PIPES:READ:usage`.
impl fmt::Display for Right<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind().text(), self.resource())
    }
}

/// What a scope is about.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Resource {
    All,
    Pipe(EndpointName),
    Table(TableName),
}

impl Resource {
    /// As a scope of this kind says it, whatever its case.
    fn of(kind: ScopeKind, text: &str) -> Self {
        match kind {
            _ if text == "*" => Self::All,
            ScopeKind::PipesRead | ScopeKind::PipesCreate | ScopeKind::PipesDrop => Self::Pipe(EndpointName::of(text)),
            ScopeKind::DatasourcesRead
            | ScopeKind::DatasourcesAppend
            | ScopeKind::DatasourcesCreate
            | ScopeKind::DatasourcesDrop => Self::Table(TableName::of(text)),
        }
    }

    fn covers(&self, right: Right<'_>) -> bool {
        match (self, right) {
            (Self::All, _) => true,
            (Self::Pipe(own), Right::ReadPipe(name) | Right::CreatePipe(name) | Right::DropPipe(name)) => own == name,
            (
                Self::Table(own),
                Right::ReadTable(name) | Right::AppendTable(name) | Right::CreateTable(name) | Right::DropTable(name),
            ) => own == name,
            (Self::Pipe(_) | Self::Table(_), _) => false,
        }
    }
}

/// One scope as it was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    kind: ScopeKind,
    resource: Resource,
    fixed: Vec<(String, Vec<String>)>,
    filter: Option<String>,
}

/// A token's scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes {
    /// `None` for a token that was made without scopes.
    grants: Option<Vec<Grant>>,
}

impl Scopes {
    /// Of a token that reads everything and writes nothing.
    #[must_use]
    pub fn readers() -> Self {
        Self { grants: None }
    }

    /// Of an agent's own access token: what they could give to a token.
    #[must_use]
    pub fn of_agent(permissions: PermissionSet) -> Self {
        let held = ScopeKind::ALL.iter().filter(|kind| permissions.includes(kind.takes()));
        let grants = held.map(|kind| Grant { kind: *kind, resource: Resource::All, fixed: Vec::new(), filter: None });
        Self { grants: Some(grants.collect()) }
    }

    /// Reads what was stored or signed. A scope of a type that isn't known, from a later version, gives nothing.
    #[must_use]
    pub fn of(scopes: &[Scope]) -> Self {
        if scopes.is_empty() {
            return Self::readers();
        }
        let grants = scopes.iter().filter_map(|scope| {
            let kind = ScopeKind::of(&scope.r#type)?;
            let fixed = scope.fixed_params.iter();
            Some(Grant {
                kind,
                resource: Resource::of(kind, &scope.resource),
                fixed: fixed.map(|(name, value)| (name.clone(), texts(value).unwrap_or_default())).collect(),
                filter: scope.filter.clone(),
            })
        });
        Self { grants: Some(grants.collect()) }
    }

    /// Whether they give a right.
    #[must_use]
    pub fn may(&self, right: Right<'_>) -> bool {
        let kind = right.kind();
        match &self.grants {
            None => matches!(kind, ScopeKind::PipesRead | ScopeKind::DatasourcesRead),
            Some(grants) => grants.iter().any(|grant| grant.kind == kind && grant.resource.covers(right)),
        }
    }

    /// The tables that they let SQL name.
    #[must_use]
    pub fn readable(&self) -> Readable {
        let Some(grants) = &self.grants else { return Readable::All };
        let mut tables = Vec::new();
        for grant in grants.iter().filter(|grant| grant.kind == ScopeKind::DatasourcesRead) {
            match &grant.resource {
                Resource::All => return Readable::All,
                Resource::Table(name) => tables.push(name.clone()),
                Resource::Pipe(_) => {}
            }
        }
        Readable::Only(tables.into_iter().collect())
    }

    /// The conditions that a token's rows must meet.
    #[must_use]
    pub fn filters(&self) -> RowFilters {
        let mut filters = RowFilters::new();
        for grant in self.grants.iter().flatten() {
            if let (Resource::Table(table), Some(filter)) = (&grant.resource, &grant.filter) {
                filters.entry(table.clone()).or_default().push(filter.clone());
            }
        }
        filters
    }

    /// Puts the fixed parameters of an endpoint in the place of the caller's. What is fixed for one endpoint goes before
    /// what is fixed for all.
    pub fn fix(&self, endpoint: &EndpointName, params: &mut Params) {
        let reads = || self.grants.iter().flatten().filter(|grant| grant.kind == ScopeKind::PipesRead);
        let for_all = reads().filter(|grant| grant.resource == Resource::All);
        let for_this = reads().filter(|grant| matches!(&grant.resource, Resource::Pipe(name) if name == endpoint));
        for (name, texts) in for_all.chain(for_this).flat_map(|grant| &grant.fixed) {
            params.insert(name.clone(), texts.clone());
        }
    }
}

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
    let mut seen = BTreeSet::new();
    for scope in scopes {
        let Some(kind) = ScopeKind::of(&scope.r#type) else {
            return Err(format!("a scope's type is one of {}", ScopeKind::TEXTS.join(", ")));
        };
        if !(1..=NAME_CHARS_MAX).contains(&scope.resource.chars().count()) {
            return Err(format!("a scope's resource is a name of 1 to {NAME_CHARS_MAX} characters, or *"));
        }
        // A name is the same in any case: of two scopes for one thing nobody could say which holds.
        if !seen.insert((kind.text(), scope.resource.to_ascii_lowercase())) {
            return Err(format!("there are two scopes {}:{}", scope.r#type, scope.resource));
        }
        check_fixed(kind, scope)?;
        check_filter(kind, scope)?;
    }
    Ok(())
}

fn check_fixed(kind: ScopeKind, scope: &Scope) -> Result<(), String> {
    if scope.fixed_params.is_empty() {
        return Ok(());
    }
    if kind != ScopeKind::PipesRead {
        return Err(format!("'fixed_params' is for scopes of type {}", ScopeKind::PipesRead.text()));
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

fn check_filter(kind: ScopeKind, scope: &Scope) -> Result<(), String> {
    let Some(filter) = &scope.filter else { return Ok(()) };
    if kind != ScopeKind::DatasourcesRead || scope.resource == "*" {
        let wanted = ScopeKind::DatasourcesRead.text();
        return Err(format!("'filter' is for scopes of type {wanted} with the name of one table"));
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
                json!([{ "type": "PIPES:READ", "resource": "a" }, { "type": "PIPES:READ", "resource": "A" }]),
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
        let read = Scopes::of(&scopes);
        let mut params = sent();
        read.fix(&EndpointName::of("Usage"), &mut params);
        assert_eq!(params["granularity"], ["day"]);
        assert_eq!(
            (&*params["ids"], &*params["by"]),
            (&["1".to_owned(), "b".to_owned()][..], &["true".to_owned()][..])
        );
        assert!(params.contains_key("x"));
        let mut params = sent();
        read.fix(&EndpointName::of("csat"), &mut params);
        assert_eq!(params["granularity"], ["total"]);
        assert!(!params.contains_key("ids"));
    }

    /// However a scope and a request write a name, it's the same one; what only looks like it is another.
    #[test]
    fn a_name_is_the_same_in_any_case() {
        let spellings = ["kit", "KIT", "Kit", "kIt"];
        let others = ["\u{212a}it", "k\u{131}t", "K\u{130}T", "\u{ff4b}it", "kit.", " kit", "kit ", "kit\0", "ki", "*"];
        for scope in spellings {
            let scopes = Scopes::of(&scopes(json!([
                { "type": "PIPES:READ", "resource": scope, "fixed_params": { "org": "a" } },
                { "type": "DATASOURCES:READ", "resource": scope, "filter": "org = 'a'" },
            ])));
            for text in spellings.iter().chain(&others) {
                let same = spellings.contains(text);
                let (pipe, table) = (EndpointName::of(text), TableName::of(text));
                assert_eq!(scopes.may(Right::ReadPipe(&pipe)), same, "{scope} {text}");
                assert_eq!(scopes.may(Right::ReadTable(&table)), same, "{scope} {text}");
                assert!(!scopes.may(Right::CreatePipe(&pipe)) && !scopes.may(Right::DropTable(&table)));
                let mut params = Params::from([("org".to_owned(), vec!["b".to_owned()])]);
                scopes.fix(&pipe, &mut params);
                assert_eq!(params["org"], [if same { "a" } else { "b" }], "{scope} {text}");
                assert_eq!(scopes.filters().contains_key(&table), same, "{scope} {text}");
            }
            assert_eq!(scopes.readable(), Readable::Only([TableName::of("kit")].into_iter().collect()));
        }
    }

    /// A pipe's scope is none for a table of its name, and no scope that can be understood is not the same as no scopes.
    #[test]
    fn what_is_not_granted_is_not_given() {
        let read = |json: Value| Scopes::of(&scopes(json));
        let (pipe, table) = (EndpointName::of("a"), TableName::of("a"));
        let pipes = read(json!([{ "type": "PIPES:READ", "resource": "a" }]));
        assert!(pipes.may(Right::ReadPipe(&pipe)) && !pipes.may(Right::ReadTable(&table)));
        assert_eq!(pipes.readable(), Readable::Only(std::iter::empty().collect()));
        let unknown = read(json!([{ "type": "PIPES:OWN", "resource": "*" }]));
        assert!(!unknown.may(Right::ReadPipe(&pipe)) && unknown.readable() != Readable::All);
        let readers = read(json!([]));
        assert!(readers.may(Right::ReadPipe(&pipe)) && readers.may(Right::ReadTable(&table)));
        assert!(!readers.may(Right::CreatePipe(&pipe)) && !readers.may(Right::AppendTable(&table)));
        let all = read(json!([{ "type": "DATASOURCES:READ", "resource": "*" }]));
        assert_eq!(all.readable(), Readable::All);
    }
}
