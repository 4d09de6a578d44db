//! How large and how deep a statement is once its common tables stand wherever they are named. The planner puts them there,
//! so a short chain of them, each naming the one before twice, would be a plan of any size, and the nodes of an endpoint, each
//! over the one before, one of any depth. Start at [`check`].

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, SetExpr, TableFactor, Visit, Visitor};

use crate::error::QueryError;

/// Tables of a statement, those of common tables counted each time these are named.
const EXPANDED_MAX: usize = 400;
/// The same of expressions and values: five of the longest lists.
const PARTS_MAX: usize = 50_000;
/// The same of queries in queries and set operations, one below the other. Planning is recursive in them.
const LEVELS_MAX: usize = 1_000;
/// The same of queries in expressions of queries (`IN (SELECT …)`). Planning takes twice as long with each.
const SUBQUERIES_MAX: usize = 8;

/// Refuses a statement that would be too large.
/// # Errors  `SqlTooLarge`.
pub(crate) fn check(query: &Query) -> Result<(), QueryError> {
    let mut found = Names::default();
    let _: ControlFlow<()> = query.visit(&mut found);
    let mut sizes = HashMap::new();
    let size = found.written(&found.all, &mut sizes, 0);
    for (what, found, limit) in [
        ("tables, those of common tables counted each time they are named", size.tables, EXPANDED_MAX),
        ("expressions, those of common tables counted each time they are named", size.parts, PARTS_MAX),
        ("levels of queries, those of common tables among them", size.levels, LEVELS_MAX),
        ("levels of queries in expressions, those of common tables among them", size.subqueries, SUBQUERIES_MAX),
    ] {
        if found > limit {
            return Err(QueryError::SqlTooLarge { what, found, limit });
        }
    }
    Ok(())
}

/// How large something is, with the common tables in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    tables: usize,
    parts: usize,
    levels: usize,
    subqueries: usize,
}

/// What is written in a query, or in a whole statement.
#[derive(Debug, Default)]
struct Written {
    /// With the levels of queries in expressions that are around each.
    names: Vec<(String, usize)>,
    parts: usize,
    /// Of queries that are open.
    open: Vec<usize>,
    levels: usize,
    open_subqueries: usize,
    subqueries: usize,
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(expr, Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. })
}

impl Written {
    /// A UNION of many is a deep left chain, so its length counts.
    fn enter(&mut self, query: &Query) {
        let mut levels = 1 + self.open.last().copied().unwrap_or(0);
        let mut body = query.body.as_ref();
        while let SetExpr::SetOperation { left, .. } = body {
            levels += 1;
            body = left;
        }
        self.open.push(levels);
        self.levels = self.levels.max(levels);
    }
}

/// A query's own, without looking into the common tables that it names.
impl Visitor for Written {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.enter(query);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.open.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.parts += 1;
        self.open_subqueries += usize::from(is_subquery(expr));
        self.subqueries = self.subqueries.max(self.open_subqueries);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.open_subqueries -= usize::from(is_subquery(expr));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.names.extend(name(factor).map(|name| (name, self.open_subqueries)));
        ControlFlow::Continue(())
    }
}

/// The tables that are named, by the common table inside which they are; scopes are not told apart, so that of common
/// tables with the same name the sum counts.
#[derive(Default)]
struct Names {
    all: Written,
    common: HashMap<String, Written>,
}

impl Names {
    /// Each size is computed once; a name inside its own definition is another table.
    fn size(&self, name: &str, sizes: &mut HashMap<String, Size>, depth: usize) -> Size {
        /// Common tables of a statement are bounded by its operators.
        const DEPTH_MAX: usize = 1_000;
        const TABLE: Size = Size { tables: 1, parts: 0, levels: 1, subqueries: 0 };
        if let Some(size) = sizes.get(name) {
            return *size;
        }
        let Some(inside) = self.common.get(name).filter(|_| depth < DEPTH_MAX) else { return TABLE };
        sizes.insert(name.to_owned(), TABLE);
        let written = self.written(inside, sizes, depth + 1);
        let size = Size { tables: written.tables.saturating_add(1), ..written };
        sizes.insert(name.to_owned(), size);
        size
    }

    /// A name adds what it stands for; what is deepest among them goes below the rest.
    fn written(&self, written: &Written, sizes: &mut HashMap<String, Size>, depth: usize) -> Size {
        let mut size = Size { tables: 0, parts: written.parts, levels: 0, subqueries: written.subqueries };
        for (name, within) in &written.names {
            let named = self.size(name, sizes, depth);
            size.tables = size.tables.saturating_add(named.tables);
            size.parts = size.parts.saturating_add(named.parts);
            size.levels = size.levels.max(named.levels);
            size.subqueries = size.subqueries.max(within + named.subqueries);
        }
        Size { levels: size.levels.saturating_add(written.levels), ..size }
    }
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for common in query.with.iter().flat_map(|with| &with.cte_tables) {
            let known = self.common.entry(common.alias.name.value.to_lowercase()).or_default();
            let _: ControlFlow<()> = common.query.visit(known);
        }
        self.all.pre_visit_query(query)
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.all.post_visit_query(query)
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.all.pre_visit_expr(expr)
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.all.post_visit_expr(expr)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.all.pre_visit_table_factor(factor)
    }
}

fn name(factor: &TableFactor) -> Option<String> {
    let TableFactor::Table { name, .. } = factor else { return None };
    Some(name.0.last()?.as_ident()?.value.to_lowercase())
}
