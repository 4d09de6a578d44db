//! The tree of a template: a recursive descent over the pieces and, inside them, over Python-like expressions.
//! What is not known is an error here, when the endpoint is loaded, never in a call. Start at [`parse`].

use super::functions::Function;
use super::lex::{self, Piece, Token};
use super::value::{Declared, Kind, Value};

/// Levels of `{% if %}` or of parentheses; only our own and a data team's files come here.
const DEPTH_MAX: usize = 50;

/// A template that cannot be loaded; `line` counts from 1 within the SQL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub(crate) struct TemplateError {
    line: usize,
    message: String,
}

impl TemplateError {
    pub(super) fn new(line: usize, message: impl Into<String>) -> Self {
        Self { line, message: message.into() }
    }
}

/// A loaded template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    pub(super) nodes: Vec<Node>,
    /// Every parameter it declares, once, in order of appearance.
    pub(crate) declared: Vec<Declared>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    Text(String),
    Output(Expr),
    If { arms: Vec<(Expr, Vec<Node>)>, otherwise: Vec<Node> },
    For { names: Vec<String>, over: Expr, nodes: Vec<Node> },
    Set(String, Expr),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    Constant(Value),
    List(Vec<Expr>),
    /// A bare name: the parameter as its declaration reads it.
    Name(String),
    /// `String(x, …)` and the like: an index into the declarations.
    Param(String, Kind),
    Defined(String),
    Not(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Compare(Compare, Box<Expr>, Box<Expr>),
    Add(Box<Expr>, Box<Expr>),
    Subtract(Box<Expr>, Box<Expr>),
    /// `a[b]`, and `a.get(b)` when it may be missing.
    Item {
        of: Box<Expr>,
        at: Box<Expr>,
        or_none: bool,
    },
    Call(Function, Vec<Expr>),
    /// `sql_and(column=…, column__in=…)`: column, operator, value.
    SqlAnd(Vec<(String, &'static str, Expr)>),
    Error {
        message: Box<Expr>,
        status: u16,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

/// Reads a template.
/// # Errors  An unclosed block, an unknown function or tag, a parameter declared twice in different ways.
pub(crate) fn parse(text: &str) -> Result<Template, TemplateError> {
    let pieces = lex::pieces(text)?;
    let mut parser = Blocks { pieces: pieces.into_iter(), declared: Vec::new(), depth: 0 };
    let (nodes, end) = parser.until(&[])?;
    if let Some((word, _, line)) = end {
        return Err(TemplateError::new(line, format!("`{{% {word} %}}` without `{{% if %}}`")));
    }
    Ok(Template { nodes, declared: parser.declared })
}

struct Blocks<'a> {
    pieces: std::vec::IntoIter<Piece<'a>>,
    declared: Vec<Declared>,
    depth: usize,
}

/// The tag that ended a run of nodes: its word, what follows, its line.
type End<'a> = Option<(&'a str, &'a str, usize)>;

impl<'a> Blocks<'a> {
    /// Nodes up to one of the `ends` or the end of the text.
    fn until(&mut self, ends: &[&str]) -> Result<(Vec<Node>, End<'a>), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            match piece {
                Piece::Text(text) => {
                    if has_placeholder(text) {
                        return Err(TemplateError::new(1, "`$1` and the like are reserved for values"));
                    }
                    nodes.push(Node::Text(text.to_owned()));
                }
                Piece::Output(text, line) => nodes.push(Node::Output(self.expr(text, line)?)),
                Piece::Tag(text, line) => {
                    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
                    if word == "if" {
                        nodes.push(self.conditional(rest, line)?);
                    } else if word == "for" {
                        nodes.push(self.repeated(rest, line)?);
                    } else if word == "set" {
                        nodes.push(self.assignment(rest, line)?);
                    } else if ends.contains(&word) || matches!(word, "elif" | "else" | "end") {
                        return Ok((nodes, Some((word, rest, line))));
                    } else {
                        return Err(TemplateError::new(line, format!("the tag `{word}` is not known")));
                    }
                }
            }
        }
        Ok((nodes, None))
    }

    fn conditional(&mut self, condition: &'a str, line: usize) -> Result<Node, TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(TemplateError::new(line, "blocks are nested too deep"));
        }
        let mut arms = Vec::new();
        let mut otherwise = Vec::new();
        let mut next = Some(self.expr(condition, line)?);
        let mut in_else = false;
        loop {
            let (nodes, end) = self.until(&["elif", "else", "end"])?;
            match next.take() {
                Some(condition) => arms.push((condition, nodes)),
                None => otherwise = nodes,
            }
            match end {
                Some(("elif", condition, line)) if !in_else => next = Some(self.expr(condition, line)?),
                Some(("else", _, _)) if !in_else => in_else = true,
                Some(("end", _, _)) => break,
                _ => return Err(TemplateError::new(line, "`{% if %}` has no `{% end %}`")),
            }
        }
        self.depth -= 1;
        Ok(Node::If { arms, otherwise })
    }

    /// `for a in list`, `for a, b in list`.
    fn repeated(&mut self, text: &'a str, line: usize) -> Result<Node, TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(TemplateError::new(line, "blocks are nested too deep"));
        }
        let wrong = || TemplateError::new(line, "expected `{% for name in list %}`");
        let (names, over) = text.split_once(" in ").ok_or_else(wrong)?;
        let names: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
        if !names.iter().all(|name| is_name(name)) {
            return Err(wrong());
        }
        let over = self.expr(over, line)?;
        let (nodes, end) = self.until(&["end"])?;
        if !matches!(end, Some(("end", _, _))) {
            return Err(TemplateError::new(line, "`{% for %}` has no `{% end %}`"));
        }
        self.depth -= 1;
        Ok(Node::For { names, over, nodes })
    }

    /// `set name = value`.
    fn assignment(&mut self, text: &str, line: usize) -> Result<Node, TemplateError> {
        let (name, value) = text.split_once('=').unwrap_or(("", ""));
        if !is_name(name.trim()) {
            return Err(TemplateError::new(line, "expected `{% set name = value %}`"));
        }
        Ok(Node::Set(name.trim().to_owned(), self.expr(value, line)?))
    }

    fn expr(&mut self, text: &str, line: usize) -> Result<Expr, TemplateError> {
        let tokens = lex::tokens(text, line)?;
        let mut parser = Exprs { tokens: tokens.into_iter().peekable(), line, declared: &mut self.declared, depth: 0 };
        let expr = parser.or()?;
        match parser.tokens.next() {
            None => Ok(expr),
            Some(token) => Err(TemplateError::new(line, format!("{token:?} is not expected in `{text}`"))),
        }
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_') && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn has_placeholder(text: &str) -> bool {
    text.as_bytes().windows(2).any(|w| w[0] == b'$' && (w[1].is_ascii_alphanumeric() || w[1] == b'$'))
}

struct Exprs<'a> {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    line: usize,
    declared: &'a mut Vec<Declared>,
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

    fn or(&mut self) -> Result<Expr, TemplateError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail("an expression is nested too deep");
        }
        let mut left = self.and()?;
        while self.word("or") {
            left = Expr::Or(Box::new(left), Box::new(self.and()?));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, TemplateError> {
        let mut left = self.not()?;
        while self.word("and") {
            left = Expr::And(Box::new(left), Box::new(self.not()?));
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr, TemplateError> {
        let mut negations = 0;
        while self.word("not") {
            negations += 1;
        }
        let expr = self.comparison()?;
        Ok(if negations % 2 == 1 { Expr::Not(Box::new(expr)) } else { expr })
    }

    fn comparison(&mut self) -> Result<Expr, TemplateError> {
        let left = self.sum()?;
        let compare = match self.tokens.peek() {
            Some(Token::Symbol("==")) => Compare::Eq,
            Some(Token::Symbol("!=")) => Compare::Ne,
            Some(Token::Symbol("<")) => Compare::Lt,
            Some(Token::Symbol("<=")) => Compare::Le,
            Some(Token::Symbol(">")) => Compare::Gt,
            Some(Token::Symbol(">=")) => Compare::Ge,
            Some(Token::Name(n)) if n == "in" => Compare::In,
            Some(Token::Name(n)) if n == "not" => Compare::NotIn,
            _ => return Ok(left),
        };
        self.tokens.next();
        if compare == Compare::NotIn && !self.word("in") {
            return self.fail("`in` is missing after `not`");
        }
        Ok(Expr::Compare(compare, Box::new(left), Box::new(self.sum()?)))
    }

    fn sum(&mut self) -> Result<Expr, TemplateError> {
        let mut left = self.postfix()?;
        loop {
            if self.symbol("+") {
                left = Expr::Add(Box::new(left), Box::new(self.postfix()?));
            } else if self.symbol("-") {
                left = Expr::Subtract(Box::new(left), Box::new(self.postfix()?));
            } else {
                return Ok(left);
            }
        }
    }

    /// `a[b]`, `a.get(b)`, `a.join(b)`.
    fn postfix(&mut self) -> Result<Expr, TemplateError> {
        let mut expr = self.primary()?;
        loop {
            if self.symbol("[") {
                let at = Box::new(self.or()?);
                self.expect("]")?;
                expr = Expr::Item { of: Box::new(expr), at, or_none: false };
            } else if self.symbol(".") {
                let Some(Token::Name(method)) = self.tokens.next() else {
                    return self.fail("a method's name is missing");
                };
                self.expect("(")?;
                let mut arguments = self.list(")")?;
                expr = match (method.as_str(), arguments.len()) {
                    ("get", 1) => Expr::Item { of: Box::new(expr), at: Box::new(arguments.remove(0)), or_none: true },
                    ("join" | "split" | "lower" | "upper" | "strip", 0 | 1) => {
                        let function = Function::method(&method);
                        arguments.insert(0, expr);
                        function.map_or_else(|| self.fail("the method is not known"), |f| self.called(f, arguments))?
                    }
                    _ => return self.fail(format!("the method `{method}` is not known")),
                };
            } else {
                return Ok(expr);
            }
        }
    }

    fn called(&self, function: Function, arguments: Vec<Expr>) -> Result<Expr, TemplateError> {
        let (least, most) = function.arguments();
        if (least..=most).contains(&arguments.len()) {
            return Ok(Expr::Call(function, arguments));
        }
        self.fail(format!("the function takes {least} to {most} values, not {}", arguments.len()))
    }

    /// `column(x, 'default')`: a parameter whose value is a name; a constant is the name itself.
    fn name_parameter(&mut self, function: Function, args: Vec<Arg>) -> Result<Expr, TemplateError> {
        let mut positional = args.into_iter().filter(|(keyword, _)| keyword.is_none()).map(|(_, value)| value);
        let (Some(first), default) = (positional.next(), positional.next()) else {
            return self.fail("the name is missing");
        };
        let default = default.map(|default| self.constant(default)).transpose()?;
        if let Expr::Name(name) = &first
            && self.declared.iter().all(|known| known.name != *name)
        {
            let mut declared = Declared::new(name.clone(), Kind::String);
            declared.default = default;
            self.declared.push(declared);
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
                Some(_) => return self.fail(format!("`{keyword}` has no operator that is known")),
            };
            conditions.push((column.to_owned(), operator, value));
        }
        Ok(Expr::SqlAnd(conditions))
    }

    fn primary(&mut self) -> Result<Expr, TemplateError> {
        match self.tokens.next() {
            Some(Token::Text(text)) => Ok(Expr::Constant(Value::Text(text))),
            Some(Token::Number(text)) => self.number(&text),
            Some(Token::Symbol("-")) => match self.tokens.next() {
                Some(Token::Number(text)) => self.number(&format!("-{text}")),
                _ => self.fail("`-` needs a number"),
            },
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
            _ => self.fail(format!("`{text}` is not a number")),
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
            items.push(self.or()?);
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
            let value = self.or()?;
            match value {
                Expr::Name(keyword) if self.symbol("=") => args.push((Some(keyword), self.or()?)),
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
            "column" | "columns" | "symbol" | "table" => self.name_parameter(Function::Names, args),
            _ => match Function::by_name(name) {
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
            return self.fail(format!("`{function}` needs a parameter's name"));
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
            return self.fail(format!("the function `{function}` is not known"));
        };
        let mut declared = Declared::new(name.clone(), kind.clone());
        declared.default = positional.next().map(|d| self.constant(d)).transpose()?;
        for (keyword, value) in keywords {
            let value = self.constant(value)?;
            if !declared.set(keyword.as_deref().unwrap_or_default(), value) {
                return self.fail(format!("`{}` is not known here", keyword.unwrap_or_default()));
            }
        }
        match self.declared.iter_mut().find(|d| d.name == name) {
            Some(known) if known.kind != kind => self.fail(format!("`{name}` is declared with two types")),
            Some(known) => {
                known.merge(declared);
                Ok(Expr::Param(name, kind))
            }
            None => {
                self.declared.push(declared);
                Ok(Expr::Param(name, kind))
            }
        }
    }

    fn constant(&self, expr: Expr) -> Result<Value, TemplateError> {
        match expr {
            Expr::Constant(value) => Ok(value),
            Expr::List(items) => {
                Ok(Value::List(items.into_iter().map(|i| self.constant(i)).collect::<Result<_, _>>()?))
            }
            _ => self.fail("a constant is expected"),
        }
    }
}
