//! What SQL may pass: one reading statement over the caller's tables, within limits on its text.
//! Three sieves: the tokens are counted before anything recursive sees them ([`Tokens`]), the parsed statement is
//! checked node by node ([`check`]), and the logical plan is checked again ([`verify`]).

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::ops::ControlFlow;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{self, SetExpr, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Location, Token};

use crate::budget::{ONLY, Tokens};
use crate::catalog::{CATALOG, SCHEMA};
use crate::error::{Position, QueryError, from_datafusion, from_parser};
use crate::source::Source;
use crate::{aggregates, budget, expand, inlined, types, windows};

/// Tables (each mention counts), INTERSECTs and EXCEPTs in one statement; join planning is worse than linear in them.
pub const TABLES_MAX: usize = 100;

/// Columns of one SELECT, as PostgreSQL has it. Their names are compared with one another.
const COLUMNS_MAX: usize = 1_664;
/// Aggregates and window functions in what another filters, sorts or divides by: SQL has two. The engine's names of them take twice the
/// memory with each.
const AGGREGATES_MAX: usize = 4;
/// Sets of groups in one SELECT: `CUBE` over eight columns. Each is a part of the plan.
const GROUPING_SETS_MAX: usize = 256;

/// A statement that may be planned.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) statement: Statement,
    /// The tables it names, without duplicates, in order.
    pub(crate) tables: Vec<String>,
    /// The trailing `FORMAT`, as it was written.
    pub(crate) format: Option<String>,
    /// What tells it from others; none of a statement whose values are the Postgres wire's.
    pub(crate) source: Option<Source>,
}

/// What a statement may name besides the tenant's own tables.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Extra {
    /// Schemas that were made for this call.
    pub(crate) schemas: &'static [&'static str],
    /// `$n`, for a statement that is only described.
    pub(crate) placeholders: bool,
}

/// The name of an endpoint's result in a query over it.
const RESULT: &str = "_";

impl Passed {
    /// A caller's query over this one's result: the result is a common table named `_`, and nothing else is there.
    /// # Errors  As [`read`]; 403 for any other table.
    pub(crate) fn under(self, sql: &str) -> Result<Self, QueryError> {
        let mut outer = read(sql)?;
        let source = self.source.zip(outer.source).map(|(inner, outer)| inner.under(outer));
        if let Some(other) = outer.tables.iter().find(|t| *t != RESULT) {
            let message = format!("`{other}`: a query over an endpoint reads only its result, `{RESULT}`");
            return Err(QueryError::not_allowed(message, None));
        }
        let (Some(query), Statement::Statement(inner)) = (plain_query(&mut outer.statement), self.statement) else {
            return Err(QueryError::not_allowed("EXPLAIN over an endpoint", None));
        };
        let ast::Statement::Query(result) = *inner else { return Err(QueryError::Internal) };
        let alias = ast::TableAlias {
            explicit: true,
            name: ast::Ident::with_quote('"', RESULT),
            columns: Vec::new(),
            at: None,
        };
        let result = ast::Cte {
            alias,
            query: result,
            from: None,
            materialized: None,
            closing_paren_token: AttachedToken::empty(),
        };
        // First, so that the caller's own common tables see it, and it sees none of them.
        let nothing =
            || ast::With { with_token: AttachedToken::empty(), recursive: false, cte_tables: Vec::with_capacity(1) };
        query.with.get_or_insert_with(nothing).cte_tables.insert(0, result);
        expand::check(query)?;
        let tables = tables(&outer.statement, Extra::default())?;
        Ok(Self { statement: outer.statement, tables, format: outer.format, source })
    }
}

pub(crate) fn plain_query(statement: &mut Statement) -> Option<&mut ast::Query> {
    match statement {
        Statement::Statement(inner) => match inner.as_mut() {
            ast::Statement::Query(query) => Some(query),
            _ => None,
        },
        _ => None,
    }
}

/// Reads a token's row filter: one condition over the columns of one table.
/// # Errors  As [`read`]; 403 for a query inside it.
pub(crate) fn condition(text: &str) -> Result<ast::Expr, QueryError> {
    let mut parser = Tokens::read(text)?.parser();
    let expr = parser.parse_expr().map_err(|e| from_parser(&e.to_string()))?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        let position = Position { line: next.span.start.line, column: next.span.start.column };
        return Err(QueryError::sql(format!("the condition ends before `{}`", next.token), Some(position)));
    }
    let mut checker = Checker { tables: 0, aggregates: 0, queries: false, placeholders: false };
    match expr.visit(&mut checker) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(expr),
    }
}

/// Reads a caller's statement.
/// # Errors  400 for text that is not SQL or too large, 403 for what no caller may do.
pub(crate) fn read(sql: &str) -> Result<Passed, QueryError> {
    check(parse(sql)?, Source::text(sql))
}

/// Parses without checking what the statement does: [`check`] must follow.
pub(crate) fn parse(sql: &str) -> Result<Statement, QueryError> {
    let mut tokens = Tokens::read(sql)?;
    let format = take_format(&mut tokens);
    let mut parser = tokens.statements()?;
    let mut statements = parser.parse_statements().map_err(|e| from_datafusion(&e, 0, 0))?;
    match (statements.pop_front(), statements.len()) {
        (Some(mut statement), 0) => {
            if let Some(name) = format {
                inner_query(&mut statement)?.format_clause = Some(ast::FormatClause::Identifier(name));
            }
            Ok(statement)
        }
        (None, _) => Err(QueryError::sql("there is no statement; send one SELECT", None)),
        (_, more) => Err(QueryError::not_allowed(format!("{} statements; send one SELECT at a time", more + 1), None)),
    }
}

/// Takes a trailing `FORMAT name` off. The parser would read `SELECT 1 FORMAT CSV` as a column named `format`.
fn take_format(tokens: &mut Tokens) -> Option<ast::Ident> {
    let skipped = |token: &Token| matches!(token, Token::Whitespace(_) | Token::SemiColon | Token::EOF);
    let mut words = tokens.as_slice().iter().enumerate().rev().filter(|(_, t)| !skipped(&t.token));
    let ((_, name), (at, format), (_, before)) = (words.next()?, words.next()?, words.next()?);
    let (Token::Word(name), Token::Word(format)) = (&name.token, &format.token) else { return None };
    let is_format = format.keyword == Keyword::FORMAT && format.quote_style.is_none() && name.quote_style.is_none();
    // `FROM format f` names a table, `SELECT format f` a column.
    let ends_something = match &before.token {
        Token::Word(word) => !budget::expects_more(word.keyword),
        Token::RParen | Token::RBracket => true,
        Token::Mul => true,
        token => budget::is_literal(token),
    };
    if !is_format || !ends_something {
        return None;
    }
    let name = ast::Ident::new(name.value.clone());
    tokens.truncate(at);
    Some(name)
}

/// Passes a parsed statement that only reads, and says which tables. `source` is all that it was made of.
pub(crate) fn check(statement: Statement, source: Source) -> Result<Passed, QueryError> {
    Ok(Passed { source: Some(source), ..check_with(statement, Extra::default())? })
}

/// The same, where there is more to be named. `tables` are the tenant's own.
pub(crate) fn check_with(mut statement: Statement, extra: Extra) -> Result<Passed, QueryError> {
    let query = inner_query(&mut statement)?;
    let format = match query.format_clause.take() {
        None => None,
        Some(ast::FormatClause::Identifier(name)) => Some(name.value),
        Some(ast::FormatClause::Null) => return Err(QueryError::not_allowed("FORMAT NULL", None)),
    };
    let mut checker = Checker { tables: 0, aggregates: 0, queries: true, placeholders: extra.placeholders };
    if let ControlFlow::Break(e) = query.visit(&mut checker) {
        return Err(e);
    }
    expand::check(query)?;
    let tables = tables(&statement, extra)?;
    Ok(Passed { statement, tables, format, source: None })
}

/// The tables that a statement reads, as the planner will resolve them.
/// # Errors  403 for what is in no catalog of the call.
pub(crate) fn tables(statement: &Statement, extra: Extra) -> Result<Vec<String>, QueryError> {
    let references = resolve_table_references(statement, true).map_err(|e| from_datafusion(&e, 0, 0))?.0;
    let mut tables = BTreeSet::new();
    for reference in references {
        if reference.catalog().is_none() && reference.schema().is_some_and(|s| extra.schemas.contains(&s)) {
            continue;
        }
        if reference.catalog().is_some_and(|c| c != CATALOG) || reference.schema().is_some_and(|s| s != SCHEMA) {
            return Err(QueryError::not_allowed(
                format!("`{reference}`: only the tenant's own tables are there"),
                None,
            ));
        }
        tables.insert(reference.table().to_owned());
    }
    Ok(tables.into_iter().collect())
}

/// The query of a SELECT or of an EXPLAIN of one.
pub(crate) fn inner_query(statement: &mut Statement) -> Result<&mut ast::Query, QueryError> {
    match statement {
        Statement::Statement(inner) => match inner.as_mut() {
            ast::Statement::Query(query) => Ok(query),
            other => Err(QueryError::not_allowed(format!("{} statements; {ONLY}", first_word(other)), None)),
        },
        Statement::Explain(explain) => {
            let options = &explain.options;
            if options.analyze || options.verbose || options.format.is_some() {
                return Err(QueryError::not_allowed("EXPLAIN with options; plain EXPLAIN is", None));
            }
            match explain.statement.as_mut() {
                Statement::Statement(inner) => match inner.as_mut() {
                    ast::Statement::Query(query) => Ok(query),
                    other => Err(QueryError::not_allowed(format!("EXPLAIN {}; {ONLY}", first_word(other)), None)),
                },
                _ => Err(QueryError::not_allowed(format!("this EXPLAIN; {ONLY}"), None)),
            }
        }
        Statement::CreateExternalTable(_) => Err(QueryError::not_allowed(format!("external tables; {ONLY}"), None)),
        Statement::CopyTo(_) => Err(QueryError::not_allowed(format!("COPY; {ONLY}"), None)),
        Statement::Reset(_) => Err(QueryError::not_allowed(format!("RESET; {ONLY}"), None)),
    }
}

/// Of a statement's text; the rest isn't printed.
fn first_word(statement: &ast::Statement) -> String {
    struct Word(String);
    impl fmt::Write for Word {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let end = text.find(char::is_whitespace);
            self.0.push_str(&text[..end.unwrap_or(text.len())]);
            if end.is_some() { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut word = Word(String::new());
    // Stopped after the first word.
    let _ = write!(word, "{statement}");
    if word.0.is_empty() { "such".to_owned() } else { word.0.to_ascii_uppercase() }
}

/// Refuses every construct that writes, reads files, generates rows, or reaches around the catalog.
struct Checker {
    tables: usize,
    /// Aggregates and window functions that are open.
    aggregates: usize,
    /// Whether there may be queries at all.
    queries: bool,
    /// Whether `$n` may stand for a value.
    placeholders: bool,
}

impl Checker {
    fn count_table(&mut self) -> ControlFlow<QueryError> {
        self.tables += 1;
        let (what, found, limit) = ("tables", self.tables, TABLES_MAX);
        if found > limit {
            return ControlFlow::Break(QueryError::SqlTooLarge { what, found, limit });
        }
        ControlFlow::Continue(())
    }
}

impl Visitor for Checker {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &ast::Query) -> ControlFlow<QueryError> {
        if !self.queries {
            return refuse("a query inside a condition", None);
        }
        if let Some(with) = &query.with
            && with.recursive
        {
            return refuse("recursive WITH", Some(with.with_token.0.span.start));
        }
        if query.settings.is_some() {
            return refuse("SETTINGS", None);
        }
        if query.format_clause.is_some() {
            return refuse("FORMAT inside a query", None);
        }
        if query.for_clause.is_some() || !query.locks.is_empty() || !query.pipe_operators.is_empty() {
            return refuse("FOR and pipe clauses", None);
        }
        // A UNION of many is a deep left chain, so this walks with a list of its own.
        let mut bodies = vec![query.body.as_ref()];
        while let Some(body) = bodies.pop() {
            match body {
                SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => {}
                SetExpr::SetOperation { op, left, right, .. } => {
                    // INTERSECT and EXCEPT are planned as joins.
                    if *op != ast::SetOperator::Union {
                        self.count_table()?;
                    }
                    bodies.extend([left.as_ref(), right.as_ref()]);
                }
                SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                    return refuse("statements that write", None);
                }
                SetExpr::Table(_) => return refuse("TABLE; write SELECT * FROM", None),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &ast::Select) -> ControlFlow<QueryError> {
        if select.into.is_some() {
            return refuse("SELECT INTO", Some(select.select_token.0.span.start));
        }
        let columns = select.projection.len();
        if columns > COLUMNS_MAX {
            let (what, limit) = ("columns", COLUMNS_MAX);
            return ControlFlow::Break(QueryError::SqlTooLarge { what, found: columns, limit });
        }
        let sets = grouping_sets(&select.group_by);
        if sets > GROUPING_SETS_MAX {
            let (what, limit) = ("sets of groups", GROUPING_SETS_MAX);
            return ControlFlow::Break(QueryError::SqlTooLarge { what, found: sets, limit });
        }
        if !select.lateral_views.is_empty() || !select.connect_by.is_empty() {
            return refuse("LATERAL VIEW and CONNECT BY", Some(select.select_token.0.span.start));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<QueryError> {
        self.count_table()?;
        match factor {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                refuse(&format!("the table function `{name}`"), None)
            }
            TableFactor::Table { name, .. } => {
                let quoted = name.0.iter().filter_map(|p| p.as_ident()).find(|i| i.value.contains(['/', '\\', ':']));
                match quoted {
                    Some(ident) => refuse("files and URLs", Some(ident.span.start)),
                    None => ControlFlow::Continue(()),
                }
            }
            TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } | TableFactor::UNNEST { .. } => {
                ControlFlow::Continue(())
            }
            _ => refuse("this kind of table", None),
        }
    }

    fn pre_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<QueryError> {
        self.aggregates += usize::from(is_aggregate(expr));
        let (what, found, limit) = ("aggregates in one another", self.aggregates, AGGREGATES_MAX);
        if found > limit {
            return ControlFlow::Break(QueryError::SqlTooLarge { what, found, limit });
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &ast::Expr) -> ControlFlow<QueryError> {
        self.aggregates -= usize::from(is_aggregate(expr));
        ControlFlow::Continue(())
    }

    fn pre_visit_statement(&mut self, _: &ast::Statement) -> ControlFlow<QueryError> {
        refuse("a statement inside a query", None)
    }

    fn pre_visit_value(&mut self, value: &ast::ValueWithSpan) -> ControlFlow<QueryError> {
        match &value.value {
            ast::Value::Placeholder(name) if !self.placeholders => {
                refuse(&format!("the placeholder `{name}`"), Some(value.span.start))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// A call with what only aggregates and window functions have.
fn is_aggregate(expr: &ast::Expr) -> bool {
    let ast::Expr::Function(call) = expr else { return false };
    let ordered = matches!(&call.args, ast::FunctionArguments::List(list) if !list.clauses.is_empty());
    call.filter.is_some() || call.over.is_some() || !call.within_group.is_empty() || ordered
}

/// How many sets a GROUP BY asks for; those of several clauses multiply.
fn grouping_sets(group_by: &ast::GroupByExpr) -> usize {
    let ast::GroupByExpr::Expressions(exprs, modifiers) = group_by else { return 1 };
    let power = |count: usize| 1_usize.checked_shl(u32::try_from(count).unwrap_or(u32::MAX)).unwrap_or(usize::MAX);
    let of = |expr: &ast::Expr| match expr {
        ast::Expr::Cube(sets) => power(sets.len()),
        ast::Expr::Rollup(sets) => sets.len() + 1,
        ast::Expr::GroupingSets(sets) => sets.len(),
        _ => 1,
    };
    // `GROUP BY a, b WITH CUBE`.
    let with = if modifiers.is_empty() { 1 } else { power(exprs.len()) };
    exprs.iter().map(of).fold(with, usize::saturating_mul)
}

fn refuse(what: &str, at: Option<Location>) -> ControlFlow<QueryError> {
    let position = at.filter(|l| l.line > 0).map(|l| Position { line: l.line, column: l.column });
    ControlFlow::Break(QueryError::not_allowed(what, position))
}

/// The second look, at what the planner understood. `SQLOptions` allows everything unless told.
pub(crate) fn verify(plan: &LogicalPlan) -> DfResult<()> {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(plan)?;
    plan.apply_with_subqueries(|node| {
        types::check(node.schema().fields())?;
        node.apply_expressions(|expr| {
            types::check_casts(expr)?;
            aggregates::check(expr)?;
            windows::check(expr)?;
            Ok(TreeNodeRecursion::Continue)
        })
    })?;
    inlined::check(plan)?;
    plan.apply_with_subqueries(|node| match node {
        LogicalPlan::Ddl(_)
        | LogicalPlan::Dml(_)
        | LogicalPlan::Copy(_)
        | LogicalPlan::Statement(_)
        | LogicalPlan::DescribeTable(_)
        | LogicalPlan::RecursiveQuery(_)
        | LogicalPlan::Extension(_) => {
            let refused = QueryError::not_allowed("this kind of statement", None);
            Err(DataFusionError::External(Box::new(refused)))
        }
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(())
}
