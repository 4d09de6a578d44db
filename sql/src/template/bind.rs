//! Puts literals in the place of `$n` in a parsed statement. A value meets no parser, so nothing in it can be SQL.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{self, Value, ValueWithSpan, VisitMut, VisitorMut};

use super::render::Literal;
use crate::error::QueryError;

/// Replaces every placeholder.
/// # Errors  `Internal` when the statement is not a query or names a literal that is not there: an endpoint's fault.
pub(crate) fn bind(statement: &mut Statement, literals: &[Literal]) -> Result<(), QueryError> {
    let Statement::Statement(inner) = statement else {
        return Err(QueryError::Internal);
    };
    let inner: &mut ast::Statement = inner;
    match inner.visit(&mut Binder { literals }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(QueryError::Internal),
    }
}

struct Binder<'a> {
    literals: &'a [Literal],
}

impl VisitorMut for Binder<'_> {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<()> {
        let Value::Placeholder(name) = &value.value else {
            return ControlFlow::Continue(());
        };
        let index = name.strip_prefix('$').and_then(|n| n.parse::<usize>().ok()).and_then(|n| n.checked_sub(1));
        let Some(literal) = index.and_then(|i| self.literals.get(i)) else {
            return ControlFlow::Break(());
        };
        value.value = match literal {
            Literal::Null => Value::Null,
            Literal::Text(text) => Value::SingleQuotedString(text.clone()),
            Literal::Int(n) => Value::Number(n.to_string(), false),
            Literal::Bool(b) => Value::Boolean(*b),
        };
        ControlFlow::Continue(())
    }
}
