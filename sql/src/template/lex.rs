//! Cuts a template into text, `{{ }}` and `{% %}`, and an expression into tokens.

use super::parse::TemplateError;

/// A piece of template with the line it starts on.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece<'a> {
    Text(&'a str),
    /// The inside of `{{ … }}`.
    Output(&'a str, usize),
    /// The inside of `{% … %}`.
    Tag(&'a str, usize),
}

/// Cuts `text`; `{# … #}` is dropped.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let line_at = |rest: &str| 1 + text[..text.len() - rest.len()].matches('\n').count();
    while let Some(start) = rest.find('{') {
        let close = match rest.as_bytes().get(start + 1) {
            Some(b'{') => "}}",
            Some(b'%') => "%}",
            Some(b'#') => "#}",
            _ => {
                // A lone brace is text; look on after it.
                let (text, after) = rest.split_at(start + 1);
                pieces.push(Piece::Text(text));
                rest = after;
                continue;
            }
        };
        if start > 0 {
            pieces.push(Piece::Text(&rest[..start]));
        }
        let inside = &rest[start + 2..];
        let line = line_at(&rest[start..]);
        let end = end_of(inside, close).ok_or_else(|| {
            TemplateError::new(line, format!("`{}` is not closed by `{close}`", &rest[start..start + 2]))
        })?;
        match close {
            "}}" => pieces.push(Piece::Output(inside[..end].trim(), line)),
            "%}" => pieces.push(Piece::Tag(inside[..end].trim(), line)),
            _ => {}
        }
        rest = &inside[end + 2..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// Where `close` is outside quotes; a comment has no quotes.
fn end_of(inside: &str, close: &str) -> Option<usize> {
    if close == "#}" {
        return inside.find(close);
    }
    let bytes = inside.as_bytes();
    let (mut quote, mut at) = (None, 0);
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(q), b) if b == q => quote = None,
            (Some(_), _) => {}
            (None, b @ (b'\'' | b'"')) => quote = Some(b),
            (None, _) if inside[at..].starts_with(close) => return Some(at),
            (None, _) => {}
        }
        at += 1;
        while !inside.is_char_boundary(at) {
            at += 1;
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
    /// One of `( ) [ ] , . = == != < <= > >= + -`.
    Symbol(&'static str),
}

const SYMBOLS: [&str; 15] = ["==", "!=", "<=", ">=", "(", ")", "[", "]", ",", ".", "=", "<", ">", "+", "-"];

/// Cuts an expression.
pub(super) fn tokens(text: &str, line: usize) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
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
            return Err(TemplateError::new(line, format!("`{first}` is not expected in `{text}`")));
        };
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
