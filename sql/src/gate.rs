//! What SQL may pass: one reading statement over the caller's tables, within limits on its text.
//! Three sieves: the tokens are counted before anything recursive sees them ([`count`]), the parsed statement is
//! checked node by node ([`check`]), and the logical plan is checked again ([`verify`]).

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result as DfResult};
use datafusion::execution::context::SQLOptions;
use datafusion::logical_expr::{Expr, LogicalPlan, WindowFunctionDefinition};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{self, SetExpr, TableFactor, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

use crate::catalog::{CATALOG, SCHEMA};
use crate::error::{Position, QueryError, from_datafusion, from_parser};
use crate::expand;

/// A page of SQL is 2 KiB; a generated one rarely passes 20.
pub const SQL_BYTES_MAX: usize = 64 * 1024;
/// Operators, function calls, joins and selects of one statement. Planning is recursive in them.
pub const OPERATORS_MAX: usize = 1_000;
/// Levels of parentheses, brackets, `CASE` and repeated prefix operators.
pub const NESTING_MAX: usize = 100;
/// Tables (each mention counts) in one statement; join planning is worse than linear in them.
pub const TABLES_MAX: usize = 100;
/// Suffixes of one operand in a row: `[]`, `::int`, `.a`, `AT TIME ZONE`. Each wraps what is before it, and a type or a plan grows with it.
pub const SUFFIXES_MAX: usize = 32;
/// Levels of a type that stands in a text, as `arrow_cast` takes one.
const TYPE_LEVELS_MAX: usize = 32;
/// Above what [`NESTING_MAX`] levels need: a level takes a handful of the parser's recursions.
const PARSER_RECURSION_MAX: usize = 2_000;

/// A statement that may be planned.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(crate) statement: Statement,
    /// The tables it names, without duplicates, in order.
    pub(crate) tables: Vec<String>,
    /// The trailing `FORMAT`, as it was written.
    pub(crate) format: Option<String>,
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
        Ok(Self { statement: outer.statement, tables, format: outer.format })
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
    let tokens = tokens(text)?;
    let dialect = GenericDialect {};
    let mut parser =
        Parser::new(&dialect).with_recursion_limit(PARSER_RECURSION_MAX).with_tokens_with_locations(tokens);
    let expr = parser.parse_expr().map_err(|e| from_parser(&e.to_string()))?;
    let next = parser.peek_token();
    if next.token != Token::EOF {
        let position = Position { line: next.span.start.line, column: next.span.start.column };
        return Err(QueryError::sql(format!("the condition ends before `{}`", next.token), Some(position)));
    }
    let mut checker = Checker { tables: 0, queries: false, placeholders: false };
    match expr.visit(&mut checker) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(expr),
    }
}

/// Reads a caller's statement.
/// # Errors  400 for text that is not SQL or too large, 403 for what no caller may do.
pub(crate) fn read(sql: &str) -> Result<Passed, QueryError> {
    check(parse(sql)?)
}

/// Parses without checking what the statement does: [`check`] must follow.
pub(crate) fn parse(sql: &str) -> Result<Statement, QueryError> {
    let mut tokens = tokens(sql)?;
    let format = take_format(&mut tokens);
    let dialect = GenericDialect {};
    let mut parser = DFParserBuilder::new(tokens)
        .with_dialect(&dialect)
        .with_recursion_limit(PARSER_RECURSION_MAX)
        .build()
        .map_err(|e| from_datafusion(&e, 0, 0))?;
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
fn take_format(tokens: &mut Vec<TokenWithSpan>) -> Option<ast::Ident> {
    let skipped = |token: &Token| matches!(token, Token::Whitespace(_) | Token::SemiColon | Token::EOF);
    let mut words = tokens.iter().enumerate().rev().filter(|(_, t)| !skipped(&t.token));
    let ((_, name), (at, format), (_, before)) = (words.next()?, words.next()?, words.next()?);
    let (Token::Word(name), Token::Word(format)) = (&name.token, &format.token) else { return None };
    let is_format = format.keyword == Keyword::FORMAT && format.quote_style.is_none() && name.quote_style.is_none();
    // `FROM format f` names a table, `SELECT format f` a column.
    let ends_something = match &before.token {
        Token::Word(word) => !operator_word(word.keyword) && !opening_word(word.keyword),
        Token::RParen | Token::RBracket => true,
        Token::Mul => true,
        token => is_literal(token),
    };
    if !is_format || !ends_something {
        return None;
    }
    let name = ast::Ident::new(name.value.clone());
    tokens.truncate(at);
    Some(name)
}

/// After these, a name begins.
fn opening_word(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::FROM
            | Keyword::AS
            | Keyword::WITH
            | Keyword::DISTINCT
            | Keyword::ALL
            | Keyword::WHERE
            | Keyword::HAVING
            | Keyword::QUALIFY
            | Keyword::BY
            | Keyword::ON
            | Keyword::THEN
            | Keyword::ELSE
            | Keyword::LIMIT
            | Keyword::OFFSET
    )
}

/// The tokens of a text within the limits.
fn tokens(sql: &str) -> Result<Vec<TokenWithSpan>, QueryError> {
    if sql.len() > SQL_BYTES_MAX {
        return Err(QueryError::SqlTooLarge { what: "bytes", found: sql.len(), limit: SQL_BYTES_MAX });
    }
    let dialect = GenericDialect {};
    let tokens = Tokenizer::new(&dialect, sql).tokenize_with_location().map_err(|e| from_parser(&e.to_string()))?;
    count(&tokens)?;
    count_suffixes(&tokens)?;
    no_blocks(&tokens)?;
    Ok(tokens)
}

/// Counts what wraps an operand from behind, and levels of types in texts, without recursion.
fn count_suffixes(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    // Of each open bracket and of the statement: what stands inside brackets doesn't end what is around them.
    let mut levels = vec![0_usize];
    for token in tokens {
        let suffixes = levels.last_mut().expect("the statement's own stays");
        match &token.token {
            Token::LBracket | Token::DoubleColon | Token::Period | Token::Colon => *suffixes += 1,
            Token::Word(word) => match word.keyword {
                Keyword::AT | Keyword::COLLATE | Keyword::IS | Keyword::NOTNULL => *suffixes += 1,
                Keyword::AND | Keyword::OR | Keyword::WHEN | Keyword::SELECT | Keyword::JOIN => *suffixes = 0,
                keyword if opening_word(keyword) => *suffixes = 0,
                _ => {}
            },
            // What comes next is another operand.
            Token::Comma | Token::SemiColon | Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::Eq => {
                *suffixes = 0;
            }
            token => type_in_text(token)?,
        }
        if *suffixes > SUFFIXES_MAX {
            let (what, found) = ("suffixes in a row", *suffixes);
            return Err(QueryError::SqlTooLarge { what, found, limit: SUFFIXES_MAX });
        }
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => levels.push(0),
            Token::RParen | Token::RBracket | Token::RBrace if levels.len() > 1 => drop(levels.pop()),
            _ => {}
        }
    }
    Ok(())
}

/// A text that may be the name of a type has few levels of brackets.
fn type_in_text(token: &Token) -> Result<(), QueryError> {
    let text = match token {
        Token::DollarQuotedString(dollars) => &dollars.value,
        Token::SingleQuotedString(text)
        | Token::EscapedStringLiteral(text)
        | Token::NationalStringLiteral(text)
        | Token::UnicodeStringLiteral(text)
        | Token::SingleQuotedRawStringLiteral(text) => text,
        // No other token is a text that a function takes.
        _ => return Ok(()),
    };
    if !["List", "Struct", "Map", "Dictionary", "RunEndEncoded", "Union"].iter().any(|name| text.contains(name)) {
        return Ok(());
    }
    let (mut levels, mut most) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'(' => levels += 1,
            b')' => levels = levels.saturating_sub(1),
            _ => {}
        }
        most = most.max(levels);
    }
    let (what, limit) = ("levels of a type", TYPE_LEVELS_MAX);
    if most > limit { Err(QueryError::SqlTooLarge { what, found: most, limit }) } else { Ok(()) }
}

/// Refuses statements that hold statements (`WHILE … DO WHILE …`): the parser goes down into each of them, and nobody may send them.
fn no_blocks(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let words = tokens.iter().filter_map(|token| match &token.token {
        Token::Word(word) if word.quote_style.is_none() => Some(word.keyword),
        _ => None,
    });
    let block = |keyword: &Keyword| {
        matches!(keyword, Keyword::WHILE | Keyword::BEGIN | Keyword::DECLARE | Keyword::PREPARE | Keyword::EXPLAIN)
    };
    let first = words.clone().next();
    let queries = matches!(first, None | Some(Keyword::SELECT | Keyword::WITH | Keyword::VALUES | Keyword::FROM));
    // Within a query these words are names; a text of several statements has them at any start.
    let several = tokens.iter().any(|token| token.token == Token::SemiColon);
    let found = words.skip(1).filter(block).count();
    if (!queries || several) && found > NESTING_MAX {
        return Err(QueryError::SqlTooLarge { what: "statements in statements", found, limit: NESTING_MAX });
    }
    Ok(())
}

/// Counts operators and nesting over the tokens, without recursion.
fn count(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let (mut operators, mut nesting, mut prefixes) = (0_usize, 0_usize, 0_usize);
    let mut operand_before = false;
    let mut previous_word = false;
    for token in tokens {
        let mut operand = false;
        let mut word = false;
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::LParen | Token::LBracket | Token::LBrace => {
                nesting += 1;
                operators += usize::from(previous_word);
            }
            Token::RParen | Token::RBracket | Token::RBrace => {
                nesting = nesting.saturating_sub(1);
                operand = true;
            }
            Token::Word(w) => {
                match w.keyword {
                    Keyword::CASE => nesting += 1,
                    Keyword::END => nesting = nesting.saturating_sub(1),
                    _ => {}
                }
                let operator = operator_word(w.keyword);
                operators += usize::from(operator);
                operand = !operator;
                word = !operator;
            }
            Token::Comma | Token::Period | Token::SemiColon | Token::EOF => {}
            token if is_literal(token) => operand = true,
            _ => operators += 1,
        }
        // A run of prefix operators (`NOT NOT …`, `- - …`) nests as parentheses do.
        let prefix = !operand && !operand_before && !matches!(token.token, Token::Comma | Token::LParen);
        prefixes = if prefix { prefixes + 1 } else { 0 };
        if nesting + prefixes > NESTING_MAX {
            let found = nesting + prefixes;
            return Err(QueryError::SqlTooLarge { what: "levels of nesting", found, limit: NESTING_MAX });
        }
        (operand_before, previous_word) = (operand, word);
    }
    if operators > OPERATORS_MAX {
        return Err(QueryError::SqlTooLarge { what: "operators", found: operators, limit: OPERATORS_MAX });
    }
    Ok(())
}

fn operator_word(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::AND
            | Keyword::OR
            | Keyword::NOT
            | Keyword::XOR
            | Keyword::IS
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::SIMILAR
            | Keyword::BETWEEN
            | Keyword::CASE
            | Keyword::WHEN
            | Keyword::DIV
            | Keyword::COLLATE
            | Keyword::UNION
            | Keyword::INTERSECT
            | Keyword::EXCEPT
            | Keyword::MINUS
            | Keyword::JOIN
            | Keyword::SELECT
            | Keyword::EXISTS
            | Keyword::INTERVAL
    )
}

fn is_literal(token: &Token) -> bool {
    matches!(
        token,
        Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::Placeholder(_)
    )
}

/// Passes a parsed statement that only reads, and says which tables.
pub(crate) fn check(statement: Statement) -> Result<Passed, QueryError> {
    check_with(statement, Extra::default())
}

/// The same, where there is more to be named. `tables` are the tenant's own.
pub(crate) fn check_with(mut statement: Statement, extra: Extra) -> Result<Passed, QueryError> {
    let query = inner_query(&mut statement)?;
    let format = match query.format_clause.take() {
        None => None,
        Some(ast::FormatClause::Identifier(name)) => Some(name.value),
        Some(ast::FormatClause::Null) => return Err(QueryError::not_allowed("FORMAT NULL", None)),
    };
    let mut checker = Checker { tables: 0, queries: true, placeholders: extra.placeholders };
    if let ControlFlow::Break(e) = query.visit(&mut checker) {
        return Err(e);
    }
    expand::check(query)?;
    let tables = tables(&statement, extra)?;
    Ok(Passed { statement, tables, format })
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
    const ONLY: &str = "only one SELECT (or WITH … SELECT, or EXPLAIN SELECT) is";
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

fn first_word(statement: &ast::Statement) -> String {
    statement.to_string().split_whitespace().next().unwrap_or("such").to_ascii_uppercase()
}

/// Refuses every construct that writes, reads files, generates rows, or reaches around the catalog.
struct Checker {
    tables: usize,
    /// Whether there may be queries at all.
    queries: bool,
    /// Whether `$n` may stand for a value.
    placeholders: bool,
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
                SetExpr::SetOperation { left, right, .. } => bodies.extend([left.as_ref(), right.as_ref()]),
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
        if !select.lateral_views.is_empty() || !select.connect_by.is_empty() {
            return refuse("LATERAL VIEW and CONNECT BY", Some(select.select_token.0.span.start));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<QueryError> {
        self.tables += 1;
        if self.tables > TABLES_MAX {
            return ControlFlow::Break(QueryError::SqlTooLarge {
                what: "tables",
                found: self.tables,
                limit: TABLES_MAX,
            });
        }
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

fn refuse(what: &str, at: Option<Location>) -> ControlFlow<QueryError> {
    let position = at.filter(|l| l.line > 0).map(|l| Position { line: l.line, column: l.column });
    ControlFlow::Break(QueryError::not_allowed(what, position))
}

/// Whether a window expression keeps all values of its frame: one frame a row, so quadratic in memory or time.
fn collects(expr: &Expr) -> bool {
    const COLLECTORS: [&str; 6] =
        ["array_agg", "string_agg", "median", "percentile_cont", "approx_percentile_cont", "approx_median"];
    let found = expr.exists(|e| {
        Ok(matches!(e, Expr::WindowFunction(f)
            if matches!(&f.fun, WindowFunctionDefinition::AggregateUDF(u) if COLLECTORS.contains(&u.name()))))
    });
    // The closure never fails.
    found.unwrap_or(true)
}

/// The second look, at what the planner understood. `SQLOptions` allows everything unless told.
pub(crate) fn verify(plan: &LogicalPlan) -> DfResult<()> {
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(plan)?;
    plan.apply_with_subqueries(|node| match node {
        LogicalPlan::Window(window) if window.window_expr.iter().any(collects) => {
            let refused = QueryError::not_allowed("an aggregate that keeps its values, OVER a window", None);
            Err(DataFusionError::External(Box::new(refused)))
        }
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
