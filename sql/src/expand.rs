//! How large a statement is once its common tables stand wherever they are named. The planner puts them there, so a short
//! chain of them, each naming the one before twice, would be a plan of any size. Start at [`check`].

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Query, TableFactor, Visit, Visitor};

use crate::error::QueryError;

/// Tables of a statement, those of common tables counted each time these are named.
const EXPANDED_MAX: usize = 400;

/// Refuses a statement that would be too large.
/// # Errors  `SqlTooLarge`.
pub(crate) fn check(query: &Query) -> Result<(), QueryError> {
    let mut found = Names::default();
    let _: ControlFlow<()> = query.visit(&mut found);
    if found.common.is_empty() {
        return Ok(());
    }
    let mut sizes = HashMap::new();
    let size = found.names.iter().fold(0_usize, |sum, name| sum.saturating_add(found.size(name, &mut sizes, 0)));
    if size > EXPANDED_MAX {
        let what = "tables, those of common tables counted each time they are named";
        return Err(QueryError::SqlTooLarge { what, found: size, limit: EXPANDED_MAX });
    }
    Ok(())
}

/// The tables that are named, by the common table inside which they are; scopes are not told apart, so that of common
/// tables with the same name the sum counts.
#[derive(Default)]
struct Names {
    names: Vec<String>,
    common: HashMap<String, Vec<String>>,
}

impl Names {
    /// Each size is computed once; a name inside its own definition is another table.
    fn size(&self, name: &str, sizes: &mut HashMap<String, usize>, depth: usize) -> usize {
        /// Common tables of a statement are bounded by its operators.
        const DEPTH_MAX: usize = 1_000;
        if let Some(size) = sizes.get(name) {
            return *size;
        }
        let Some(inside) = self.common.get(name).filter(|_| depth < DEPTH_MAX) else { return 1 };
        sizes.insert(name.to_owned(), 1);
        let size = inside.iter().fold(1_usize, |sum, name| sum.saturating_add(self.size(name, sizes, depth + 1)));
        sizes.insert(name.to_owned(), size);
        size
    }
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for common in query.with.iter().flat_map(|with| &with.cte_tables) {
            let mut inside = Inside::default();
            let _: ControlFlow<()> = common.query.visit(&mut inside);
            self.common.entry(common.alias.name.value.to_lowercase()).or_default().extend(inside.0);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.names.extend(name(factor));
        ControlFlow::Continue(())
    }
}

/// The tables that a part of a statement names.
#[derive(Default)]
struct Inside(Vec<String>);

impl Visitor for Inside {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        self.0.extend(name(factor));
        ControlFlow::Continue(())
    }
}

fn name(factor: &TableFactor) -> Option<String> {
    let TableFactor::Table { name, .. } = factor else { return None };
    Some(name.0.last()?.as_ident()?.value.to_lowercase())
}
