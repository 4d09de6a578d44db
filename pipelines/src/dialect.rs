//! The SQL that Arroyo and DataFusion both take, and that keeps a job stateless: select and filter, nothing else.
//!
//! An allow list: what isn't named here is refused, so that a construct only one engine knows can't slip in.
//! Start at [`check`].

use crate::job::SOURCE;
use datafusion::sql::sqlparser::ast::{
    DataType, Expr, Function, FunctionArguments, GroupByExpr, Query, Select, SelectItem, SetExpr, SetOperator,
    SetQuantifier, Statement, TableFactor, visit_expressions,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use std::ops::ControlFlow;

/// Functions that both engines have under the same name and meaning, besides those in `udfs/`.
const FUNCTIONS: [&str; 5] = ["json_get_str", "json_get_int", "json_get_float", "json_get_bool", "coalesce"];

/// A job's SQL that one of the engines would refuse, or that isn't stateless. Never retry: the file is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialectError {
    /// Not SQL; the message names line and column.
    #[error("{0}")]
    Syntax(#[from] ParserError),
    /// A construct outside the common dialect.
    #[error("a job can't use {0}: it selects and filters, in the SQL that Arroyo and DataFusion share")]
    Refused(String),
}

/// Checks that `sql` is one statement, `SELECT … FROM events WHERE …` or several joined by `UNION ALL`.
///
/// # Errors
/// [`DialectError`] with the position of a syntax error or the construct that is refused.
pub fn check(sql: &str) -> Result<(), DialectError> {
    match Parser::parse_sql(&GenericDialect {}, sql)?.as_slice() {
        [Statement::Query(query)] => check_query(query),
        [other] => refuse(other),
        _ => refuse("more or less than one statement"),
    }
}

fn refuse<T>(what: impl ToString) -> Result<T, DialectError> {
    Err(DialectError::Refused(what.to_string()))
}

/// Refuses the first clause that is there.
fn refuse_present(clauses: &[(bool, &str)]) -> Result<(), DialectError> {
    match clauses.iter().find(|(present, _)| *present) {
        Some((_, name)) => refuse(name),
        None => Ok(()),
    }
}

fn check_query(query: &Query) -> Result<(), DialectError> {
    refuse_present(&[
        (query.with.is_some(), "WITH"),
        (query.order_by.is_some(), "ORDER BY"),
        (query.limit_clause.is_some() || query.fetch.is_some(), "LIMIT"),
        (!query.locks.is_empty() || query.for_clause.is_some(), "FOR"),
        (query.settings.is_some() || query.format_clause.is_some(), "SETTINGS or FORMAT"),
        (!query.pipe_operators.is_empty(), "pipe operators"),
    ])?;
    check_body(&query.body)
}

fn check_body(body: &SetExpr) -> Result<(), DialectError> {
    match body {
        SetExpr::Select(select) => check_select(select),
        SetExpr::SetOperation { left, op: SetOperator::Union, set_quantifier: SetQuantifier::All, right } => {
            check_body(left)?;
            check_body(right)
        }
        SetExpr::SetOperation { op, set_quantifier, .. } => refuse(format!("{op} {set_quantifier}")),
        other => refuse(other),
    }
}

fn check_select(select: &Select) -> Result<(), DialectError> {
    let grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(expressions, modifiers) => !expressions.is_empty() || !modifiers.is_empty(),
    };
    refuse_present(&[
        (grouped || select.having.is_some(), "GROUP BY or HAVING"),
        (select.distinct.is_some(), "DISTINCT"),
        (select.top.is_some(), "TOP"),
        (select.into.is_some(), "INTO"),
        (!select.named_window.is_empty() || select.qualify.is_some(), "WINDOW or QUALIFY"),
        (!select.lateral_views.is_empty() || select.prewhere.is_some(), "LATERAL VIEW or PREWHERE"),
        (!select.connect_by.is_empty(), "CONNECT BY"),
        (!select.cluster_by.is_empty() || !select.distribute_by.is_empty(), "CLUSTER BY or DISTRIBUTE BY"),
        (!select.sort_by.is_empty(), "SORT BY"),
    ])?;
    match select.from.as_slice() {
        [from] if !from.joins.is_empty() => refuse("JOIN")?,
        [from] if matches!(&from.relation, TableFactor::Table { name, args: None, .. } if name.to_string() == SOURCE) =>
            {}
        _ => refuse(format!("a FROM other than {SOURCE}"))?,
    }
    for item in &select.projection {
        if !matches!(item, SelectItem::ExprWithAlias { .. }) {
            refuse(format!("'{item}' without a name, give it one with AS"))?;
        }
    }
    let seen = visit_expressions(select, |expression| match check_expression(expression) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    });
    match seen {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Looks at one expression; its parts are visited by themselves.
fn check_expression(expression: &Expr) -> Result<(), DialectError> {
    match expression {
        Expr::Value(_)
        | Expr::BinaryOp { .. }
        | Expr::UnaryOp { .. }
        | Expr::Nested(_)
        | Expr::Case { .. }
        | Expr::InList { .. }
        | Expr::Between { .. }
        | Expr::IsNull(_)
        | Expr::IsNotNull(_) => Ok(()),
        Expr::Identifier(name) if name.value == "value" => Ok(()),
        Expr::Identifier(name) => refuse(format!("the column '{name}', events have only 'value'")),
        Expr::Cast { data_type: DataType::Text | DataType::BigInt(_) | DataType::Double(_), .. } => Ok(()),
        Expr::Function(function) => check_function(function),
        other => refuse(format!("'{other}'")),
    }
}

fn check_function(function: &Function) -> Result<(), DialectError> {
    let name = function.name.to_string();
    let ours = crate::UDF_FILES.iter().any(|(udf, _)| *udf == name);
    refuse_present(&[
        (function.over.is_some(), "window functions"),
        (function.filter.is_some() || !function.within_group.is_empty(), "aggregates"),
        (!matches!(function.args, FunctionArguments::List(_)), "functions without plain arguments"),
    ])?;
    if ours || FUNCTIONS.contains(&name.as_str()) { Ok(()) } else { refuse(format!("the function {name}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "SELECT json_get_str(value, 'id') AS id FROM events WHERE json_get_int(value, 'v') = 1";

    #[test]
    fn selecting_filtering_and_union_all_are_the_dialect() {
        assert_eq!(check(PLAIN), Ok(()));
        assert_eq!(check(&format!("{PLAIN} UNION ALL {PLAIN}")), Ok(()));
        let case = "CASE WHEN value IS NULL THEN readable_id(value) ELSE CAST(coalesce(1, 2) AS TEXT) END";
        assert_eq!(check(&format!("SELECT {case} AS a FROM events")), Ok(()));
    }

    #[test]
    fn what_arroyo_refuses_or_keeps_state_for_is_refused_by_name() {
        let refused = |sql: &str| check(sql).expect_err(sql).to_string();
        for (sql, named) in [
            (format!("{PLAIN} ORDER BY 1"), "ORDER BY"),
            (format!("{PLAIN} LIMIT 1"), "LIMIT"),
            (format!("WITH e AS (SELECT 1) {PLAIN}"), "WITH"),
            (format!("{PLAIN} UNION {PLAIN}"), "UNION"),
            (format!("{PLAIN}; {PLAIN}"), "one statement"),
            ("INSERT INTO a SELECT 1".to_owned(), "INSERT"),
            ("SELECT 1 AS a FROM events JOIN events AS e ON true".to_owned(), "JOIN"),
            ("SELECT 1 AS a FROM events, events".to_owned(), "FROM other"),
            ("SELECT 1 AS a FROM (SELECT 1 AS b FROM events)".to_owned(), "FROM other"),
            ("SELECT 1 AS a FROM events GROUP BY value".to_owned(), "GROUP BY"),
            ("SELECT DISTINCT 1 AS a FROM events".to_owned(), "DISTINCT"),
            ("SELECT count(value) AS a FROM events".to_owned(), "the function count"),
            ("SELECT coalesce(1) OVER () AS a FROM events".to_owned(), "window functions"),
            ("SELECT (SELECT 1) AS a FROM events".to_owned(), "'(SELECT 1)'"),
            ("SELECT now() AS a FROM events".to_owned(), "the function now"),
            ("SELECT CAST('a' AS UUID) AS a FROM events".to_owned(), "UUID"),
            ("SELECT tenant AS a FROM events".to_owned(), "the column 'tenant'"),
            ("SELECT value FROM events".to_owned(), "without a name"),
        ] {
            let error = refused(&sql);
            assert!(error.contains(named), "{sql}: {error}");
        }
        assert!(refused("SELECT\n  ) AS a").contains("Line: 2"));
    }
}
