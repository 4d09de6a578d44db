//! A statement's parameters: the bytes a client sends, read by their types and put in the place of `$n` as typed
//! literals. A value meets no parser, so nothing in it can be SQL. Start at [`read`] and [`bind`].

use std::ops::ControlFlow;

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta};
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, ExactNumberInfo, Expr, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, ObjectName, Query, TimezoneInfo, UnaryOperator, Value, VisitMut,
    VisitorMut,
};

use super::error::PgError;
use super::types::{PgType, Scalar};
use crate::error::QueryError;

/// `$1000` is the last.
pub(super) const PARAMETERS_MAX: usize = 1_000;
/// Items of all lists that are bound to a statement (54000): as many values as the longest text of a statement has. Each
/// becomes an expression of a few hundred bytes.
const ITEMS_MAX: usize = 32_000;
/// Digits of a number that arrow can hold.
const DIGITS_MAX: usize = 38;

/// A value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Given {
    Null,
    Bool(bool),
    /// With its type, which is narrower than 64 bits or an `oid`.
    Int(i64),
    Float(f64),
    /// Digits, perhaps with a sign and a point.
    Digits(String),
    Text(String),
    Bytes(Vec<u8>),
    Date(NaiveDate),
    Time(NaiveTime),
    Timestamp(NaiveDateTime),
    /// In UTC.
    TimestampTz(NaiveDateTime),
    Interval(String),
    List(Vec<Given>),
}

impl Given {
    /// Bytes of memory that it has, about.
    pub(super) fn bytes(&self) -> usize {
        let more = match self {
            Self::Digits(text) | Self::Text(text) | Self::Interval(text) => text.capacity(),
            Self::Bytes(bytes) => bytes.capacity(),
            Self::List(items) => {
                let unused = (items.capacity() - items.len()) * size_of::<Self>();
                unused + items.iter().map(Self::bytes).sum::<usize>()
            }
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Float(_)
            | Self::Date(_)
            | Self::Time(_)
            | Self::Timestamp(_)
            | Self::TimestampTz(_) => 0,
        };
        size_of::<Self>() + more
    }
}

/// Refuses lists that are too long together.
pub(super) fn check_lists(values: &[(PgType, Given)]) -> Result<(), PgError> {
    let items = |(_, given): &(PgType, Given)| if let Given::List(items) = given { items.len() } else { 0 };
    let found: usize = values.iter().map(items).sum();
    if found > ITEMS_MAX {
        let message = format!("the lists that are bound have {found} items, the limit is {ITEMS_MAX}");
        return Err(PgError::error("54000", message));
    }
    Ok(())
}

/// Reads a value in text (format 0) or binary (1).
pub(super) fn read(bytes: Option<&[u8]>, kind: PgType, format: i16) -> Result<Given, PgError> {
    let Some(bytes) = bytes else { return Ok(Given::Null) };
    let wrong = || PgError::error("22P02", format!("a parameter is not a value of type {}", kind.sql_name()));
    match (format, kind.is_array) {
        (0, false) => std::str::from_utf8(bytes).ok().and_then(|text| of_text(text, kind.scalar)).ok_or_else(wrong),
        (0, true) => {
            let items = std::str::from_utf8(bytes).ok().and_then(items).ok_or_else(wrong)?;
            let item = |item: Option<String>| match item {
                None => Ok(Given::Null),
                Some(text) => of_text(&text, kind.scalar).ok_or_else(wrong),
            };
            items.into_iter().map(item).collect::<Result<_, _>>().map(Given::List)
        }
        (1, false) => of_binary(bytes, kind.scalar).ok_or_else(wrong),
        (1, true) => list_of_binary(bytes).ok_or_else(wrong),
        _ => Err(PgError::error("08P01", "a format is text (0) or binary (1)")),
    }
}

fn of_text(text: &str, scalar: Scalar) -> Option<Given> {
    let trimmed = text.trim();
    Some(match scalar {
        Scalar::Bool => match trimmed.to_ascii_lowercase().as_str() {
            "t" | "true" | "y" | "yes" | "on" | "1" => Given::Bool(true),
            "f" | "false" | "n" | "no" | "off" | "0" => Given::Bool(false),
            _ => return None,
        },
        Scalar::Int2 => Given::Int(trimmed.parse::<i16>().ok()?.into()),
        Scalar::Int4 => Given::Int(trimmed.parse::<i32>().ok()?.into()),
        Scalar::Int8 => Given::Int(trimmed.parse().ok()?),
        Scalar::Oid => Given::Int(trimmed.parse::<u32>().ok()?.into()),
        Scalar::Float4 | Scalar::Float8 => Given::Float(trimmed.parse().ok()?),
        Scalar::Numeric => digits(trimmed)?,
        Scalar::Bytea => Given::Bytes(bytea(text)?),
        Scalar::Date => Given::Date(NaiveDate::parse_from_str(trimmed, "%Y-%m-%d").ok()?),
        Scalar::Time => Given::Time(trimmed.parse().ok()?),
        Scalar::Timestamp => Given::Timestamp(timestamp(trimmed)?),
        Scalar::TimestampTz => Given::TimestampTz(timestamp_tz(trimmed)?),
        Scalar::Interval => Given::Interval(trimmed.to_owned()),
        Scalar::Char | Scalar::Name | Scalar::Text | Scalar::Unknown | Scalar::Varchar | Scalar::Uuid => {
            Given::Text(text.to_owned())
        }
    })
}

fn digits(text: &str) -> Option<Given> {
    let plain = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let count = whole.trim_start_matches('0').len() + fraction.len();
    let fits = !plain.is_empty() && plain != "." && all_digits(whole) && all_digits(fraction) && count <= DIGITS_MAX;
    if fits {
        return Some(Given::Digits(text.trim_start_matches('+').to_owned()));
    }
    // `1e-7`, `NaN`: as close as a double comes.
    text.parse().ok().map(Given::Float)
}

fn bytea(text: &str) -> Option<Vec<u8>> {
    let hex = text.strip_prefix("\\x")?;
    let pair = |at: usize| hex.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..hex.len()).step_by(2).map(pair).collect()
}

fn timestamp(text: &str) -> Option<NaiveDateTime> {
    let text = text.replacen('T', " ", 1);
    let date = || NaiveDate::parse_from_str(&text, "%Y-%m-%d").ok().and_then(|date| date.and_hms_opt(0, 0, 0));
    NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M"))
        .ok()
        .or_else(date)
}

/// Without an offset it is UTC.
fn timestamp_tz(text: &str) -> Option<NaiveDateTime> {
    let plain = text.strip_suffix(['Z', 'z']).unwrap_or(text).replacen('T', " ", 1);
    // `+02` is one of Postgres' forms and none of chrono's.
    let offset = plain.rfind(['+', '-']).filter(|at| *at > 10).map(|at| &plain[at..]);
    let long = if offset.is_some_and(|offset| offset.len() == 3) { format!("{plain}:00") } else { plain.clone() };
    match offset {
        None => timestamp(&plain),
        Some(_) => DateTime::parse_from_str(&long, "%Y-%m-%d %H:%M:%S%.f%:z").ok().map(|at| at.naive_utc()),
    }
}

/// `{a,"b c",NULL}`; `None` for what isn't a list of single values.
pub(super) fn items(text: &str) -> Option<Vec<Option<String>>> {
    let inner = text.trim().strip_prefix('{')?.strip_suffix('}')?;
    let (mut items, mut item, mut quoted) = (Vec::new(), String::new(), false);
    if inner.trim().is_empty() {
        return Some(items);
    }
    let mut was_quoted = false;
    let mut letters = inner.chars();
    let mut end = |item: &mut String, was_quoted: &mut bool| {
        let text = std::mem::take(item);
        let quoted = std::mem::take(was_quoted);
        let text = if quoted { text } else { text.trim().to_owned() };
        items.push((quoted || !text.eq_ignore_ascii_case("null")).then_some(text));
    };
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => item.push(letters.next()?),
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            ',' if !quoted => end(&mut item, &mut was_quoted),
            '{' | '}' if !quoted => return None,
            letter if !quoted && letter.is_whitespace() && (item.is_empty() || was_quoted) => {}
            letter => item.push(letter),
        }
    }
    if quoted {
        return None;
    }
    end(&mut item, &mut was_quoted);
    Some(items)
}

fn fixed<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

fn of_binary(bytes: &[u8], scalar: Scalar) -> Option<Given> {
    let day_0 = NaiveDate::from_ymd_opt(2000, 1, 1)?;
    let moment = || -> Option<NaiveDateTime> {
        let microseconds = TimeDelta::microseconds(i64::from_be_bytes(fixed(bytes)?));
        day_0.and_hms_opt(0, 0, 0)?.checked_add_signed(microseconds)
    };
    Some(match scalar {
        Scalar::Bool => Given::Bool(*fixed::<1>(bytes)?.first()? != 0),
        Scalar::Int2 => Given::Int(i16::from_be_bytes(fixed(bytes)?).into()),
        Scalar::Int4 => Given::Int(i32::from_be_bytes(fixed(bytes)?).into()),
        Scalar::Int8 => Given::Int(i64::from_be_bytes(fixed(bytes)?)),
        Scalar::Oid => Given::Int(u32::from_be_bytes(fixed(bytes)?).into()),
        Scalar::Float4 => Given::Float(f32::from_be_bytes(fixed(bytes)?).into()),
        Scalar::Float8 => Given::Float(f64::from_be_bytes(fixed(bytes)?)),
        Scalar::Numeric => numeric(bytes)?,
        Scalar::Bytea => Given::Bytes(bytes.to_vec()),
        Scalar::Date => {
            let days = i32::from_be_bytes(fixed(bytes)?);
            let magnitude = Days::new(days.unsigned_abs().into());
            let date = if days < 0 { day_0.checked_sub_days(magnitude) } else { day_0.checked_add_days(magnitude) };
            Given::Date(date?)
        }
        Scalar::Time => {
            let (time, days) =
                NaiveTime::MIN.overflowing_add_signed(TimeDelta::microseconds(i64::from_be_bytes(fixed(bytes)?)));
            (days == 0).then_some(Given::Time(time))?
        }
        Scalar::Timestamp => Given::Timestamp(moment()?),
        Scalar::TimestampTz => Given::TimestampTz(moment()?),
        Scalar::Interval => {
            let bytes = fixed::<16>(bytes)?;
            let microseconds = i64::from_be_bytes(fixed(&bytes[..8])?);
            let (days, months) = (i32::from_be_bytes(fixed(&bytes[8..12])?), i32::from_be_bytes(fixed(&bytes[12..])?));
            Given::Interval(format!("{months} months {days} days {microseconds} microseconds"))
        }
        Scalar::Uuid => {
            let hex: String = fixed::<16>(bytes)?.iter().map(|byte| format!("{byte:02x}")).collect();
            Given::Text([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
        }
        Scalar::Char | Scalar::Name | Scalar::Text | Scalar::Unknown | Scalar::Varchar => {
            Given::Text(std::str::from_utf8(bytes).ok()?.to_owned())
        }
    })
}

/// Groups of four digits, as in `encode`.
fn numeric(bytes: &[u8]) -> Option<Given> {
    let words: Vec<u16> = bytes.chunks(2).map(|two| fixed(two).map(u16::from_be_bytes)).collect::<Option<_>>()?;
    let [count, weight, sign, scale, groups @ ..] = words.as_slice() else { return None };
    let (weight, scale) = (weight.cast_signed(), usize::from(*scale));
    if usize::from(*count) != groups.len() || groups.iter().any(|group| *group > 9_999) || weight.unsigned_abs() > 20 {
        return None;
    }
    let sign = match sign {
        0 => "",
        0x4000 => "-",
        0xc000 => return Some(Given::Float(f64::NAN)),
        _ => return None,
    };
    // The group at place `at` counts 10000 to the power of `at`.
    let group = |at: i16| {
        let index = usize::try_from(weight.checked_sub(at)?).ok()?;
        groups.get(index).copied()
    };
    let whole: String = (0..=weight.max(0)).rev().map(|at| format!("{:04}", group(at).unwrap_or(0))).collect();
    let places = i16::try_from(scale.div_ceil(4)).ok()?;
    let fraction: String = (1..=places).map(|at| format!("{:04}", group(-at).unwrap_or(0))).collect();
    let whole = whole.trim_start_matches('0');
    let point = if scale == 0 { "" } else { "." };
    digits(&format!("{sign}{}{point}{}", if whole.is_empty() { "0" } else { whole }, fraction.get(..scale)?))
}

/// Dimensions, whether there are NULLs, the items' type; for each dimension its length and lower bound; the items.
fn list_of_binary(bytes: &[u8]) -> Option<Given> {
    let mut rest = bytes;
    let mut number = || -> Option<u32> {
        let (four, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        Some(u32::from_be_bytes(*four))
    };
    let (dimensions, _, oid) = (number()?, number()?, number()?);
    let kind = PgType::by_oid(oid).filter(|kind| !kind.is_array)?;
    match dimensions {
        0 => return Some(Given::List(Vec::new())),
        1 => {}
        _ => return None,
    }
    let (count, _) = (number()?, number()?);
    let mut items = Vec::new();
    for _ in 0..count {
        let (four, after) = rest.split_first_chunk::<4>()?;
        rest = after;
        items.push(match usize::try_from(i32::from_be_bytes(*four)) {
            Err(_) => Given::Null,
            Ok(length) => {
                let (item, after) = rest.split_at_checked(length)?;
                rest = after;
                of_binary(item, kind.scalar)?
            }
        });
    }
    rest.is_empty().then_some(Given::List(items))
}

/// Values for a statement's parameters; where there is none, the parameter stays.
pub(super) type Values = [Option<(PgType, Given)>];

/// Puts values in the places of a query's parameters.
pub(super) fn bind(query: &mut Query, values: &Values) -> Result<(), QueryError> {
    match query.visit(&mut Binder { values }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(e) => Err(e),
    }
}

struct Binder<'a> {
    values: &'a Values,
}

impl Binder<'_> {
    fn given(&self, expr: &Expr) -> Result<Option<&(PgType, Given)>, QueryError> {
        let Some(at) = place(expr) else { return Ok(None) };
        let missing = || QueryError::sql(format!("there is no parameter ${}", at + 1), None);
        self.values.get(at).map(Option::as_ref).ok_or_else(missing)
    }
}

/// The parameter that an expression is, from 0.
pub(super) fn place(expr: &Expr) -> Option<usize> {
    let Expr::Value(value) = expr else { return None };
    let Value::Placeholder(name) = &value.value else { return None };
    name.strip_prefix('$')?.parse::<usize>().ok()?.checked_sub(1)
}

impl VisitorMut for Binder<'_> {
    type Break = QueryError;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<QueryError> {
        let replaced = match expr {
            // A list has no other place: `x = ANY ($1)` is `x IN (…)`.
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => self.among(left, right, false),
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => self.among(left, right, true),
            _ => match self.given(expr) {
                Ok(Some((kind, given))) => literal(*kind, given).map(Some),
                Ok(None) => Ok(None),
                Err(e) => Err(e),
            },
        };
        match replaced {
            Ok(None) => {}
            Ok(Some(replacement)) => *expr = replacement,
            Err(e) => return ControlFlow::Break(e),
        }
        ControlFlow::Continue(())
    }
}

impl Binder<'_> {
    fn among(&self, left: &Expr, right: &Expr, negated: bool) -> Result<Option<Expr>, QueryError> {
        match self.given(inner(right))? {
            Some((kind, Given::List(items))) => {
                let item = PgType::of(kind.scalar);
                let list = items.iter().map(|given| literal(item, given)).collect::<Result<Vec<_>, _>>()?;
                Ok(Some(in_list(left.clone(), list, negated)))
            }
            Some((_, Given::Null)) => Ok(Some(value(Value::Null))),
            _ => Ok(None),
        }
    }
}

/// Without the parentheses and casts around it.
pub(super) fn inner(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(within) | Expr::Cast { expr: within, .. } => inner(within),
        expr => expr,
    }
}

/// `left [NOT] IN (list)`, also for an empty list.
pub(super) fn in_list(left: Expr, list: Vec<Expr>, negated: bool) -> Expr {
    if list.is_empty() {
        return value(Value::Boolean(negated));
    }
    Expr::InList { expr: Box::new(left), list, negated }
}

pub(super) fn value(value: Value) -> Expr {
    Expr::Value(value.into())
}

pub(super) fn text(text: impl Into<String>) -> Expr {
    value(Value::SingleQuotedString(text.into()))
}

fn cast(expr: Expr, data_type: DataType) -> Expr {
    Expr::Cast { kind: CastKind::Cast, expr: Box::new(expr), data_type, array: false, format: None }
}

/// `name(arguments)`.
fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    })
}

fn of_type(scalar: Scalar) -> Option<DataType> {
    Some(match scalar {
        Scalar::Bool => DataType::Boolean,
        Scalar::Int2 => DataType::SmallInt(None),
        Scalar::Int4 => DataType::Int(None),
        Scalar::Int8 | Scalar::Oid => DataType::BigInt(None),
        Scalar::Float4 => DataType::Real,
        Scalar::Float8 => DataType::Double(ExactNumberInfo::None),
        Scalar::Numeric => DataType::Decimal(ExactNumberInfo::PrecisionAndScale(38, 10)),
        Scalar::Date => DataType::Date,
        Scalar::Time => DataType::Time(None, TimezoneInfo::None),
        Scalar::Timestamp => DataType::Timestamp(None, TimezoneInfo::None),
        Scalar::Interval => DataType::Interval { fields: None, precision: None },
        Scalar::Bytea => DataType::Bytea,
        Scalar::Char | Scalar::Name | Scalar::Text | Scalar::Unknown | Scalar::Varchar | Scalar::Uuid => {
            DataType::Varchar(None)
        }
        Scalar::TimestampTz => return None,
    })
}

/// A value of a type, for a statement whose parameters aren't known yet.
pub(super) fn any_value(kind: PgType) -> Given {
    match (kind.is_array, kind.scalar) {
        (true, _) => Given::List(vec![any_value(PgType::of(kind.scalar))]),
        // A number can stand where NULL can't, as after LIMIT.
        (false, Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid) => Given::Int(1),
        _ => Given::Null,
    }
}

fn int(n: i64) -> Expr {
    let digits = value(Value::Number(n.unsigned_abs().to_string(), false));
    if n < 0 { Expr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(digits) } } else { digits }
}

/// A typed literal.
fn literal(kind: PgType, given: &Given) -> Result<Expr, QueryError> {
    let typed = |expr: Expr| match of_type(kind.scalar) {
        Some(data_type) => cast(expr, data_type),
        None => call("arrow_cast", vec![expr, text("Timestamp(Microsecond, Some(\"UTC\"))")]),
    };
    Ok(match given {
        Given::Null => typed(value(Value::Null)),
        Given::Bool(given) => value(Value::Boolean(*given)),
        Given::Int(n) if kind.scalar == Scalar::Int8 => int(*n),
        Given::Int(n) => typed(int(*n)),
        Given::Text(given) => text(given.clone()),
        Given::Digits(digits) => {
            let scale = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            let precision = ExactNumberInfo::PrecisionAndScale(DIGITS_MAX as u64, i64::try_from(scale).unwrap_or(0));
            cast(text(digits.clone()), DataType::Decimal(precision))
        }
        Given::Float(n) => cast(
            text(n.to_string()),
            of_type(kind.scalar)
                .filter(|_| kind.scalar == Scalar::Float4)
                .unwrap_or(DataType::Double(ExactNumberInfo::None)),
        ),
        Given::Bytes(bytes) => {
            let hex = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
            value(Value::HexStringLiteral(hex))
        }
        Given::Date(date) => typed(text(date.to_string())),
        Given::Time(time) => typed(text(time.to_string())),
        Given::Timestamp(at) => typed(text(at.format("%Y-%m-%dT%H:%M:%S%.6f").to_string())),
        Given::TimestampTz(at) => typed(text(at.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string())),
        Given::Interval(interval) => typed(text(interval.clone())),
        Given::List(_) => {
            return Err(QueryError::not_allowed("a list as a parameter, but for = ANY ($n) and <> ALL ($n)", None));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str, scalar: Scalar) -> Result<Given, &'static str> {
        read(Some(text.as_bytes()), PgType::of(scalar), 0).map_err(|e| e.code)
    }

    #[test]
    fn texts_are_read_by_their_types() {
        let at = |text: &str| Given::TimestampTz(text.parse().expect("a time"));
        assert_eq!(of(" 7 ", Scalar::Int4), Ok(Given::Int(7)));
        assert_eq!(of("2024-05-01 12:00:00+02", Scalar::TimestampTz), Ok(at("2024-05-01T10:00:00")));
        assert_eq!(of("2024-05-01T12:00:00.5Z", Scalar::TimestampTz), Ok(at("2024-05-01T12:00:00.5")));
        assert_eq!(of("2024-05-01 12:00:00-05:30", Scalar::TimestampTz), Ok(at("2024-05-01T17:30:00")));
        assert_eq!(of("2024-05-01", Scalar::TimestampTz), Ok(at("2024-05-01T00:00:00")));
        assert_eq!(of("-1.50", Scalar::Numeric), Ok(Given::Digits("-1.50".to_owned())));
        assert_eq!(of("\\x00ff", Scalar::Bytea), Ok(Given::Bytes(vec![0, 255])));
        for (text, scalar) in [
            ("7.5", Scalar::Int4),
            ("40000", Scalar::Int2),
            ("", Scalar::Int8),
            ("maybe", Scalar::Bool),
            ("1' OR '1", Scalar::Int8),
            ("2024-13-01", Scalar::Date),
            ("\\x0", Scalar::Bytea),
            ("x", Scalar::Numeric),
        ] {
            assert_eq!(of(text, scalar), Err("22P02"), "{text}");
        }
    }

    #[test]
    fn lists_of_text_are_taken_apart() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(items("{}"), Some(vec![]));
        assert_eq!(
            items(r#"{a, "b,c" ,NULL,"NULL","\"",""}"#),
            Some(vec![some("a"), some("b,c"), None, some("NULL"), some("\""), some("")])
        );
        for wrong in ["a", "{a", "{{a}}", "{\"a}"] {
            assert_eq!(items(wrong), None, "{wrong}");
        }
    }

    /// What is cut short or too long is no value, whatever it says of itself.
    #[test]
    fn binary_values_have_their_length() {
        let read = |bytes: &[u8], kind| read(Some(bytes), kind, 1).map_err(|e| e.code);
        assert_eq!(read(&[0, 0, 0, 5], PgType::of(Scalar::Int4)), Ok(Given::Int(5)));
        for known in super::super::types::KNOWN
            .iter()
            .filter(|known| known.bytes > 0 && known.scalar != Scalar::Char && known.scalar != Scalar::Name)
        {
            assert_eq!(read(&[0; 17], PgType::of(known.scalar)), Err("22P02"), "{}", known.name);
        }
        let numeric = [0, 2, 0, 0, 0, 0, 0, 2, 0, 12, 0x13, 0x88];
        assert_eq!(read(&numeric, PgType::of(Scalar::Numeric)), Ok(Given::Digits("12.50".to_owned())));
        for end in 0..numeric.len() {
            assert_eq!(read(&numeric[..end], PgType::of(Scalar::Numeric)), Err("22P02"), "{end}");
        }
        let list = PgType::by_oid(1007).expect("int4[]");
        let two =
            [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 9, 255, 255, 255, 255];
        assert_eq!(read(&two, list), Ok(Given::List(vec![Given::Int(9), Given::Null])));
        for end in 0..two.len() {
            assert_eq!(read(&two[..end], list), Err("22P02"), "{end}");
        }
    }
}
