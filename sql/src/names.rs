//! Column names in the case in which they were sent. SQL reads an unquoted name in lower case; a tenant's own column
//! `userId` is meant by `userId` all the same. Start at [`keep`].

use std::collections::HashSet;
use std::ops::ControlFlow;

use arrow::datatypes::SchemaRef;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Ident, VisitMut, VisitorMut};

/// Quotes the names in a statement that are, letter by letter, columns of one of these tables.
pub(crate) fn keep<'a>(statement: &mut Statement, schemas: impl Iterator<Item = &'a SchemaRef>) {
    let fields = schemas.flat_map(|schema| schema.fields().iter());
    let cased: HashSet<&str> = fields
        .map(|field| field.name().as_str())
        .filter(|name| name.contains(|c: char| c.is_ascii_uppercase()))
        .collect();
    let Statement::Statement(inner) = statement else { return };
    if cased.is_empty() {
        return;
    }
    let inner: &mut ast::Statement = inner;
    let _: ControlFlow<()> = inner.visit(&mut Quoter { cased });
}

struct Quoter<'a> {
    cased: HashSet<&'a str>,
}

impl Quoter<'_> {
    fn quote(&self, ident: &mut Ident) {
        if ident.quote_style.is_none() && self.cased.contains(ident.value.as_str()) {
            ident.quote_style = Some('"');
        }
    }
}

impl VisitorMut for Quoter<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut ast::Expr) -> ControlFlow<()> {
        match expr {
            ast::Expr::Identifier(ident) => self.quote(ident),
            ast::Expr::CompoundIdentifier(idents) => {
                if let Some(last) = idents.last_mut() {
                    self.quote(last);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
