//! Postgres' dialect in what drivers and tools send, put into the engine's words before the gate looks at it: casts to
//! catalog types, operators with a schema, the session's functions, and catalogs that have no rows. What it leaves alone
//! passes the gate or doesn't. Start at [`rewrite`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CaseWhen, CastKind, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, TableFactor, Value, VisitMut, VisitorMut,
};

use super::catalog::FULL;
use super::catalog::{INFORMATION_SCHEMA, PG_CATALOG, View, table_oid};
use super::empty::{Catalogs, EMPTY};
use super::params::{in_list, inner, items, text, value};
use super::types::{KNOWN, PgType};
use crate::catalog::SCHEMA;
use crate::error::QueryError;

/// What became of a statement.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Rewritten {
    /// It can be planned.
    Plan,
    /// It asks catalogs that have no rows; these would be its columns.
    NoRows(Vec<String>),
}

/// Rewrites a parsed statement. `own` are the caller's tables; they go before catalogs of the same name.
/// # Errors  A name that is not there.
pub(super) fn rewrite(query: &mut Query, view: &View, own: &BTreeSet<&str>) -> Result<Rewritten, QueryError> {
    let common = common_tables(query);
    name_columns(query);
    let mut visitor = Rewriter { view, own, common, is_system: false, selects: Vec::new(), functions: BTreeSet::new() };
    if let ControlFlow::Break(e) = query.visit(&mut visitor) {
        return Err(e);
    }
    if visitor.is_system && Catalogs::take_out(query) {
        return Ok(Rewritten::NoRows(names(query)));
    }
    Ok(Rewritten::Plan)
}

/// Names of WITH, which hide tables.
fn common_tables(query: &mut Query) -> BTreeSet<String> {
    struct Names(BTreeSet<String>);
    impl VisitorMut for Names {
        type Break = ();
        fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
            let tables = query.with.iter().flat_map(|with| &with.cte_tables);
            self.0.extend(tables.map(|table| table.alias.name.value.to_lowercase()));
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(BTreeSet::new());
    let _: ControlFlow<()> = query.visit(&mut names);
    names.0
}

pub(super) fn idents(name: &ObjectName) -> Vec<&Ident> {
    name.0.iter().filter_map(ObjectNamePart::as_ident).collect()
}

/// An identifier as Postgres reads it: lower case unless quoted.
pub(super) fn folded(ident: &Ident) -> String {
    if ident.quote_style.is_some() { ident.value.clone() } else { ident.value.to_lowercase() }
}

struct Rewriter<'a> {
    view: &'a View,
    own: &'a BTreeSet<&'a str>,
    common: BTreeSet<String>,
    is_system: bool,
    /// The columns of the selects around, as they were.
    selects: Vec<Vec<SelectItem>>,
    /// Functions that stand for tables; the gate refuses them, if it comes to that.
    functions: BTreeSet<ObjectName>,
}

impl VisitorMut for Rewriter<'_> {
    type Break = QueryError;

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<QueryError> {
        self.selects.push(select.projection.clone());
        ControlFlow::Continue(())
    }

    /// A column that was rewritten keeps the name it would have had.
    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<QueryError> {
        let before = self.selects.pop().unwrap_or_default();
        for (item, before) in select.projection.iter_mut().zip(before) {
            if let (SelectItem::UnnamedExpr(now), SelectItem::UnnamedExpr(was)) = (&*item, &before)
                && now != was
            {
                let alias = Ident::with_quote('"', name_of(was));
                *item = SelectItem::ExprWithAlias { expr: now.clone(), alias };
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<QueryError> {
        if let TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } = factor {
            self.functions.insert(name.clone());
        }
        ControlFlow::Continue(())
    }

    /// Writes catalogs with their schema, and says when there are any.
    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<QueryError> {
        if self.functions.contains(relation) {
            return ControlFlow::Continue(());
        }
        let parts: Vec<String> = idents(relation).into_iter().map(folded).collect();
        let (schema, name) = match parts.as_slice() {
            [name] if name.starts_with("pg_") && !self.own.contains(name.as_str()) && !self.common.contains(name) => {
                (PG_CATALOG, name)
            }
            [schema, name] | [_, schema, name] if schema == PG_CATALOG => (PG_CATALOG, name),
            [schema, name] | [_, schema, name] if schema == INFORMATION_SCHEMA => (INFORMATION_SCHEMA, name),
            _ => return ControlFlow::Continue(()),
        };
        if !EMPTY.contains(&name.as_str()) && !FULL.contains(&name.as_str()) {
            return ControlFlow::Break(QueryError::NoTable(format!("{schema}.{name}")));
        }
        self.is_system = true;
        *relation = ObjectName::from(vec![Ident::new(schema), Ident::new(name.clone())]);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        let replaced = match expr {
            Expr::Collate { expr: within, .. } => Ok(Some((**within).clone())),
            Expr::BinaryOp { op, .. } => {
                if let BinaryOperator::PGCustomBinaryOperator(name) = op {
                    match name.last().and_then(|name| operator(name)) {
                        Some(known) => *op = known,
                        None => {
                            return ControlFlow::Break(QueryError::sql(
                                format!("the operator {op} is not there"),
                                None,
                            ));
                        }
                    }
                }
                Ok(None)
            }
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => Ok(self.among(left, right, false)),
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => Ok(self.among(left, right, true)),
            Expr::Cast { expr: within, data_type, .. } => self.cast(within, data_type),
            Expr::TypedString(typed) if type_name(&typed.data_type).is_some() => {
                let (within, mut kind) = (Expr::Value(typed.value.clone()), typed.data_type.clone());
                self.cast(&within, &mut kind).map(|replaced| Some(replaced.unwrap_or_else(|| cast_to(within, kind))))
            }
            Expr::Identifier(ident) if ident.quote_style.is_none() => {
                Ok(self.session_word(&ident.value.to_lowercase()))
            }
            Expr::Function(function) => self.function(function),
            _ => Ok(None),
        };
        match replaced {
            Ok(None) => {}
            Ok(Some(replacement)) => *expr = replacement,
            Err(e) => return ControlFlow::Break(e),
        }
        ControlFlow::Continue(())
    }
}

fn operator(name: &str) -> Option<BinaryOperator> {
    Some(match name {
        "~" => BinaryOperator::PGRegexMatch,
        "!~" => BinaryOperator::PGRegexNotMatch,
        "~*" => BinaryOperator::PGRegexIMatch,
        "!~*" => BinaryOperator::PGRegexNotIMatch,
        "=" => BinaryOperator::Eq,
        "<>" | "!=" => BinaryOperator::NotEq,
        "<" => BinaryOperator::Lt,
        "<=" => BinaryOperator::LtEq,
        ">" => BinaryOperator::Gt,
        ">=" => BinaryOperator::GtEq,
        "+" => BinaryOperator::Plus,
        "-" => BinaryOperator::Minus,
        "||" => BinaryOperator::StringConcat,
        _ => return None,
    })
}

/// A type of Postgres that the engine doesn't know by this name.
fn type_name(kind: &DataType) -> Option<String> {
    match kind {
        DataType::Regclass => Some("regclass".to_owned()),
        DataType::Custom(name, _) => idents(name).last().map(|ident| folded(ident)),
        _ => None,
    }
}

fn string_of(expr: &Expr) -> Option<&str> {
    match inner(expr) {
        Expr::Value(given) => match &given.value {
            Value::SingleQuotedString(text) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

impl Rewriter<'_> {
    /// `x = ANY (ARRAY[…])` and `x = ANY ('{…}')` as `x IN (…)`.
    fn among(&self, left: &Expr, right: &Expr, negated: bool) -> Option<Expr> {
        let list = match inner(right) {
            Expr::Array(array) => array.elem.clone(),
            Expr::Subquery(subquery) => {
                let (expr, subquery) = (Box::new(left.clone()), subquery.clone());
                return Some(Expr::InSubquery { expr, subquery, negated });
            }
            right => {
                let items = string_of(right).and_then(items)?;
                items.into_iter().map(|item| item.map_or_else(|| value(Value::Null), text)).collect()
            }
        };
        Some(in_list(left.clone(), list, negated))
    }

    fn cast(&self, within: &Expr, kind: &mut DataType) -> Result<Option<Expr>, QueryError> {
        let Some(name) = type_name(kind) else { return Ok(None) };
        match name.as_str() {
            "regclass" => match string_of(within) {
                Some(name) => self.class(name).map(Some),
                None => Ok(Some(self.class_name(within.clone()))),
            },
            "regtype" => {
                Ok(Some(match string_of(within).map(|name| PgType::by_name(name.trim_start_matches("pg_catalog."))) {
                    Some(Some(kind)) => number(i64::from(kind.oid())),
                    Some(None) => return Err(QueryError::sql("the type is not there", None)),
                    None => type_names(within.clone()),
                }))
            }
            "regproc" | "regprocedure" | "regnamespace" | "regrole" | "regconfig" | "name" | "char"
            | "sql_identifier" | "character_data" | "yes_or_no" | "cstring" | "bpchar" | "unknown" => {
                *kind = DataType::Varchar(None);
                Ok(None)
            }
            "oid" | "xid" | "cardinal_number" => {
                *kind = DataType::BigInt(None);
                Ok(None)
            }
            name => {
                // `pg_catalog.text`, `pg_catalog.int4`.
                *kind = match name {
                    "text" | "varchar" => DataType::Varchar(None),
                    "int2" => DataType::SmallInt(None),
                    "int4" => DataType::Int(None),
                    "int8" => DataType::BigInt(None),
                    "bool" => DataType::Boolean,
                    "float4" => DataType::Real,
                    "float8" => DataType::DoublePrecision,
                    "date" => DataType::Date,
                    _ => return Ok(None),
                };
                Ok(None)
            }
        }
    }

    /// The number of a table that is named.
    fn class(&self, name: &str) -> Result<Expr, QueryError> {
        if name.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() {
            return Ok(value(Value::Number(name.to_owned(), false)));
        }
        let plain = name.trim_start_matches("public.").trim_matches('"');
        let system = plain.trim_start_matches("pg_catalog.").trim_start_matches("information_schema.");
        if self.own.contains(plain) || EMPTY.contains(&system) || FULL.contains(&system) {
            Ok(number(table_oid(if self.own.contains(plain) { plain } else { system })))
        } else {
            Err(QueryError::NoTable(name.to_owned()))
        }
    }

    /// A table's number as its name.
    fn class_name(&self, oid: Expr) -> Expr {
        let own = self.own.iter().map(|name| (table_oid(name), (*name).to_owned()));
        let system = EMPTY.iter().chain(FULL).filter(|name| name.starts_with("pg_"));
        choose(oid, own.chain(system.map(|name| (table_oid(name), (*name).to_owned()))))
    }

    /// Words that are functions without parentheses.
    fn session_word(&self, word: &str) -> Option<Expr> {
        Some(match word {
            "current_user" | "session_user" | "current_role" => text(self.view.user.clone()),
            "current_catalog" => text(self.view.database.clone()),
            "current_schema" => text(SCHEMA),
            _ => return None,
        })
    }

    fn function(&self, function: &mut Function) -> Result<Option<Expr>, QueryError> {
        let parts: Vec<String> = idents(&function.name).into_iter().map(folded).collect();
        let name = match parts.as_slice() {
            [name] => name,
            [schema, name] if schema == PG_CATALOG => {
                function.name = ObjectName::from(vec![Ident::new(name.clone())]);
                name
            }
            _ => return Ok(None),
        };
        let arguments: Vec<Expr> = match &function.args {
            FunctionArguments::List(list) => list.args.iter().filter_map(argument).cloned().collect(),
            _ => Vec::new(),
        };
        let first = || arguments.first().cloned().unwrap_or_else(|| value(Value::Null));
        Ok(Some(match name.as_str() {
            "version" => text(super::session::VERSION),
            "current_database" => text(self.view.database.clone()),
            "pg_backend_pid" => number(self.view.pid.into()),
            "pg_get_userbyid" => text(self.view.user.clone()),
            "pg_encoding_to_char" | "pg_client_encoding" => text("UTF8"),
            "pg_table_is_visible"
            | "pg_type_is_visible"
            | "pg_function_is_visible"
            | "has_table_privilege"
            | "has_schema_privilege"
            | "has_database_privilege"
            | "has_column_privilege"
            | "has_any_column_privilege"
            | "pg_has_role" => value(Value::Boolean(true)),
            "pg_is_in_recovery" | "pg_is_other_temp_schema" | "row_security_active" => value(Value::Boolean(false)),
            "pg_relation_size"
            | "pg_total_relation_size"
            | "pg_table_size"
            | "pg_indexes_size"
            | "pg_my_temp_schema"
            | "txid_current"
            | "pg_database_size"
            | "pg_relation_is_updatable" => number(0),
            "obj_description"
            | "col_description"
            | "shobj_description"
            | "pg_get_expr"
            | "pg_get_constraintdef"
            | "pg_get_indexdef"
            | "pg_get_viewdef"
            | "pg_get_partkeydef"
            | "pg_get_serial_sequence"
            | "pg_get_ruledef"
            | "pg_get_function_result"
            | "pg_get_functiondef"
            | "pg_tablespace_location"
            | "inet_server_addr"
            | "inet_server_port"
            | "inet_client_addr"
            | "pg_advisory_unlock_all"
            | "array_to_string"
            | "pg_get_statisticsobjdef_columns"
            | "pg_relation_filepath" => null_text(),
            "pg_size_pretty" => text("0 bytes"),
            "format_type" => type_names(first()),
            "quote_ident" => first(),
            "current_schema" => text(SCHEMA),
            "current_user" | "session_user" | "current_role" | "user" => text(self.view.user.clone()),
            "current_schemas" => Expr::Array(datafusion::sql::sqlparser::ast::Array {
                elem: vec![text(PG_CATALOG), text(SCHEMA)],
                named: true,
            }),
            "current_setting" => {
                let name = string_of(&first()).map(str::to_lowercase).unwrap_or_default();
                let known = self.view.settings.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name));
                match (known, arguments.len()) {
                    (Some((_, set)), _) => text(set.clone()),
                    (None, 2) => null_text(),
                    (None, _) => {
                        let message = format!("there is no setting `{name}`");
                        return Err(QueryError::sql(message, None));
                    }
                }
            }
            // A query changes nothing; drivers only want to hear that it did.
            "set_config" => arguments.get(1).cloned().unwrap_or_else(null_text),
            "to_regclass" => match string_of(&first()) {
                Some(name) => self.class(name).unwrap_or_else(|_| value(Value::Null)),
                None => return Ok(None),
            },
            _ => return Ok(None),
        }))
    }
}

fn argument(argument: &FunctionArg) -> Option<&Expr> {
    match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    }
}

fn number(n: i64) -> Expr {
    value(Value::Number(n.to_string(), false))
}

fn cast_to(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

pub(super) fn null_text() -> Expr {
    cast_to(value(Value::Null), DataType::Varchar(None))
}

/// A type's number as its name.
fn type_names(oid: Expr) -> Expr {
    let single = KNOWN.iter().map(|known| (i64::from(known.oid), known.sql_name.to_owned()));
    let arrays = KNOWN.iter().filter(|known| known.array_oid != 0);
    choose(oid, single.chain(arrays.map(|known| (i64::from(known.array_oid), format!("{}[]", known.sql_name)))))
}

/// The text that stands beside a number; NULL for others.
fn choose(number_: Expr, texts: impl Iterator<Item = (i64, String)>) -> Expr {
    let texts: BTreeMap<i64, String> = texts.collect();
    let conditions = texts.into_iter().map(|(n, name)| CaseWhen { condition: number(n), result: text(name) });
    Expr::Case {
        case_token: AttachedToken::empty(),
        end_token: AttachedToken::empty(),
        operand: Some(Box::new(number_)),
        conditions: conditions.collect(),
        else_result: None,
    }
}

fn first_select(body: &SetExpr) -> Option<&Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select(&query.body),
        SetExpr::SetOperation { left, .. } => first_select(left),
        _ => None,
    }
}

fn first_select_mut(body: &mut SetExpr) -> Option<&mut Select> {
    match body {
        SetExpr::Select(select) => Some(select),
        SetExpr::Query(query) => first_select_mut(&mut query.body),
        SetExpr::SetOperation { left, .. } => first_select_mut(left),
        _ => None,
    }
}

/// The columns' names of a query that is not planned.
fn names(query: &Query) -> Vec<String> {
    let items = first_select(&query.body).map_or(&[][..], |select| &select.projection);
    let name = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) => name_of(expr),
        SelectItem::ExprWithAlias { alias, .. } => shown_name(&folded(alias)).to_owned(),
        _ => "?column?".to_owned(),
    };
    items.iter().map(name).collect()
}

/// As Postgres names a column that has no name of its own.
fn name_of(expr: &Expr) -> String {
    match expr {
        Expr::Identifier(ident) => folded(ident),
        Expr::CompoundIdentifier(parts) => parts.last().map(folded).unwrap_or_default(),
        Expr::Function(function) => idents(&function.name).last().map(|ident| folded(ident)).unwrap_or_default(),
        Expr::Cast { expr, .. } | Expr::Nested(expr) => name_of(expr),
        Expr::Case { .. } => "case".to_owned(),
        _ => "?column?".to_owned(),
    }
}

/// What follows it in a column's name is only there to tell it from others, and is not shown.
const MARK: char = '\u{1}';

/// A column's name as clients see it.
pub(super) fn shown_name(name: &str) -> &str {
    name.split(MARK).next().unwrap_or(name)
}

/// Names the columns of the result as Postgres does. The planner would name them by their text, and would not have two
/// of one name.
fn name_columns(query: &mut Query) {
    let Some(select) = first_select_mut(&mut query.body) else { return };
    let wild = |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    let has_wildcard = select.projection.iter().any(wild);
    let mut taken = BTreeSet::new();
    for (at, item) in select.projection.iter_mut().enumerate() {
        let (expr, name, is_plain) = match item {
            // With `*`, it may be among its columns.
            SelectItem::UnnamedExpr(expr @ (Expr::Identifier(_) | Expr::CompoundIdentifier(_))) => {
                (expr.clone(), name_of(expr), !has_wildcard)
            }
            SelectItem::UnnamedExpr(expr) => (expr.clone(), name_of(expr), false),
            SelectItem::ExprWithAlias { expr, alias } => (expr.clone(), folded(alias), true),
            _ => continue,
        };
        if taken.insert(name.clone()) && is_plain {
            continue;
        }
        let alias = Ident::with_quote('"', format!("{name}{MARK}{at}"));
        *item = SelectItem::ExprWithAlias { expr, alias };
    }
}
