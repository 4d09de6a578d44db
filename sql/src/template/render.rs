//! A template and a call's values to SQL with `$n` in the place of values.

use std::collections::HashMap;

use super::parse::{Compare, Expr, Node, Template};
use super::value::{Kind, Value};
use super::{Args, functions};
use crate::error::QueryError;
use crate::gate::SQL_BYTES_MAX;
use crate::zone;

/// Nodes of one rendering, those of every round of a `for` counted.
const STEPS_MAX: usize = 10_000;

/// SQL whose `$1`, `$2`, … stand for `literals[0]`, `literals[1]`, ….
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rendered {
    pub(crate) sql: String,
    pub(crate) literals: Vec<Literal>,
}

impl Rendered {
    /// The SQL with its values written into it, for people.
    pub(super) fn preview(&self) -> String {
        let mut text = String::with_capacity(self.sql.len());
        let mut rest = self.sql.as_str();
        // A template's own text holds no `$n`, so these are the values' places, in order.
        for (n, literal) in (1..).zip(&self.literals) {
            let place = format!("${n}");
            let Some((before, after)) = rest.split_once(&place) else { break };
            text.push_str(before);
            match literal {
                Literal::Null => text.push_str("NULL"),
                Literal::Text(value) => text.push_str(&format!("'{}'", value.replace('\'', "''"))),
                Literal::Int(n) => text.push_str(&n.to_string()),
                Literal::Bool(b) => text.push_str(if *b { "true" } else { "false" }),
            }
            rest = after;
        }
        text + rest
    }
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
    let out = Rendered { sql: String::new(), literals: Vec::new() };
    let mut rendering = Rendering { args, values, locals: Vec::new(), steps: 0, out };
    rendering.nodes(&template.nodes)?;
    Ok(rendering.out)
}

struct Rendering<'a> {
    args: &'a Args,
    values: HashMap<&'a str, Value>,
    /// Names of `for` and `set`, the newest last.
    locals: Vec<(&'a str, Value)>,
    steps: usize,
    out: Rendered,
}

impl<'a> Rendering<'a> {
    fn nodes(&mut self, nodes: &'a [Node]) -> Result<(), QueryError> {
        for node in nodes {
            self.steps += 1;
            if self.steps > STEPS_MAX || self.out.sql.len() > SQL_BYTES_MAX {
                let message = format!("the template repeats too often, the limit is {STEPS_MAX} steps");
                return Err(QueryError::Refused { status: 400, message });
            }
            match node {
                Node::Text(text) => self.out.sql.push_str(text),
                Node::Output(Expr::Param(name, kind)) => {
                    let value = self.values.get(name.as_str()).cloned().unwrap_or(Value::None);
                    self.output(&value, Some(kind));
                }
                Node::Output(Expr::SqlAnd(conditions)) => self.sql_and(conditions)?,
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
                Node::For { names, over, nodes } => self.repeat(names, over, nodes)?,
                Node::Set(name, expr) => {
                    let value = self.value(expr)?;
                    match self.locals.iter_mut().rev().find(|(known, _)| known == name) {
                        Some((_, old)) => *old = value,
                        None => self.locals.push((name, value)),
                    }
                }
            }
        }
        Ok(())
    }

    fn repeat(&mut self, names: &'a [String], over: &'a Expr, nodes: &'a [Node]) -> Result<(), QueryError> {
        let before = self.locals.len();
        for item in functions::items(&self.value(over)?)? {
            let values = match (names.len(), item) {
                (1, item) => vec![item],
                (_, Value::List(items)) => items,
                (_, other) => vec![other],
            };
            if values.len() != names.len() {
                let message = format!("a `for` over {} names met {} values", names.len(), values.len());
                return Err(QueryError::Refused { status: 400, message });
            }
            self.locals.extend(names.iter().map(String::as_str).zip(values));
            self.nodes(nodes)?;
            // What `set` made inside stays inside; what it changed outside stays changed.
            self.locals.truncate(before);
        }
        Ok(())
    }

    /// Conditions for the values that are given, with `and` between them.
    fn sql_and(&mut self, conditions: &'a [(String, &'static str, Expr)]) -> Result<(), QueryError> {
        let mut is_first = true;
        for (column, operator, expr) in conditions {
            let value = self.value(expr)?;
            if value == Value::None {
                continue;
            }
            let before = if is_first { "" } else { " and " };
            self.out.sql.push_str(&format!("{before}{column} {operator} "));
            self.output(&value, None);
            is_first = false;
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
            (Value::Names(names), _) => {
                // Checked when they were made: letters, digits and `_`.
                let quoted =
                    |name: &String| name.split('.').map(|part| format!("\"{part}\"")).collect::<Vec<_>>().join(".");
                self.out.sql.push_str(&names.iter().map(quoted).collect::<Vec<_>>().join(", "));
            }
            (Value::Object(_), _) => self.put("", Literal::Text(value.text()), ""),
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
            Expr::Name(name) if self.locals.iter().any(|(local, _)| local == name) => {
                let local = self.locals.iter().rev().find(|(local, _)| local == name);
                local.map_or(Value::None, |(_, value)| value.clone())
            }
            Expr::Add(left, right) => functions::add(&self.value(left)?, &self.value(right)?)?,
            Expr::Subtract(left, right) => functions::subtract(&self.value(left)?, &self.value(right)?)?,
            Expr::Item { of, at, or_none } => item(&self.value(of)?, &self.value(at)?, *or_none)?,
            Expr::Call(function, arguments) => {
                let values = arguments.iter().map(|argument| self.value(argument)).collect::<Result<Vec<_>, _>>()?;
                function.call(&values)?
            }
            Expr::SqlAnd(_) => {
                let message = "`sql_and` stands for itself, in `{{ }}`".to_owned();
                return Err(QueryError::Refused { status: 400, message });
            }
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

fn item(of: &Value, at: &Value, or_none: bool) -> Result<Value, QueryError> {
    let found = match (of, at) {
        (Value::Object(fields), Value::Text(name)) => fields.get(name),
        (Value::List(items), Value::Int(at)) if !or_none => {
            let at = if *at < 0 { *at + i64::try_from(items.len()).unwrap_or(0) } else { *at };
            usize::try_from(at).ok().and_then(|at| items.get(at))
        }
        _ => {
            let message = format!("`{}` has nothing at `{}`", of.text(), at.text());
            return Err(QueryError::Refused { status: 400, message });
        }
    };
    match found {
        Some(value) => Ok(value.clone()),
        None if or_none => Ok(Value::None),
        None => Err(QueryError::Refused { status: 400, message: format!("there is nothing at `{}`", at.text()) }),
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
