//! The tree of a template: a recursive descent over the pieces and, inside them, over expressions ([`expr`](super::expr)).
//! What is not known is an error here, when the endpoint is loaded, never in a call. Start at [`parse`].
//!
//! Anyone may send one. Its parts are paid for by a [`Budget`], and its tree is never deeper than [`DEPTH_MAX`] blocks and as many
//! levels of an expression: chains (`a + b + c`, `a or b or c`, `a[b][c]`) are lists, not levels.

use std::collections::HashMap;

use super::budget::{Budget, Spent};
use super::expr::{self, Expr};
use super::lex::{self, Piece};
use super::value::{Declared, shortened};

/// Levels of blocks, and of parentheses and arguments in an expression. Trees are read, rendered and dropped recursively.
pub(super) const DEPTH_MAX: usize = 50;

/// What `{% … %}` can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    If,
    For,
    Set,
    /// `{% comment … %}` is dropped.
    Comment,
    Elif,
    Else,
    End,
}

/// Each by its word.
pub(super) const TAGS: [(&str, Tag); 7] = [
    ("if", Tag::If),
    ("for", Tag::For),
    ("set", Tag::Set),
    ("comment", Tag::Comment),
    ("elif", Tag::Elif),
    ("else", Tag::Else),
    ("end", Tag::End),
];

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

    pub(super) fn spent(line: usize, spent: Spent) -> Self {
        Self::new(line, spent.to_string())
    }
}

/// A loaded template.
#[derive(Debug)]
pub(crate) struct Template {
    pub(super) nodes: Vec<Node>,
    /// Every parameter it declares, once, in order of appearance.
    pub(crate) declared: Vec<Declared>,
}

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Output(Expr),
    If { arms: Vec<(Expr, Vec<Node>)>, otherwise: Vec<Node> },
    For { names: Vec<String>, over: Expr, nodes: Vec<Node> },
    Set(String, Expr),
}

/// The parameters that were declared so far.
#[derive(Default)]
pub(super) struct Declarations {
    pub(super) list: Vec<Declared>,
    by_name: HashMap<String, usize>,
}

impl Declarations {
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Declared> {
        self.list.get_mut(*self.by_name.get(name)?)
    }

    /// Adds one that isn't there.
    pub(super) fn add(&mut self, declared: Declared) {
        self.by_name.insert(declared.name.clone(), self.list.len());
        self.list.push(declared);
    }
}

/// Reads a template.
/// # Errors  An unclosed block, an unknown function or tag, a parameter declared twice in different ways, and more than
/// the budget pays for.
pub(crate) fn parse(text: &str, budget: &mut Budget) -> Result<Template, TemplateError> {
    let pieces = lex::pieces(text, budget)?;
    let mut parser = Blocks { pieces: pieces.into_iter(), declared: Declarations::default(), depth: 0, budget };
    let (nodes, end) = parser.until()?;
    if let Some((tag, _, line)) = end {
        let word = TAGS.iter().find(|(_, known)| *known == tag).map_or("", |(word, _)| word);
        return Err(TemplateError::new(line, format!("`{{% {word} %}}` without `{{% if %}}`")));
    }
    Ok(Template { nodes, declared: parser.declared.list })
}

struct Blocks<'a> {
    pieces: std::vec::IntoIter<Piece<'a>>,
    declared: Declarations,
    depth: usize,
    budget: &'a mut Budget,
}

/// The tag that ended a run of nodes: which, what follows it, its line.
type End<'a> = Option<(Tag, &'a str, usize)>;

impl<'a> Blocks<'a> {
    /// Nodes up to a tag that ends them, or the end of the text.
    fn until(&mut self) -> Result<(Vec<Node>, End<'a>), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            match piece {
                Piece::Text(text, line) => {
                    if has_placeholder(text) {
                        return Err(TemplateError::new(line, "`$1` and the like are reserved for values"));
                    }
                    self.budget.bytes(text.len()).map_err(|spent| TemplateError::spent(line, spent))?;
                    nodes.push(Node::Text(text.to_owned()));
                }
                Piece::Output(text, line) => nodes.push(Node::Output(self.expr(text, line)?)),
                Piece::Tag(text, line) => {
                    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
                    let tag = TAGS.iter().find(|(known, _)| *known == word).map(|(_, tag)| *tag);
                    match tag {
                        Some(Tag::If) => nodes.push(self.conditional(rest, line)?),
                        Some(Tag::For) => nodes.push(self.repeated(rest, line)?),
                        Some(Tag::Set) => nodes.push(self.assignment(rest, line)?),
                        Some(Tag::Comment) => {}
                        // It ends what it's in, or is out of place.
                        Some(tag @ (Tag::Elif | Tag::Else | Tag::End)) => return Ok((nodes, Some((tag, rest, line)))),
                        None => {
                            let word = shortened(word);
                            return Err(TemplateError::new(line, format!("the tag `{word}` is not known")));
                        }
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
            let (nodes, end) = self.until()?;
            match next.take() {
                Some(condition) => arms.push((condition, nodes)),
                None => otherwise = nodes,
            }
            match end {
                Some((Tag::Elif, condition, line)) if !in_else => next = Some(self.expr(condition, line)?),
                Some((Tag::Else, _, _)) if !in_else => in_else = true,
                Some((Tag::End, _, _)) => break,
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
        self.budget.steps(names.len()).map_err(|spent| TemplateError::spent(line, spent))?;
        let over = self.expr(over, line)?;
        let (nodes, end) = self.until()?;
        if !matches!(end, Some((Tag::End, _, _))) {
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
        expr::parse(text, line, &mut self.declared, self.budget)
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_') && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn has_placeholder(text: &str) -> bool {
    text.as_bytes().windows(2).any(|w| w[0] == b'$' && (w[1].is_ascii_alphanumeric() || w[1] == b'$'))
}
