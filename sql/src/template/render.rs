//! A template and a call's values to SQL with `$n` in the place of values.

//! Every node, round and expression is a step, and every byte that is written or kept is paid for ([`Budget`]). Start at [`render`].

use std::collections::{HashMap, HashSet};

use super::arithmetic::Operator;
use super::budget::Budget;
use super::compare::Compare;
use super::expr::{Expr, Link};
use super::parse::{Node, Template};
use super::value::{Declared, Items, Kind, Unread, Value};
use super::{Args, functions};
use crate::error::QueryError;
use crate::zone;

/// Characters of a template's own `error()`.
const ERROR_CHARS_MAX: usize = 1_000;
/// Values of an `enum` that an error names.
const NAMED_MAX: usize = 20;
/// What keeping a literal takes beside its bytes.
const LITERAL_BYTES: usize = 32;

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

impl Literal {
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Null | Self::Int(_) | Self::Bool(_) => 0,
        }
    }
}

/// Renders for one call. Every declared parameter is read first, so a bad value is refused even where the template
/// would not have looked at it.
/// # Errors  `Parameter` for a missing or malformed value, `Refused` for the template's own `error()`, `TemplateTooLarge`.
pub(crate) fn render(template: &Template, args: &Args<'_>, budget: &mut Budget) -> Result<Rendered, QueryError> {
    let mut values = HashMap::new();
    let mut given = HashSet::new();
    for declared in &template.declared {
        let (value, is_given) = parameter(declared, args, budget).map_err(|found| unread(&declared.name, found))?;
        if is_given {
            given.insert(declared.name.as_str());
        }
        values.insert(declared.name.as_str(), value);
    }
    let out = Rendered { sql: String::new(), literals: Vec::new() };
    let mut rendering = Rendering { args, values, given, locals: Locals::default(), budget, out };
    rendering.nodes(&template.nodes)?;
    Ok(rendering.out)
}

fn unread(name: &str, unread: Unread) -> QueryError {
    match unread {
        Unread::Wrong(message) => QueryError::parameter(name, message),
        Unread::Spent(spent) => spent.into(),
    }
}

/// What a call gives for a parameter, or what it is without; and whether the call gives it.
fn parameter(declared: &Declared, args: &Args<'_>, budget: &mut Budget) -> Result<(Value, bool), Unread> {
    budget.step()?;
    let given = declared.kind.read(args.texts(&declared.name), args.zone, budget)?;
    // An empty choice, as a form sends it, is no choice.
    let given = given.filter(|value| declared.allowed.is_empty() || !matches!(value, Value::Text(t) if t.is_empty()));
    if let Some(value) = &given
        && !declared.allowed.is_empty()
    {
        chosen(declared, value, budget)?;
    }
    match (given, &declared.default) {
        (Some(value), _) => Ok((value, true)),
        (None, _) if declared.required => Err(Unread::Wrong("is required".to_owned())),
        (None, Some(default)) => Ok((declared.kind.adopt(default, args.zone, budget)?, false)),
        (None, None) => Ok((Value::None, false)),
    }
}

/// Whether a value, or each of a list, is one of those that are allowed.
fn chosen(declared: &Declared, value: &Value, budget: &mut Budget) -> Result<(), Unread> {
    let mut allowed = HashSet::new();
    for value in &declared.allowed {
        allowed.insert(value.text(budget)?.to_string());
    }
    let wanted = match value {
        Value::List(items) => items,
        one => std::slice::from_ref(one),
    };
    for value in wanted {
        let text = value.text(budget)?;
        budget.look(text.len())?;
        if !allowed.contains(&*text) {
            let mut named: Vec<String> = declared.allowed.iter().take(NAMED_MAX).map(Value::brief).collect();
            if declared.allowed.len() > NAMED_MAX {
                named.push("…".to_owned());
            }
            return Err(Unread::Wrong(format!("`{}` is not one of {}", value.brief(), named.join(", "))));
        }
    }
    Ok(())
}

/// Names of `for` and `set`, each with its values, the newest last.
#[derive(Default)]
struct Locals<'a> {
    values: HashMap<&'a str, Vec<Value>>,
    /// In the order they were made.
    order: Vec<&'a str>,
}

impl<'a> Locals<'a> {
    fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)?.last()
    }

    fn add(&mut self, name: &'a str, value: Value) {
        self.order.push(name);
        self.values.entry(name).or_default().push(value);
    }

    /// Changes the newest of that name.
    fn set(&mut self, name: &'a str, value: Value) {
        match self.values.get_mut(name).and_then(|values| values.last_mut()) {
            Some(old) => *old = value,
            None => self.add(name, value),
        }
    }

    fn truncate(&mut self, count: usize) {
        for name in self.order.drain(count..) {
            if let Some(values) = self.values.get_mut(name) {
                values.pop();
            }
        }
    }
}

struct Rendering<'a> {
    args: &'a Args<'a>,
    /// The parameters that are declared, and those others that were looked at.
    values: HashMap<&'a str, Value>,
    /// Those that the call gives.
    given: HashSet<&'a str>,
    locals: Locals<'a>,
    budget: &'a mut Budget,
    out: Rendered,
}

impl<'a> Rendering<'a> {
    fn nodes(&mut self, nodes: &'a [Node]) -> Result<(), QueryError> {
        for node in nodes {
            self.budget.step()?;
            match node {
                Node::Text(text) => self.text(text)?,
                Node::Output(Expr::Param(name, kind, default)) => {
                    let value = self.declared(name, kind, default.as_ref())?;
                    self.output(&value, Some(kind))?;
                }
                Node::Output(Expr::SqlAnd(conditions)) => self.sql_and(conditions)?,
                Node::Output(expr) => {
                    let value = self.value(expr)?;
                    self.output(&value, None)?;
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
                    self.locals.set(name, value);
                }
            }
        }
        Ok(())
    }

    fn repeat(&mut self, names: &'a [String], over: &'a Expr, nodes: &'a [Node]) -> Result<(), QueryError> {
        let before = self.locals.order.len();
        let over = self.value(over)?;
        for item in functions::items(&over, self.budget)?.iter() {
            // A round is a step for each name, whatever it does.
            self.budget.steps(names.len())?;
            let values = match item {
                Value::List(items) if names.len() > 1 => items,
                one => std::slice::from_ref(one),
            };
            if values.len() != names.len() {
                let message = format!("a `for` over {} names met {} values", names.len(), values.len());
                return Err(QueryError::Refused { status: 400, message });
            }
            for (name, value) in names.iter().zip(values) {
                self.locals.add(name, value.clone());
            }
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
            if value.is_none() {
                continue;
            }
            let before = if is_first { "" } else { " and " };
            self.text(&format!("{before}{column} {operator} "))?;
            self.output(&value, None)?;
            is_first = false;
        }
        Ok(())
    }

    /// Writes what is no value.
    fn text(&mut self, text: &str) -> Result<(), QueryError> {
        self.budget.sql(text.len())?;
        // `$` here and `1` there would be the place of a value.
        if self.out.sql.ends_with('$') && text.starts_with(|c: char| c == '$' || c.is_ascii_alphanumeric()) {
            return Err(reserved());
        }
        self.out.sql.push_str(text);
        Ok(())
    }

    fn output(&mut self, value: &Value, kind: Option<&Kind>) -> Result<(), QueryError> {
        self.budget.step()?;
        match (value, kind) {
            (Value::Text(text), _) => self.put("", Literal::Text(text.to_string()), ""),
            (Value::Int(n), _) => self.put("", Literal::Int(*n), ""),
            (Value::Bool(b), _) => self.put("", Literal::Bool(*b), ""),
            (Value::Float(n), _) => self.put("CAST(", Literal::Text(n.to_string()), " AS DOUBLE)"),
            (Value::Date(date), _) => self.put("CAST(", Literal::Text(date.to_string()), " AS DATE)"),
            (Value::Instant(t), _) => {
                let after = ", 'Timestamp(Millisecond, Some(\"UTC\"))')";
                self.put("arrow_cast(", Literal::Text(zone::instant_text(*t)), after)
            }
            (Value::List(items), _) if items.is_empty() => self.put("(", Literal::Null, ")"),
            (Value::List(items), kind) => {
                let kind = match kind {
                    Some(Kind::Array(item)) => Some(item.as_ref()),
                    _ => None,
                };
                for (i, item) in items.iter().enumerate() {
                    self.text(if i == 0 { "(" } else { ", " })?;
                    self.output(item, kind)?;
                }
                self.text(")")
            }
            (Value::Names(names), _) => {
                for (i, name) in names.iter().enumerate() {
                    // Checked when they were made: letters, digits and `_`.
                    let parts: Vec<String> = name.split('.').map(|part| format!("\"{part}\"")).collect();
                    let before = if i == 0 { "" } else { ", " };
                    self.text(&format!("{before}{}", parts.join(".")))?;
                }
                Ok(())
            }
            (Value::Object(_), _) => {
                let text = value.text(self.budget)?;
                self.put("", Literal::Text(text.to_string()), "")
            }
            (Value::None, Some(Kind::Array(_))) => self.put("(", Literal::Null, ")"),
            (Value::None, _) => self.put("", Literal::Null, ""),
        }
    }

    fn put(&mut self, before: &str, literal: Literal, after: &str) -> Result<(), QueryError> {
        self.budget.bytes(LITERAL_BYTES + literal.bytes())?;
        self.out.literals.push(literal);
        self.text(before)?;
        // The text before it must not take the place's `$` for its own.
        if self.out.sql.ends_with('$') {
            return Err(reserved());
        }
        let place = format!("${}", self.out.literals.len());
        self.budget.sql(place.len())?;
        self.out.sql.push_str(&place);
        self.out.sql.push_str(after);
        Ok(self.budget.sql(after.len())?)
    }

    /// Each expression is a step; what it makes can't be made without the budget.
    fn value(&mut self, expr: &'a Expr) -> Result<Value, QueryError> {
        self.budget.step()?;
        Ok(match expr {
            Expr::Constant(value) => value.clone(),
            Expr::List(items) => {
                let mut list = Items::default();
                for item in items {
                    let item = self.value(item)?;
                    list.push(item, self.budget)?;
                }
                list.list()?
            }
            Expr::Param(name, kind, default) => self.declared(name, kind, default.as_ref())?,
            Expr::Name(name) => self.named(name)?,
            Expr::Arithmetic(first, more) => {
                let mut made = self.value(first)?;
                for (operator, expr) in more {
                    let value = self.value(expr)?;
                    made = operator.apply(&made, &value, self.budget)?;
                }
                made
            }
            Expr::Negative(inner) => {
                let value = self.value(inner)?;
                Operator::Minus.apply(&Value::Int(0), &value, self.budget)?
            }
            Expr::Choice(parts) => {
                let [condition, chosen, otherwise] = &**parts;
                let expr = if self.value(condition)?.truth() { chosen } else { otherwise };
                self.value(expr)?
            }
            Expr::Chain(first, links) => {
                let mut value = self.value(first)?;
                for link in links {
                    value = self.follow(value, link)?;
                }
                value
            }
            Expr::Call(function, arguments) => {
                let values = arguments.iter().map(|argument| self.value(argument)).collect::<Result<Vec<_>, _>>()?;
                function.call(&values, self.budget)?
            }
            Expr::SqlAnd(_) => {
                let message = "`sql_and` stands for itself, in `{{ }}`".to_owned();
                return Err(QueryError::Refused { status: 400, message });
            }
            Expr::Defined(name) => Value::Bool(!self.args.texts(name).is_empty()),
            Expr::Not(inner) => Value::Bool(!self.value(inner)?.truth()),
            Expr::And(all) => self.first_that(all, false)?,
            Expr::Or(all) => self.first_that(all, true)?,
            Expr::Compare(first, more) => Value::Bool(self.compared(first, more)?),
            Expr::Error { message, status } => {
                let message = self.value(message)?.beginning(ERROR_CHARS_MAX);
                return Err(QueryError::Refused { status: *status, message });
            }
        })
    }

    /// What the call gives for a parameter, else the default that stands here, else the one that stands elsewhere.
    fn declared(&mut self, name: &'a str, kind: &Kind, default: Option<&Value>) -> Result<Value, QueryError> {
        match default {
            Some(default) if !self.given.contains(name) => {
                kind.adopt(default, self.args.zone, self.budget).map_err(|found| unread(name, found))
            }
            _ => Ok(self.values.get(name).cloned().unwrap_or(Value::None)),
        }
    }

    /// Whether each is to the one before it what it must be; after one that isn't, none is looked at.
    fn compared(&mut self, first: &'a Expr, more: &'a [(Compare, Expr)]) -> Result<bool, QueryError> {
        let mut left = self.value(first)?;
        for (compare, expr) in more {
            let right = self.value(expr)?;
            if !compare.holds(&left, &right, self.budget)? {
                return Ok(false);
            }
            left = right;
        }
        Ok(true)
    }

    /// The first whose truth is that, or the last: Python's `or`, and its `and`.
    fn first_that(&mut self, all: &'a [Expr], truth: bool) -> Result<Value, QueryError> {
        let mut value = Value::None;
        for expr in all {
            value = self.value(expr)?;
            if value.truth() == truth {
                break;
            }
        }
        Ok(value)
    }

    fn named(&mut self, name: &'a str) -> Result<Value, QueryError> {
        if let Some(value) = self.locals.get(name).or_else(|| self.values.get(name)) {
            return Ok(value.clone());
        }
        let Some(text) = self.args.texts(name).last() else { return Ok(Value::None) };
        let value = Value::text_of(text, self.budget)?;
        self.values.insert(name, value.clone());
        Ok(value)
    }

    fn follow(&mut self, value: Value, link: &'a Link) -> Result<Value, QueryError> {
        self.budget.step()?;
        match link {
            Link::Item { at, or_none } => {
                let at = self.value(at)?;
                item(&value, &at, *or_none, self.budget)
            }
            Link::Method(function, arguments) => {
                let mut values = vec![value];
                for argument in arguments {
                    values.push(self.value(argument)?);
                }
                function.call(&values, self.budget)
            }
        }
    }
}

fn reserved() -> QueryError {
    let message = "`$1` and the like are reserved for values".to_owned();
    QueryError::Refused { status: 400, message }
}

fn item(of: &Value, at: &Value, or_none: bool, budget: &mut Budget) -> Result<Value, QueryError> {
    let found = match (of, at) {
        (Value::Object(fields), Value::Text(name)) => fields.get(name, budget)?,
        (Value::List(items), Value::Int(at)) if !or_none => {
            let at = if *at < 0 { at.saturating_add_unsigned(items.len() as u64) } else { *at };
            usize::try_from(at).ok().and_then(|at| items.get(at))
        }
        _ => {
            let message = format!("`{}` has nothing at `{}`", of.brief(), at.brief());
            return Err(QueryError::Refused { status: 400, message });
        }
    };
    match found {
        Some(value) => Ok(value.clone()),
        None if or_none => Ok(Value::None),
        None => Err(QueryError::Refused { status: 400, message: format!("there is nothing at `{}`", at.brief()) }),
    }
}
