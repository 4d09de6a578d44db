//! Python-like expressions: a recursive descent over the tokens. Chains are lists, so that only parentheses, brackets and arguments
//! make the tree deeper, and those are counted. Start at [`parse`].

use super::arithmetic::Operator;
use super::budget::{Budget, Spent};
use super::compare::Compare;
use super::functions::{Function, How};
use super::lex::{self, Token};
use super::parse::{DEPTH_MAX, Declarations, TemplateError};
use super::value::{Declared, Items, Kind, Value, shortened};

#[derive(Debug)]
pub(super) enum Expr {
    Constant(Value),
    List(Vec<Expr>),
    /// A bare name: the parameter as its declaration reads it.
    Name(String),
    /// `String(x, …)` and the like, with the default that is given here.
    Param(String, Kind, Option<Value>),
    Defined(String),
    Not(Box<Expr>),
    /// `a and b and c`.
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// `a < b <= c`: the first, then each with what it must be to the one before it.
    Compare(Box<Expr>, Vec<(Compare, Expr)>),
    /// `a + b - c`, `a * b / c`: the first, then each with its operator.
    Arithmetic(Box<Expr>, Vec<(Operator, Expr)>),
    /// `-a`.
    Negative(Box<Expr>),
    /// `a if b else c`: b, a, c.
    Choice(Box<[Expr; 3]>),
    /// `a[b].get(c).lower()`: a value, and what is made of it in turn.
    Chain(Box<Expr>, Vec<Link>),
    Call(Function, Vec<Expr>),
    /// `sql_and(column=…, column__in=…)`: column, operator, value.
    SqlAnd(Vec<(String, &'static str, Expr)>),
    Error {
        message: Box<Expr>,
        status: u16,
    },
}

#[derive(Debug)]
pub(super) enum Link {
    /// `[at]`, and `.get(at)` when it may be missing.
    Item { at: Expr, or_none: bool },
    /// With the values after the one it's called on.
    Method(Function, Vec<Expr>),
}

/// Reads an expression that is all of `text`.
pub(super) fn parse(
    text: &str,
    line: usize,
    declared: &mut Declarations,
    budget: &mut Budget,
) -> Result<Expr, TemplateError> {
    let tokens = lex::tokens(text, line, budget)?;
    let mut parser = Exprs { tokens: tokens.into_iter().peekable(), line, declared, budget, depth: 0 };
    let expr = parser.expression()?;
    match parser.tokens.next() {
        None => Ok(expr),
        Some(token) => {
            let token = shortened(&format!("{token:?}"));
            Err(TemplateError::new(line, format!("{token} is not expected in `{}`", shortened(text))))
        }
    }
}

struct Exprs<'a> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    line: usize,
    declared: &'a mut Declarations,
    budget: &'a mut Budget,
    depth: usize,
}

/// An argument of a call: its keyword, if any, and its value.
type Arg = (Option<String>, Expr);

impl Exprs<'_> {
    fn fail<T>(&self, message: impl Into<String>) -> Result<T, TemplateError> {
        Err(TemplateError::new(self.line, message))
    }

    fn word(&mut self, word: &str) -> bool {
        self.tokens.next_if(|t| matches!(t, Token::Name(n) if n == word)).is_some()
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.tokens.next_if(|t| matches!(t, Token::Symbol(s) if *s == symbol)).is_some()
    }

    fn expect(&mut self, symbol: &str) -> Result<(), TemplateError> {
        if self.symbol(symbol) { Ok(()) } else { self.fail(format!("`{symbol}` is missing")) }
    }

    /// `a if b else c`, or `a`.
    fn expression(&mut self) -> Result<Expr, TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail("an expression is nested too deep");
        }
        let mut expr = self.or()?;
        if self.word("if") {
            let condition = self.or()?;
            if !self.word("else") {
                return self.fail("`else` is missing after `if`");
            }
            expr = Expr::Choice(Box::new([condition, expr, self.expression()?]));
        }
        self.depth -= 1;
        Ok(expr)
    }

    fn or(&mut self) -> Result<Expr, TemplateError> {
        let mut all = vec![self.and()?];
        while self.word("or") {
            all.push(self.and()?);
        }
        Ok(one_or(all, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr, TemplateError> {
        let mut all = vec![self.not()?];
        while self.word("and") {
            all.push(self.not()?);
        }
        Ok(one_or(all, Expr::And))
    }

    fn not(&mut self) -> Result<Expr, TemplateError> {
        let mut negated = false;
        while self.word("not") {
            negated = !negated;
        }
        let expr = self.comparison()?;
        Ok(if negated { Expr::Not(Box::new(expr)) } else { expr })
    }

    fn comparison(&mut self) -> Result<Expr, TemplateError> {
        let first = self.sum()?;
        let mut more = Vec::new();
        while let Some(compare) = self.compare()? {
            more.push((compare, self.sum()?));
        }
        Ok(if more.is_empty() { first } else { Expr::Compare(Box::new(first), more) })
    }

    fn compare(&mut self) -> Result<Option<Compare>, TemplateError> {
        let compare = match self.tokens.peek() {
            Some(Token::Symbol("==")) => Compare::Eq,
            Some(Token::Symbol("!=")) => Compare::Ne,
            Some(Token::Symbol("<")) => Compare::Lt,
            Some(Token::Symbol("<=")) => Compare::Le,
            Some(Token::Symbol(">")) => Compare::Gt,
            Some(Token::Symbol(">=")) => Compare::Ge,
            Some(Token::Name(n)) if n == "in" => Compare::In,
            Some(Token::Name(n)) if n == "not" => Compare::NotIn,
            Some(Token::Name(n)) if n == "is" => Compare::Eq,
            _ => return Ok(None),
        };
        let is = matches!(self.tokens.next(), Some(Token::Name(n)) if n == "is");
        if compare == Compare::NotIn && !self.word("in") {
            return self.fail("`in` is missing after `not`");
        }
        Ok(Some(if is && self.word("not") { Compare::Ne } else { compare }))
    }

    fn sum(&mut self) -> Result<Expr, TemplateError> {
        self.arithmetic(&[("+", Operator::Plus), ("-", Operator::Minus)], Self::product)
    }

    fn product(&mut self) -> Result<Expr, TemplateError> {
        let operators = [("*", Operator::Times), ("/", Operator::Over), ("//", Operator::Whole), ("%", Operator::Rest)];
        self.arithmetic(&operators, Self::signed)
    }

    /// A chain of what `inner` reads, with these operators between.
    fn arithmetic(
        &mut self,
        operators: &[(&str, Operator)],
        inner: fn(&mut Self) -> Result<Expr, TemplateError>,
    ) -> Result<Expr, TemplateError> {
        let first = inner(self)?;
        let mut more = Vec::new();
        while let Some((_, operator)) = operators.iter().find(|(symbol, _)| self.symbol(symbol)) {
            more.push((*operator, inner(self)?));
        }
        Ok(if more.is_empty() { first } else { Expr::Arithmetic(Box::new(first), more) })
    }

    /// With signs before it, which are counted and so make the tree no deeper.
    fn signed(&mut self) -> Result<Expr, TemplateError> {
        let mut negative = false;
        while self.symbol("-") {
            negative = !negative;
        }
        if !negative {
            return self.postfix();
        }
        match self.tokens.next_if(|token| matches!(token, Token::Number(_))) {
            // The least of all integers has no positive one.
            Some(Token::Number(text)) => self.number(&format!("-{text}")),
            _ => Ok(Expr::Negative(Box::new(self.postfix()?))),
        }
    }

    /// `a[b]`, `a.get(b)`, `a.join(b)`.
    fn postfix(&mut self) -> Result<Expr, TemplateError> {
        let first = self.primary()?;
        let mut links = Vec::new();
        loop {
            links.push(if self.symbol("[") {
                let at = self.expression()?;
                self.expect("]")?;
                Link::Item { at, or_none: false }
            } else if self.symbol(".") {
                self.method()?
            } else if links.is_empty() {
                return Ok(first);
            } else {
                return Ok(Expr::Chain(Box::new(first), links));
            });
        }
    }

    fn method(&mut self) -> Result<Link, TemplateError> {
        let Some(Token::Name(method)) = self.tokens.next() else {
            return self.fail("a method's name is missing");
        };
        self.expect("(")?;
        let mut arguments = self.list(")")?;
        match Function::by_name(How::Method, &method) {
            Some(function) => {
                self.fits(function, 1 + arguments.len())?;
                Ok(Link::Method(function, arguments))
            }
            None if method == "get" && arguments.len() == 1 => {
                Ok(Link::Item { at: arguments.remove(0), or_none: true })
            }
            None => self.fail(format!("the method `{}` is not known", shortened(&method))),
        }
    }

    fn fits(&self, function: Function, values: usize) -> Result<(), TemplateError> {
        let (least, most) = function.arguments();
        if (least..=most).contains(&values) {
            return Ok(());
        }
        self.fail(format!("the function takes {least} to {most} values, not {values}"))
    }

    fn called(&self, function: Function, arguments: Vec<Expr>) -> Result<Expr, TemplateError> {
        self.fits(function, arguments.len())?;
        Ok(Expr::Call(function, arguments))
    }

    /// `column(x, 'default')`: a parameter whose value is a name; a constant is the name itself.
    fn name_parameter(&mut self, function: Function, args: Vec<Arg>) -> Result<Expr, TemplateError> {
        let mut positional = args.into_iter().filter(|(keyword, _)| keyword.is_none()).map(|(_, value)| value);
        let (Some(first), default) = (positional.next(), positional.next()) else {
            return self.fail("the name is missing");
        };
        let default = default.map(|default| self.constant(default)).transpose()?;
        if let Expr::Name(name) = &first
            && self.declared.get_mut(name).is_none()
        {
            let mut declared = Declared::new(name.clone(), Kind::String);
            declared.default = default;
            self.declared.add(declared);
        }
        self.called(function, vec![first])
    }

    fn sql_and(&self, args: Vec<Arg>) -> Result<Expr, TemplateError> {
        let mut conditions = Vec::new();
        for (keyword, value) in args {
            let Some(keyword) = keyword else { return self.fail("`sql_and` takes column=value") };
            let (column, operator) = match keyword.rsplit_once("__") {
                None => (keyword.as_str(), "="),
                Some((column, "in")) => (column, "in"),
                Some((column, "not_in")) => (column, "not in"),
                Some((column, "gt")) => (column, ">"),
                Some((column, "gte")) => (column, ">="),
                Some((column, "lt")) => (column, "<"),
                Some((column, "lte")) => (column, "<="),
                Some(_) => {
                    return self.fail(format!("`{}` has no operator that is known", shortened(&keyword)));
                }
            };
            conditions.push((column.to_owned(), operator, value));
        }
        Ok(Expr::SqlAnd(conditions))
    }

    fn primary(&mut self) -> Result<Expr, TemplateError> {
        match self.tokens.next() {
            Some(Token::Text(text)) => {
                Value::text_of(&text, self.budget).map(Expr::Constant).map_err(|spent| self.spent(spent))
            }
            Some(Token::Number(text)) => self.number(&text),
            Some(Token::Symbol("(")) => self.parenthesis(),
            Some(Token::Symbol("[")) => Ok(Expr::List(self.list("]")?)),
            Some(Token::Name(name)) => match name.as_str() {
                "True" | "true" => Ok(Expr::Constant(Value::Bool(true))),
                "False" | "false" => Ok(Expr::Constant(Value::Bool(false))),
                "None" => Ok(Expr::Constant(Value::None)),
                _ if self.symbol("(") => self.call(&name),
                _ => Ok(Expr::Name(name)),
            },
            _ => self.fail("a value is missing"),
        }
    }

    fn number(&self, text: &str) -> Result<Expr, TemplateError> {
        if let Ok(n) = text.parse::<i64>() {
            return Ok(Expr::Constant(Value::Int(n)));
        }
        match text.parse::<f64>() {
            Ok(n) if n.is_finite() => Ok(Expr::Constant(Value::Float(n))),
            _ => self.fail(format!("`{}` is not a number", shortened(text))),
        }
    }

    /// `(a)` is a; `(a, b)` is a list.
    fn parenthesis(&mut self) -> Result<Expr, TemplateError> {
        let mut items = self.list(")")?;
        if items.len() == 1 { Ok(items.remove(0)) } else { Ok(Expr::List(items)) }
    }

    fn list(&mut self, close: &str) -> Result<Vec<Expr>, TemplateError> {
        let mut items = Vec::new();
        while !self.symbol(close) {
            items.push(self.expression()?);
            if !self.symbol(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn args(&mut self) -> Result<Vec<Arg>, TemplateError> {
        let mut args = Vec::new();
        while !self.symbol(")") {
            let value = self.expression()?;
            match value {
                Expr::Name(keyword) if self.symbol("=") => args.push((Some(keyword), self.expression()?)),
                value => args.push((None, value)),
            }
            if !self.symbol(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(args)
    }

    fn call(&mut self, name: &str) -> Result<Expr, TemplateError> {
        let args = self.args()?;
        match name {
            "defined" => match args.as_slice() {
                [(None, Expr::Name(param))] => Ok(Expr::Defined(param.clone())),
                _ => self.fail("`defined` takes one parameter's name"),
            },
            "error" | "custom_error" => self.error(args),
            "sql_and" => self.sql_and(args),
            _ => match Function::by_name(How::Called, name) {
                Some(Function::Names) => self.name_parameter(Function::Names, args),
                Some(Function::SplitToArray) => self.split_to_array(args),
                Some(function) => {
                    let positional = args.into_iter().filter(|(keyword, _)| keyword.is_none()).map(|(_, value)| value);
                    // Times are read in every form there is; the form that is named after them says nothing new.
                    let most = if function.has_format() { function.arguments().1 } else { usize::MAX };
                    self.called(function, positional.take(most).collect())
                }
                None => self.declare(name, args),
            },
        }
    }

    /// `split_to_array(text, default='', separator=',')`.
    fn split_to_array(&self, args: Vec<Arg>) -> Result<Expr, TemplateError> {
        let mut values = Vec::new();
        for (keyword, value) in args {
            let place = match keyword.as_deref() {
                None => values.len(),
                Some("default") => 1,
                Some("separator") => 2,
                Some(keyword) => return self.fail(format!("`{}` is not known here", shortened(keyword))),
            };
            while values.len() <= place {
                values.push(Expr::Constant(Value::None));
            }
            values[place] = value;
        }
        self.called(Function::SplitToArray, values)
    }

    fn error(&self, args: Vec<Arg>) -> Result<Expr, TemplateError> {
        let mut args = args.into_iter();
        let (Some((None, message)), status) = (args.next(), args.next()) else {
            return self.fail("an error needs a message");
        };
        let status = match status {
            None => 400,
            Some((_, Expr::Constant(Value::Int(n @ 400..=499)))) => n as u16,
            Some(_) => return self.fail("an error's status is from 400 to 499"),
        };
        Ok(Expr::Error { message: Box::new(message), status })
    }

    /// `String(name, default, description=…)`: also what the endpoint's description says of the parameter.
    fn declare(&mut self, function: &str, args: Vec<Arg>) -> Result<Expr, TemplateError> {
        let (positional, keywords): (Vec<Arg>, Vec<Arg>) = args.into_iter().partition(|(k, _)| k.is_none());
        let mut positional = positional.into_iter().map(|(_, v)| v);
        let Some(Expr::Name(name)) = positional.next() else {
            return self.fail(format!("`{}` needs a parameter's name", shortened(function)));
        };
        let kind = if function == "Array" {
            match positional.next() {
                None => Some(Kind::Array(Box::new(Kind::String))),
                Some(Expr::Constant(Value::Text(item))) => Kind::scalar(&item).map(|k| Kind::Array(Box::new(k))),
                Some(_) => None,
            }
        } else {
            Kind::scalar(function)
        };
        let Some(kind) = kind else {
            return self.fail(format!("the function `{}` is not known", shortened(function)));
        };
        let mut declared = Declared::new(name.clone(), kind.clone());
        declared.default = positional.next().map(|d| self.constant(d)).transpose()?;
        for (keyword, value) in keywords {
            let value = self.constant(value)?;
            if !declared.set(keyword.as_deref().unwrap_or_default(), value) {
                return self.fail(format!("`{}` is not known here", shortened(&keyword.unwrap_or_default())));
            }
        }
        let default = declared.default.clone();
        match self.declared.get_mut(&name) {
            Some(known) if known.kind != kind => {
                return self.fail(format!("`{}` is declared with two types", shortened(&name)));
            }
            Some(known) => known.merge(declared),
            None => self.declared.add(declared),
        }
        Ok(Expr::Param(name, kind, default))
    }

    fn constant(&mut self, expr: Expr) -> Result<Value, TemplateError> {
        match expr {
            Expr::Constant(value) => Ok(value),
            Expr::List(items) => {
                let mut list = Items::default();
                for item in items {
                    let item = self.constant(item)?;
                    list.push(item, self.budget).map_err(|spent| self.spent(spent))?;
                }
                list.list().map_err(|spent| self.spent(spent))
            }
            _ => self.fail("a constant is expected"),
        }
    }

    fn spent(&self, spent: Spent) -> TemplateError {
        TemplateError::spent(self.line, spent)
    }
}

/// The one there is, or all of them.
fn one_or(mut all: Vec<Expr>, several: fn(Vec<Expr>) -> Expr) -> Expr {
    match all.len() {
        1 => all.remove(0),
        _ => several(all),
    }
}
