//! How long and how deep a statement may be: counted over its tokens, before anything that recurses sees them.
//!
//! A parser, and all that walks a tree after it, recurses as deep as the text nests or chains. What makes the tree
//! deeper is therefore counted, in one pass without recursion: operators, levels, and suffixes in a row. A parser is
//! only made of [`Tokens`], and these only by [`Tokens::read`]. The tokens that are counted are the very ones that the parser gets, so no
//! way to write a string or a comment, in whichever dialect, can hide an operator (`#'`, `/*! … */` and `q'[…]'` would
//! hide one from a second lexer). Only what is known to be flat is free: names, literals, commas and
//! words that begin no expression; a symbol that is new counts.

use datafusion::sql::parser::{DFParser, DFParserBuilder};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer};

use crate::dialect::{self, Counted};
use crate::error::{QueryError, from_datafusion, from_parser};

/// A page of SQL is 2 KiB; a generated one rarely passes 20.
pub const SQL_BYTES_MAX: usize = 64 * 1024;
/// Operators, casts, subscripts, function calls, joins and selects of one statement. Parsing, planning and dropping are recursive in them.
pub const OPERATORS_MAX: usize = 1_000;
/// Levels of parentheses, brackets, types in `<…>`, `CASE`, `EXPLAIN` and repeated prefix operators.
pub const NESTING_MAX: usize = 100;
/// What may follow one operand in a row: `.a`, `[1]`, `::text`, `AT TIME ZONE`, `COLLATE`, `IS NULL`; of types, `[]`. Each is a
/// level of the tree, and planning some takes time in the square of them.
pub const SUFFIXES_MAX: usize = 32;
/// The same word of the language again and again: no statement needs it, and what it begins each time may nest.
const REPEATS_MAX: usize = 16;
/// Above what [`NESTING_MAX`] levels need: a level takes a handful of the parser's recursions.
const PARSER_RECURSION_MAX: usize = 2_000;

/// What statements there are.
pub(crate) const ONLY: &str = "only one SELECT (or WITH … SELECT, or EXPLAIN SELECT) is";

/// The tokens of a text within the limits.
pub(crate) struct Tokens(Vec<TokenWithSpan>);

impl Tokens {
    /// Takes a text apart and counts what would make its tree deep.
    /// # Errors  `SqlTooLarge`; text of which no tokens can be made.
    #[expect(clippy::disallowed_methods, reason = "the one place where it may be")]
    pub(crate) fn read(sql: &str) -> Result<Self, QueryError> {
        at_most("bytes", sql.len(), SQL_BYTES_MAX)?;
        let tokens = Tokenizer::new(&GenericDialect {}, sql)
            .tokenize_with_location()
            .map_err(|e| from_parser(&e.to_string()))?;
        let mut count = Count::default();
        tokens.iter().try_for_each(|token| count.add(&token.token))?;
        Ok(Self(tokens))
    }

    pub(crate) fn as_slice(&self) -> &[TokenWithSpan] {
        &self.0
    }

    pub(crate) fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }

    /// A parser of expressions.
    #[expect(clippy::disallowed_methods, reason = "the one place where it may be")]
    pub(crate) fn parser(self) -> Parser<'static> {
        dialect::restart();
        Parser::new(&Counted).with_recursion_limit(PARSER_RECURSION_MAX).with_tokens_with_locations(self.0)
    }

    /// A parser of queries.
    /// # Errors  `NotAllowed` for other statements; the engine's.
    #[expect(clippy::disallowed_methods, reason = "the one place where it may be")]
    pub(crate) fn statements(self) -> Result<DFParser<'static>, QueryError> {
        only_queries(&self.0)?;
        dialect::restart();
        DFParserBuilder::new(self.0)
            .with_dialect(&Counted)
            .with_recursion_limit(PARSER_RECURSION_MAX)
            .build()
            .map_err(|e| from_datafusion(&e, 0, 0))
    }
}

/// Refuses all statements but queries and EXPLAIN by their first word, before they are parsed: the parser recurses without
/// a bound in what some of the others hold (`WHILE x WHILE x …`).
fn only_queries(tokens: &[TokenWithSpan]) -> Result<(), QueryError> {
    let (mut begins, mut explained) = (true, "");
    for token in tokens {
        match &token.token {
            Token::Whitespace(_) | Token::EOF => {}
            Token::SemiColon => (begins, explained) = (true, ""),
            Token::LParen => {}
            Token::Word(word) if begins => match word.keyword {
                Keyword::EXPLAIN if explained.is_empty() => explained = "EXPLAIN ",
                // What is no keyword begins nothing, says the parser.
                Keyword::SELECT
                | Keyword::WITH
                | Keyword::VALUES
                | Keyword::FROM
                | Keyword::TABLE
                | Keyword::NoKeyword => begins = false,
                _ => {
                    let word = word.value.to_ascii_uppercase();
                    return Err(QueryError::not_allowed(format!("{explained}{word} statements; {ONLY}"), None));
                }
            },
            _ => begins = false,
        }
    }
    Ok(())
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), QueryError> {
    if found > limit { Err(QueryError::SqlTooLarge { what, found, limit }) } else { Ok(()) }
}

/// What a token does to the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Nothing,
    /// Ends an expression: the next is beside it, not below.
    Separator,
    Operand,
    /// A name or a word that is no operator: an operand, or what begins or ends one.
    Word(Keyword),
    Open,
    Close,
    /// Goes around the operand before it.
    Suffix,
    Operator,
}

fn class(token: &Token) -> Class {
    match token {
        Token::Whitespace(_) | Token::EOF => Class::Nothing,
        Token::Comma | Token::SemiColon => Class::Separator,
        Token::LParen | Token::LBracket | Token::LBrace => Class::Open,
        Token::RParen | Token::RBracket | Token::RBrace => Class::Close,
        Token::Period | Token::DoubleColon | Token::Colon => Class::Suffix,
        Token::Word(word) => match word.keyword {
            keyword if operator_word(keyword) => Class::Operator,
            keyword if suffix_word(keyword) => Class::Suffix,
            keyword if opening_word(keyword) => Class::Separator,
            keyword => Class::Word(keyword),
        },
        token if is_literal(token) => Class::Operand,
        _ => Class::Operator,
    }
}

/// The level around an expression: a bracket's, or the statement's.
#[derive(Default)]
struct Level {
    /// Suffixes since the last operator or comma.
    suffixes: usize,
    /// Types that are open: `ARRAY<`.
    types: usize,
    /// `CASE` without its `END`.
    cases: usize,
}

struct Count {
    operators: usize,
    /// The innermost is last; never empty.
    levels: Vec<Level>,
    /// Of all levels together, with their types and `CASE`s.
    nesting: usize,
    /// Prefix operators since the last operand.
    prefixes: usize,
    operand_before: bool,
    before: Option<Class>,
    /// After a period or a `::`.
    dotted: bool,
    /// How often the last word came in a row.
    repeats: usize,
}

impl Default for Count {
    fn default() -> Self {
        Self {
            operators: 0,
            levels: vec![Level::default()],
            nesting: 0,
            prefixes: 0,
            operand_before: false,
            before: None,
            dotted: false,
            repeats: 0,
        }
    }
}

impl Count {
    fn add(&mut self, token: &Token) -> Result<(), QueryError> {
        let mut class = class(token);
        if class == Class::Nothing {
            return Ok(());
        }
        if self.dotted && matches!(token, Token::Word(_)) {
            // The `in` of `t.in` is a name, the `interval` of `::interval` a type.
            class = Class::Word(Keyword::NoKeyword);
        }
        self.dotted = matches!(token, Token::Period | Token::DoubleColon);
        let operand = match class {
            Class::Nothing => false,
            Class::Separator => {
                self.level().suffixes = 0;
                false
            }
            Class::Operand => true,
            Class::Word(keyword) => self.word(keyword),
            Class::Open => self.open(token),
            Class::Close => self.close(),
            Class::Suffix => self.suffix(token),
            Class::Operator => self.operator(token),
        };
        // A run of prefix operators (`NOT NOT …`, `- - …`) nests as parentheses do.
        let prefix = !operand && !self.operand_before && matches!(class, Class::Operator | Class::Suffix);
        self.prefixes = if prefix { self.prefixes + 1 } else { 0 };
        // `CASE CASE` and `END END` are counted as what they open and close.
        let uncounted = |keyword| ![Keyword::NoKeyword, Keyword::CASE, Keyword::END].contains(&keyword);
        let again = matches!(class, Class::Word(keyword) if uncounted(keyword)) && self.before == Some(class);
        self.repeats = if again { self.repeats + 1 } else { 0 };
        (self.operand_before, self.before) = (operand, Some(class));
        let suffixes = self.level().suffixes;
        at_most("operators", self.operators, OPERATORS_MAX)?;
        at_most("levels of nesting", self.nesting + self.prefixes, NESTING_MAX)?;
        at_most("suffixes in a row", suffixes, SUFFIXES_MAX)?;
        at_most("words in a row that are the same", self.repeats, REPEATS_MAX)
    }

    fn level(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        let last = self.levels.len() - 1;
        &mut self.levels[last]
    }

    /// Whether it is an operand.
    fn word(&mut self, keyword: Keyword) -> bool {
        match keyword {
            Keyword::CASE => {
                self.nesting += 1;
                self.operators += 1;
                self.level().cases += 1;
                false
            }
            // Never closed: what is explained is the rest of the text.
            Keyword::EXPLAIN => {
                self.nesting += 1;
                false
            }
            Keyword::END => {
                let level = self.level();
                let open = level.cases.min(1);
                level.cases -= open;
                self.nesting -= open;
                true
            }
            _ => true,
        }
    }

    fn open(&mut self, token: &Token) -> bool {
        let called = matches!(self.before, Some(Class::Word(_)));
        let around = self.operand_before && !(called && *token == Token::LParen);
        self.operators += usize::from(called || *token != Token::LParen);
        self.level().suffixes += usize::from(around);
        self.nesting += 1;
        self.levels.push(Level::default());
        false
    }

    fn close(&mut self) -> bool {
        // One too many closes nothing; the parser refuses it.
        if self.levels.len() > 1
            && let Some(closed) = self.levels.pop()
        {
            self.nesting -= 1 + closed.types + closed.cases;
        }
        true
    }

    fn suffix(&mut self, token: &Token) -> bool {
        // `a.b` is a name; more of it is bounded by the row that it makes.
        self.operators += usize::from(*token != Token::Period);
        self.level().suffixes += 1;
        false
    }

    fn operator(&mut self, token: &Token) -> bool {
        self.operators += 1;
        let typed = matches!(self.before, Some(Class::Word(Keyword::ARRAY | Keyword::STRUCT | Keyword::MAP)));
        // The NOT of `IS NOT NULL` ends no operand.
        let goes_on = self.before == Some(Class::Suffix);
        let level = self.level();
        level.suffixes = if goes_on { level.suffixes } else { 0 };
        let closes = match token {
            Token::Gt => level.types.min(1),
            Token::ShiftRight => level.types.min(2),
            _ => 0,
        };
        level.types -= closes;
        let opens = usize::from(typed && *token == Token::Lt);
        level.types += opens;
        self.nesting = self.nesting + opens - closes;
        closes > 0
    }
}

/// Whether an expression or a name follows the word.
pub(crate) fn expects_more(keyword: Keyword) -> bool {
    operator_word(keyword) || suffix_word(keyword) || opening_word(keyword) || keyword == Keyword::CASE
}

/// Words that stand after an operand.
fn suffix_word(keyword: Keyword) -> bool {
    matches!(keyword, Keyword::AT | Keyword::COLLATE | Keyword::IS | Keyword::NOTNULL)
}

/// Words that stand between operands or before one.
fn operator_word(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::AND
            | Keyword::OR
            | Keyword::NOT
            | Keyword::XOR
            | Keyword::IN
            | Keyword::LIKE
            | Keyword::ILIKE
            | Keyword::RLIKE
            | Keyword::REGEXP
            | Keyword::SIMILAR
            | Keyword::BETWEEN
            | Keyword::OVERLAPS
            | Keyword::OPERATOR
            | Keyword::MATCH
            | Keyword::MEMBER
            | Keyword::WHEN
            | Keyword::DIV
            | Keyword::UNION
            | Keyword::INTERSECT
            | Keyword::EXCEPT
            | Keyword::MINUS
            | Keyword::JOIN
            | Keyword::SELECT
            | Keyword::EXISTS
            | Keyword::INTERVAL
            | Keyword::PRIOR
            | Keyword::LAMBDA
    )
}

/// After these, a name or an expression begins, and the one before has ended.
fn opening_word(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::FROM
            | Keyword::AS
            | Keyword::WITH
            | Keyword::DISTINCT
            | Keyword::ALL
            | Keyword::WHERE
            | Keyword::HAVING
            | Keyword::QUALIFY
            | Keyword::BY
            | Keyword::ON
            | Keyword::THEN
            | Keyword::ELSE
            | Keyword::LIMIT
            | Keyword::OFFSET
    )
}

pub(crate) fn is_literal(token: &Token) -> bool {
    matches!(
        token,
        Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::SingleQuotedRawStringLiteral(_)
            | Token::DoubleQuotedRawStringLiteral(_)
            | Token::Placeholder(_)
    )
}
