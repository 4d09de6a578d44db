//! A template and a call's values to SQL with `$n` in the place of values.

use std::collections::HashMap;

use super::Args;
use super::parse::{Compare, Expr, Node, Template};
use super::value::{Kind, Value};
use crate::error::QueryError;
use crate::zone;

/// SQL whose `$1`, `$2`, … stand for `literals[0]`, `literals[1]`, ….
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rendered {
    pub(crate) sql: String,
    pub(crate) literals: Vec<Literal>,
}

/// What takes a placeholder's place; types beyond these are casts around the placeholder, in the SQL.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Literal {
    Null,
    Text(String),
    Int(i64),
    Bool(bool),
}

/// Renders for one call. Every declared parameter is read first, so a bad value is refused even where the template
/// would not have looked at it.
/// # Errors  `Parameter` for a missing or malformed value, `Refused` for the template's own `error()`.
pub(crate) fn render(template: &Template, args: &Args) -> Result<Rendered, QueryError> {
    let mut values = HashMap::new();
    for declared in &template.declared {
        let fail = |message: String| QueryError::parameter(&declared.name, message);
        let texts = args.values.get(&declared.name).map(Vec::as_slice).unwrap_or_default();
        let given = declared.kind.read(texts, args.zone).map_err(fail)?;
        // An empty choice, as a form sends it, is no choice.
        let given = given.filter(|v| declared.allowed.is_empty() || !v.text().is_empty());
        if let Some(value) = &given
            && !declared.allowed.is_empty()
        {
            let allowed: Vec<String> = declared.allowed.iter().map(Value::text).collect();
            let wanted = match value {
                Value::List(items) => items.iter().map(Value::text).collect(),
                one => vec![one.text()],
            };
            if let Some(other) = wanted.iter().find(|w| !allowed.contains(w)) {
                return Err(fail(format!("`{other}` is not one of {}", allowed.join(", "))));
            }
        }
        let value = match (given, &declared.default) {
            (Some(value), _) => value,
            (None, _) if declared.required => return Err(fail("is required".to_owned())),
            (None, Some(default)) => declared.kind.adopt(default, args.zone).map_err(fail)?,
            (None, None) => Value::None,
        };
        values.insert(declared.name.as_str(), value);
    }
    let mut rendering = Rendering { args, values, out: Rendered { sql: String::new(), literals: Vec::new() } };
    rendering.nodes(&template.nodes)?;
    Ok(rendering.out)
}

struct Rendering<'a> {
    args: &'a Args,
    values: HashMap<&'a str, Value>,
    out: Rendered,
}

impl Rendering<'_> {
    fn nodes(&mut self, nodes: &[Node]) -> Result<(), QueryError> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.sql.push_str(text),
                Node::Output(Expr::Param(name, kind)) => {
                    let value = self.values.get(name.as_str()).cloned().unwrap_or(Value::None);
                    self.output(&value, Some(kind));
                }
                Node::Output(expr) => {
                    let value = self.value(expr)?;
                    self.output(&value, None);
                }
                Node::If { arms, otherwise } => {
                    let mut taken = otherwise;
                    for (condition, nodes) in arms {
                        if self.value(condition)?.truth() {
                            taken = nodes;
                            break;
                        }
                    }
                    self.nodes(taken)?;
                }
            }
        }
        Ok(())
    }

    fn output(&mut self, value: &Value, kind: Option<&Kind>) {
        match (value, kind) {
            (Value::Text(text), _) => self.put("", Literal::Text(text.clone()), ""),
            (Value::Int(n), _) => self.put("", Literal::Int(*n), ""),
            (Value::Bool(b), _) => self.put("", Literal::Bool(*b), ""),
            (Value::Float(n), _) => self.put("CAST(", Literal::Text(n.to_string()), " AS DOUBLE)"),
            (Value::Date(date), _) => self.put("CAST(", Literal::Text(date.to_string()), " AS DATE)"),
            (Value::Instant(t), _) => {
                let after = ", 'Timestamp(Millisecond, Some(\"UTC\"))')";
                self.put("arrow_cast(", Literal::Text(zone::instant_text(*t)), after);
            }
            (Value::List(items), _) if items.is_empty() => self.put("(", Literal::Null, ")"),
            (Value::List(items), kind) => {
                let kind = match kind {
                    Some(Kind::Array(item)) => Some(item.as_ref()),
                    _ => None,
                };
                for (i, item) in items.iter().enumerate() {
                    self.out.sql.push_str(if i == 0 { "(" } else { ", " });
                    self.output(item, kind);
                }
                self.out.sql.push(')');
            }
            (Value::None, Some(Kind::Array(_))) => self.put("(", Literal::Null, ")"),
            (Value::None, _) => self.put("", Literal::Null, ""),
        }
    }

    fn put(&mut self, before: &str, literal: Literal, after: &str) {
        self.out.literals.push(literal);
        let n = self.out.literals.len();
        self.out.sql.push_str(&format!("{before}${n}{after}"));
    }

    fn value(&self, expr: &Expr) -> Result<Value, QueryError> {
        Ok(match expr {
            Expr::Constant(value) => value.clone(),
            Expr::List(items) => Value::List(items.iter().map(|i| self.value(i)).collect::<Result<_, _>>()?),
            Expr::Param(name, _) => self.values.get(name.as_str()).cloned().unwrap_or(Value::None),
            Expr::Name(name) => match (self.values.get(name.as_str()), self.args.values.get(name)) {
                (Some(value), _) => value.clone(),
                (None, Some(texts)) => texts.last().map_or(Value::None, |t| Value::Text(t.clone())),
                (None, None) => Value::None,
            },
            Expr::Defined(name) => Value::Bool(self.args.values.get(name).is_some_and(|v| !v.is_empty())),
            Expr::Not(inner) => Value::Bool(!self.value(inner)?.truth()),
            Expr::And(left, right) => {
                let left = self.value(left)?;
                if left.truth() { self.value(right)? } else { left }
            }
            Expr::Or(left, right) => {
                let left = self.value(left)?;
                if left.truth() { left } else { self.value(right)? }
            }
            Expr::Compare(compare, left, right) => {
                Value::Bool(holds(*compare, &self.value(left)?, &self.value(right)?)?)
            }
            Expr::Error { message, status } => {
                return Err(QueryError::Refused { status: *status, message: self.value(message)?.text() });
            }
        })
    }
}

fn holds(compare: Compare, left: &Value, right: &Value) -> Result<bool, QueryError> {
    let ordered = || {
        let order = match (left, right) {
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Int(a), Value::Float(b)) => (*a as f64).partial_cmp(b),
            (Value::Float(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
            (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            (Value::Date(a), Value::Date(b)) => Some(a.cmp(b)),
            (Value::Instant(a), Value::Instant(b)) => Some(a.cmp(b)),
            _ => None,
        };
        let refused = || QueryError::Refused {
            status: 400,
            message: format!("`{}` and `{}` cannot be compared", left.text(), right.text()),
        };
        order.ok_or_else(refused)
    };
    let contains = || match right {
        Value::List(items) => items.contains(left),
        Value::Text(text) => text.contains(&left.text()),
        _ => false,
    };
    Ok(match compare {
        Compare::Eq => left == right,
        Compare::Ne => left != right,
        Compare::Lt => ordered()?.is_lt(),
        Compare::Le => ordered()?.is_le(),
        Compare::Gt => ordered()?.is_gt(),
        Compare::Ge => ordered()?.is_ge(),
        Compare::In => contains(),
        Compare::NotIn => !contains(),
    })
}
