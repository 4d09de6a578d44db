//! Cuts a template into text, `{{ }}` and `{% %}`, and an expression into tokens. Each character is passed once, and each
//! piece and token is paid for.

use super::budget::Budget;
use super::parse::TemplateError;
use super::value::shortened;

/// A piece of template with the line it starts on.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece<'a> {
    Text(&'a str, usize),
    /// The inside of `{{ … }}`.
    Output(&'a str, usize),
    /// The inside of `{% … %}`.
    Tag(&'a str, usize),
}

/// Cuts `text`; `{# … #}` is dropped.
pub(super) fn pieces<'a>(text: &'a str, budget: &mut Budget) -> Result<Vec<Piece<'a>>, TemplateError> {
    let mut pieces = Vec::new();
    let (mut rest, mut line) = (text, 1);
    loop {
        budget.step().map_err(|spent| TemplateError::spent(line, spent))?;
        // A lone brace is text.
        let tag = rest.match_indices('{').find_map(|(at, _)| match rest.as_bytes().get(at + 1) {
            Some(b'{') => Some((at, "}}")),
            Some(b'%') => Some((at, "%}")),
            Some(b'#') => Some((at, "#}")),
            _ => None,
        });
        let Some((start, close)) = tag else {
            if !rest.is_empty() {
                pieces.push(Piece::Text(rest, line));
            }
            return Ok(pieces);
        };
        if start > 0 {
            pieces.push(Piece::Text(&rest[..start], line));
        }
        line += rest[..start].matches('\n').count();
        let inside = &rest[start + 2..];
        let end = end_of(inside, close).ok_or_else(|| {
            TemplateError::new(line, format!("`{}` is not closed by `{close}`", &rest[start..start + 2]))
        })?;
        match close {
            "}}" => pieces.push(Piece::Output(inside[..end].trim(), line)),
            "%}" => pieces.push(Piece::Tag(inside[..end].trim(), line)),
            _ => {}
        }
        line += inside[..end].matches('\n').count();
        rest = &inside[end + 2..];
    }
}

/// Where `close` is outside quotes; a comment has no quotes.
fn end_of(inside: &str, close: &str) -> Option<usize> {
    if close == "#}" {
        return inside.find(close);
    }
    let mut quote = None;
    let mut chars = inside.char_indices();
    while let Some((at, c)) = chars.next() {
        match (quote, c) {
            // Whatever it escapes, the end of the text too.
            (Some(_), '\\') => {
                chars.next();
            }
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, _) if inside[at..].starts_with(close) => return Some(at),
            (None, _) => {}
        }
    }
    None
}

/// A token of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Name(String),
    Text(String),
    Number(String),
    /// One of [`SYMBOLS`].
    Symbol(&'static str),
}

pub(super) const SYMBOLS: [&str; 19] =
    ["==", "!=", "<=", ">=", "//", "(", ")", "[", "]", ",", ".", "=", "<", ">", "+", "-", "*", "/", "%"];

/// Cuts an expression.
pub(super) fn tokens(text: &str, line: usize, budget: &mut Budget) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        budget.step().map_err(|spent| TemplateError::spent(line, spent))?;
        let length = if first == '\'' || first == '"' {
            let (value, length) = quoted(rest, first, line)?;
            tokens.push(Token::Text(value));
            length
        } else if first.is_ascii_digit() {
            let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
            tokens.push(Token::Number(rest[..length].to_owned()));
            length
        } else if first.is_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(Token::Name(rest[..length].to_owned()));
            length
        } else if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            tokens.push(Token::Symbol(symbol));
            symbol.len()
        } else {
            return Err(TemplateError::new(line, format!("`{first}` is not expected in `{}`", shortened(text))));
        };
        budget.bytes(length).map_err(|spent| TemplateError::spent(line, spent))?;
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// A quoted text and its length in the source; a backslash takes the next character as it is, `\n` and `\t` aside.
fn quoted(text: &str, quote: char, line: usize) -> Result<(String, usize), TemplateError> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c)) => value.push(c),
                None => break,
            },
            c if c == quote => return Ok((value, at + 1)),
            c => value.push(c),
        }
    }
    Err(TemplateError::new(line, "a quote is not closed"))
}
