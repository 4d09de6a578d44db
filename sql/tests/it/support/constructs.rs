//! Every way to make a statement deep or long: each is repeated as often as it may be, once more, ten times as often, and
//! until 64 KB are full. Every door takes them all.
#![allow(dead_code, reason = "every test file uses its own part")]

/// What bounds a construct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `SUFFIXES_MAX`.
    Suffixes,
    /// `NESTING_MAX`.
    Nesting,
    /// `OPERATORS_MAX`; the construct has so many operators.
    Operators(usize),
    /// Something else of the gate's, or nothing that is known: only that there is an answer counts.
    Other(usize),
}

impl Bound {
    /// About how often a construct may be repeated: one more or less may belong to what stands around it.
    pub fn repetitions(self) -> usize {
        match self {
            Self::Suffixes => 32,
            Self::Nesting => 100,
            Self::Operators(each) => 1_000 / each,
            Self::Other(often) => often,
        }
    }
}

/// A text that is repeated.
pub struct Construct {
    pub name: &'static str,
    /// Before, each time, in the middle, each time again, after; `#` in what is repeated becomes a number.
    parts: (&'static str, &'static str, &'static str, &'static str, &'static str),
    pub bound: Bound,
}

impl Construct {
    pub fn text(&self, times: usize) -> String {
        let (before, open, middle, close, after) = self.parts;
        let mut text = before.to_owned();
        for n in 0..times {
            text.push_str(&open.replace('#', &n.to_string()));
        }
        text.push_str(middle);
        for n in 0..times {
            text.push_str(&close.replace('#', &n.to_string()));
        }
        text + after
    }

    /// Texts of about as much as may be, more, ten times as much, and 64 KB.
    pub fn texts(&self) -> Vec<String> {
        let often = self.bound.repetitions();
        let each = self.parts.1.len() + self.parts.3.len();
        let around = self.parts.0.len() + self.parts.2.len() + self.parts.4.len();
        let full = (65_536 - around) / each.max(1);
        let mut times: Vec<usize> = [often - often / 20 - 1, often, often + 1, 10 * often, full].into();
        times.retain(|times| *times <= full);
        times.dedup();
        times.into_iter().map(|times| self.text(times)).filter(|text| text.len() <= 65_536).collect()
    }
}

const fn chain(name: &'static str, before: &'static str, each: &'static str, bound: Bound) -> Construct {
    Construct { name, parts: (before, "", "", each, ""), bound }
}

const fn around(
    name: &'static str,
    before: &'static str,
    open: &'static str,
    middle: &'static str,
    close: &'static str,
    after: &'static str,
    bound: Bound,
) -> Construct {
    Construct { name, parts: (before, open, middle, close, after), bound }
}

/// All of them.
pub const CONSTRUCTS: &[Construct] = &[
    // What follows an operand.
    around("array type", "SELECT CAST(NULL AS INT", "[]", ")", "", "", Bound::Suffixes),
    around("sized array type", "SELECT CAST(NULL AS INT", "[3]", ")", "", "", Bound::Other(6)),
    around("large array type", "SELECT CAST(NULL AS INT", "[99999]", ")", "", "", Bound::Other(2)),
    around(
        "large array type on the way",
        "SELECT CAST(CAST(NULL AS INT",
        "[99999]",
        ") AS TEXT)",
        "",
        "",
        Bound::Other(2),
    ),
    around(
        "large lists in a text",
        "SELECT arrow_cast(NULL, '",
        "FixedSizeList(99999 x ",
        "Int64",
        ")",
        "')",
        Bound::Other(2),
    ),
    chain("large bytes in a text", "SELECT arrow_cast(NULL, 'FixedSizeBinary(2147483647)')", "", Bound::Other(1)),
    chain("array type after ::", "SELECT NULL::INT", "[]", Bound::Suffixes),
    chain("cast", "SELECT 1", "::int", Bound::Suffixes),
    chain("cast with a size", "SELECT 1", "::decimal(9, 2)", Bound::Suffixes),
    chain("cast to a zone", "SELECT now()", "::timestamptz", Bound::Suffixes),
    chain("compound name", "SELECT a", ".a", Bound::Suffixes),
    chain("compound name of a table", "SELECT m.seq", ".a", Bound::Suffixes),
    chain("subscript", "SELECT seq", "[1]", Bound::Suffixes),
    chain("slice", "SELECT tags", "[1:2]", Bound::Suffixes),
    chain("subscript and name", "SELECT seq", "[1].a", Bound::Other(15)),
    chain("JSON path", "SELECT seq", ":a", Bound::Suffixes),
    chain("zone", "SELECT now()", " AT TIME ZONE 'UTC'", Bound::Suffixes),
    chain("collation", "SELECT 'a'", " COLLATE \"C\"", Bound::Suffixes),
    chain("null check", "SELECT 1", " IS NULL", Bound::Suffixes),
    chain("no null check", "SELECT 1", " IS NOT NULL", Bound::Suffixes),
    chain("truth check", "SELECT true", " IS NOT TRUE", Bound::Suffixes),
    chain("null check in a word", "SELECT 1", " NOTNULL", Bound::Suffixes),
    chain("call of a call", "SELECT f", "(1)", Bound::Suffixes),
    chain("factorial", "SELECT 1", " !", Bound::Nesting),
    // What stands between operands.
    chain("sum", "SELECT 1", "+1", Bound::Operators(1)),
    chain("sum of columns", "SELECT seq", "+seq", Bound::Operators(1)),
    chain("difference", "SELECT 1", " - 1", Bound::Operators(1)),
    chain("product", "SELECT 1", "*1", Bound::Operators(1)),
    chain("quotient", "SELECT 1", "/1", Bound::Operators(1)),
    chain("remainder", "SELECT 1", "% 7", Bound::Operators(1)),
    chain("mixed arithmetic", "SELECT seq", "+seq*2", Bound::Operators(2)),
    chain("concatenation", "SELECT 'a'", "||'a'", Bound::Operators(1)),
    chain("concatenation of columns", "SELECT author_id", "||author_id", Bound::Operators(1)),
    chain("conjunction", "SELECT true", " AND true", Bound::Operators(1)),
    chain("conditions", "SELECT count(*) FROM messages WHERE seq = 1", " AND seq = 1", Bound::Operators(2)),
    chain("disjunction", "SELECT true", " OR false", Bound::Operators(1)),
    chain("alternatives", "SELECT count(*) FROM messages WHERE seq = 1", " OR seq = #", Bound::Operators(2)),
    chain("exclusive", "SELECT true", " XOR true", Bound::Operators(1)),
    chain(
        "both in turn",
        "SELECT count(*) FROM messages WHERE seq = 1",
        " OR seq = # AND seq > #",
        Bound::Operators(4),
    ),
    chain("equalities", "SELECT true", " = true", Bound::Operators(1)),
    chain("comparisons", "SELECT true", " < true", Bound::Operators(1)),
    chain("pattern", "SELECT 'a'", " LIKE 'a'", Bound::Operators(1)),
    chain("pattern with escape", "SELECT 'a'", " LIKE 'a' ESCAPE '!'", Bound::Operators(1)),
    chain("patterns", "SELECT author_id LIKE 'a'", " OR author_id LIKE 'a%#'", Bound::Operators(2)),
    chain("pattern in any case", "SELECT 'a'", " ILIKE 'a'", Bound::Operators(1)),
    chain("similar", "SELECT 'a'", " SIMILAR TO 'a'", Bound::Operators(1)),
    chain("regular expression", "SELECT 'a'", " ~ 'a'", Bound::Operators(1)),
    chain("range", "SELECT 1", " BETWEEN 1 AND 1", Bound::Operators(2)),
    chain("membership", "SELECT 1", " IN (1)", Bound::Operators(1)),
    chain("distinctness", "SELECT 1", " IS DISTINCT FROM 1", Bound::Operators(1)),
    chain("bits", "SELECT 1", " | 1", Bound::Operators(1)),
    chain("bits of both", "SELECT 1", " & 1", Bound::Operators(1)),
    chain("bits of one", "SELECT 1", " ^ 1", Bound::Operators(1)),
    chain("shift", "SELECT 1", " << 1", Bound::Operators(1)),
    chain("arrow", "SELECT 'a'", " -> 'a'", Bound::Operators(1)),
    chain("long arrow", "SELECT 'a'", " ->> 'a'", Bound::Operators(1)),
    chain("containment", "SELECT 'a'", " @> 'a'", Bound::Operators(1)),
    chain("integer quotient", "SELECT 1", " DIV 1", Bound::Operators(1)),
    chain("named operator", "SELECT 1", " OPERATOR(pg_catalog.+) 1", Bound::Operators(2)),
    chain("intervals", "SELECT now()", " - INTERVAL '1 day'", Bound::Operators(2)),
    chain("union", "SELECT 1", " UNION SELECT 1", Bound::Operators(2)),
    chain("union of all", "SELECT 1", " UNION ALL SELECT 1", Bound::Operators(2)),
    chain("union of tables", "SELECT seq FROM messages", " UNION ALL SELECT seq FROM messages", Bound::Other(100)),
    chain("intersection", "SELECT 1", " INTERSECT SELECT 1", Bound::Other(100)),
    chain("difference of queries", "SELECT 1", " EXCEPT SELECT 1", Bound::Other(100)),
    around("tables", "SELECT 1 FROM messages m", ", messages m#", "", "", " LIMIT 1", Bound::Other(99)),
    chain("join", "SELECT 1 FROM messages m", " JOIN messages m# ON m#.seq = m.seq", Bound::Other(99)),
    chain("left join", "SELECT 1 FROM messages m", " LEFT JOIN messages m# ON m#.seq = m.seq", Bound::Other(99)),
    chain("natural join", "SELECT 1 FROM messages", " NATURAL JOIN messages", Bound::Other(99)),
    around(
        "join without a condition",
        "SELECT 1 FROM messages",
        " CROSS JOIN messages",
        "",
        "",
        " LIMIT 1",
        Bound::Other(99),
    ),
    // What goes around.
    around("parentheses", "SELECT ", "(", "1", ")", "", Bound::Nesting),
    around("calls", "SELECT ", "abs(", "1", ")", "", Bound::Nesting),
    around("text calls", "SELECT ", "concat(", "'a'", ", 'b')", "", Bound::Nesting),
    around("unknown calls", "SELECT ", "f(", "1", ")", "", Bound::Nesting),
    around("casts", "SELECT ", "CAST(", "1", " AS INT)", "", Bound::Nesting),
    around("tried casts", "SELECT ", "TRY_CAST(", "1", " AS INT)", "", Bound::Nesting),
    around("cases", "SELECT ", "CASE WHEN true THEN ", "1", " END", "", Bound::Nesting),
    around("cases in conditions", "SELECT ", "CASE WHEN ", "true", " THEN true END", "", Bound::Nesting),
    around("cases in operands", "SELECT ", "CASE ", "1", " WHEN 1 THEN 1 END", "", Bound::Nesting),
    around("cases in ELSE", "SELECT ", "CASE WHEN false THEN 1 ELSE ", "1", " END", "", Bound::Nesting),
    around(
        "cases of names that end",
        "SELECT ",
        "CASE WHEN m.end THEN ",
        "1",
        " END",
        " FROM messages m",
        Bound::Nesting,
    ),
    around("NOT", "SELECT ", "NOT ", "true", "", "", Bound::Nesting),
    around("minus", "SELECT ", "- ", "1", "", "", Bound::Nesting),
    around("plus", "SELECT ", "+", "1", "", "", Bound::Nesting),
    around("complement", "SELECT ", "~ ", "1", "", "", Bound::Nesting),
    around("prefix roots", "SELECT ", "|/", "1", "", "", Bound::Nesting),
    around("signs in turn", "SELECT ", "- + ", "1", "", "", Bound::Other(50)),
    around("INTERVAL", "SELECT ", "INTERVAL ", "'1 day'", "", "", Bound::Nesting),
    around("queries", "", "SELECT * FROM (", "SELECT 1", ") t", "", Bound::Nesting),
    around("queries over a table", "", "SELECT * FROM (", "SELECT * FROM messages", ") t", "", Bound::Nesting),
    around("grouped queries", "", "SELECT count(*) AS n FROM (", "SELECT 1 AS n", ") t GROUP BY n", "", Bound::Nesting),
    around("sorted queries", "", "SELECT * FROM (", "SELECT 1 AS n", ") t ORDER BY n LIMIT 5", "", Bound::Nesting),
    around("aggregated lists", "", "SELECT array_agg(x) AS x FROM (", "SELECT 1 AS x", ") t", "", Bound::Other(31)),
    around(
        "doubled texts under a condition",
        "SELECT * FROM (",
        "SELECT a || a AS a FROM (",
        "SELECT author_id AS a FROM messages",
        ") t",
        ") t WHERE a <> ''",
        Bound::Other(12),
    ),
    around(
        "doubled numbers under conditions",
        "",
        "SELECT a + a AS a FROM (",
        "SELECT seq AS a FROM messages",
        ") t WHERE a + a > 0",
        "",
        Bound::Other(12),
    ),
    around(
        "doubled numbers in order",
        "SELECT * FROM (",
        "SELECT a + a AS a FROM (",
        "SELECT seq AS a FROM messages",
        ") t",
        ") t ORDER BY a * a",
        Bound::Other(12),
    ),
    around(
        "doubled conditions",
        "",
        "SELECT CASE WHEN a AND a THEN a ELSE NOT a END AS a FROM (",
        "SELECT seq > 1 AS a FROM messages",
        ") t WHERE a",
        "",
        Bound::Other(8),
    ),
    around(
        "doubled groups",
        "",
        "SELECT a + a AS a, count(*) AS n FROM (",
        "SELECT seq AS a FROM messages",
        ") t GROUP BY a HAVING a + a > 0",
        "",
        Bound::Other(12),
    ),
    around("scalar queries", "SELECT ", "(SELECT ", "1", ")", "", Bound::Other(8)),
    around("EXISTS", "SELECT ", "EXISTS (SELECT ", "1", ")", "", Bound::Other(8)),
    around("IN queries", "SELECT 1 WHERE 1 ", "IN (SELECT 1 WHERE 1 ", "= 1", ")", "", Bound::Other(8)),
    around(
        "correlated queries",
        "SELECT 1 FROM messages m WHERE ",
        "EXISTS (SELECT 1 FROM messages n WHERE n.seq = m.seq AND ",
        "true",
        ")",
        "",
        Bound::Other(8),
    ),
    around("writing after WITH", "", "WITH a AS (SELECT 1) INSERT INTO t ", "SELECT 1", "", "", Bound::Operators(1)),
    around("set operands", "", "(", "SELECT 1", " UNION ALL SELECT 1)", "", Bound::Nesting),
    around("WITH in WITH", "", "WITH a AS (", "SELECT 1", ") SELECT * FROM a", "", Bound::Other(8)),
    around(
        "joins in parentheses",
        "SELECT 1 FROM ",
        "(",
        "messages",
        " CROSS JOIN (SELECT 1) t#)",
        "",
        Bound::Other(49),
    ),
    around("arrays", "SELECT ", "[", "1", "]", "", Bound::Nesting),
    around("named arrays", "SELECT ", "ARRAY[", "1", "]", "", Bound::Nesting),
    around("maps", "SELECT ", "{'a': ", "1", "}", "", Bound::Other(15)),
    around("named maps", "SELECT ", "MAP {'a': ", "1", "}", "", Bound::Nesting),
    around("structs", "SELECT ", "struct(", "1", ")", "", Bound::Other(31)),
    around("struct literals", "SELECT ", "STRUCT<a INT>(", "1", ")", "", Bound::Nesting),
    around("tuples", "SELECT ", "(1, ", "1", ")", "", Bound::Other(31)),
    around("ODBC calls", "SELECT ", "{fn abs(", "1", ")}", "", Bound::Other(50)),
    around("types in angles", "SELECT CAST(NULL AS ", "ARRAY<", "INT", ">", ")", Bound::Other(31)),
    around("structs of types", "SELECT CAST(NULL AS ", "STRUCT<a ", "INT", ">", ")", Bound::Other(31)),
    around("maps of types", "SELECT CAST(NULL AS ", "MAP<INT, ", "INT", ">", ")", Bound::Nesting),
    around("maps of types in parentheses", "SELECT CAST(NULL AS ", "MAP(INT, ", "INT", ")", ")", Bound::Nesting),
    around("types in parentheses", "SELECT CAST(NULL AS ", "Nullable(", "INT", ")", ")", Bound::Nesting),
    around("nested types", "SELECT CAST(NULL AS ", "Nested(a ", "INT", ")", ")", Bound::Nesting),
    around("unions of types", "SELECT CAST(NULL AS ", "UNION(a ", "INT", ")", ")", Bound::Nesting),
    around("arrays of arrays of types", "SELECT CAST(NULL AS ", "ARRAY<", "INT", "[][][]>", ")", Bound::Other(7)),
    around("types in a text", "SELECT arrow_cast(NULL, '", "List(", "Int64", ")", "')", Bound::Other(31)),
    around("types in a text, tried", "SELECT arrow_try_cast(NULL, '", "List(", "Int64", ")", "')", Bound::Other(31)),
    around(
        "dictionaries in a text",
        "SELECT arrow_cast(NULL, '",
        "Dictionary(Int32, ",
        "Utf8",
        ")",
        "')",
        Bound::Other(31),
    ),
    around("structs in a text", "SELECT arrow_cast(NULL, '", "Struct(\"a\": ", "Int64", ")", "')", Bound::Other(31)),
    around("open types in a text", "SELECT arrow_cast(NULL, '", "List(", "", "", "')", Bound::Other(31)),
    around(
        "types in a typed text",
        "SELECT arrow_typeof(arrow_cast(NULL, '",
        "LargeList(",
        "Int64",
        ")",
        "'))",
        Bound::Other(31),
    ),
    around("groups of a pattern", "SELECT regexp_like('a', '", "(", "a", ")", "')", Bound::Other(250)),
    around("repeated groups of a pattern", "SELECT regexp_like('a', '", "(", "a", "){2}", "')", Bound::Other(250)),
    around("groups of an operator's pattern", "SELECT 'a' ~ '", "(", "a", ")*", "'", Bound::Other(250)),
    chain("specifiers of a format", "SELECT to_timestamp('2024', '", "%Y", Bound::Other(1_000)),
    around("EXPLAIN", "", "EXPLAIN ", "SELECT 1", "", "", Bound::Other(16)),
    around("EXPLAIN with words", "", "EXPLAIN ANALYZE VERBOSE ", "SELECT 1", "", "", Bound::Nesting),
    around("EXPLAIN with options", "", "EXPLAIN (ANALYZE) ", "SELECT 1", "", "", Bound::Nesting),
    around("DESCRIBE", "", "DESCRIBE ", "SELECT 1", "", "", Bound::Other(16)),
    around("filters", "SELECT ", "count(*) FILTER (WHERE 1 = ", "1", ")", "", Bound::Other(4)),
    around("windows", "SELECT ", "sum(1) OVER (ORDER BY ", "1", ")", "", Bound::Other(4)),
    around("ordered aggregates", "SELECT ", "array_agg(1 ORDER BY ", "1", ")", "", Bound::Other(4)),
    around("extracts", "SELECT ", "EXTRACT(DAY FROM ", "now()", ")", "", Bound::Nesting),
    around("trims", "SELECT ", "TRIM(BOTH 'a' FROM ", "'a'", ")", "", Bound::Nesting),
    around("substrings", "SELECT ", "SUBSTRING(", "'a'", " FROM 1 FOR 1)", "", Bound::Nesting),
    around("positions", "SELECT ", "POSITION('a' IN ", "'a'", ")", "", Bound::Nesting),
    around("lambdas", "SELECT ", "x -> ", "1", "", "", Bound::Operators(1)),
    around("lateral queries", "SELECT * FROM messages m", ", LATERAL (SELECT m.seq", "", ") t#", "", Bound::Nesting),
    around("UNNEST", "SELECT * FROM ", "UNNEST(", "1", ")", "", Bound::Nesting),
    around("sets of groups", "SELECT 1 GROUP BY ", "GROUPING SETS (", "1", ")", "", Bound::Nesting),
    around("names without end", "SELECT m.", "CASE.", "a", "", " FROM messages m", Bound::Suffixes),
    // What is beside each other.
    chain("list of numbers", "SELECT count(*) FROM messages WHERE seq IN (1", ", #", Bound::Other(5_000)),
    chain("list of texts", "SELECT count(*) FROM messages WHERE author_id IN ('a'", ", 'a#'", Bound::Other(5_000)),
    chain("columns", "SELECT 1 AS a", ", 1 AS a#", Bound::Other(5_000)),
    chain("columns of a table", "SELECT seq AS a", ", seq AS a#", Bound::Other(5_000)),
    chain("sums", "SELECT sum(seq) AS a", ", sum(seq + #) AS a#", Bound::Operators(2)),
    chain("equal columns", "SELECT 1", ", 1", Bound::Other(5_000)),
    chain("rows", "VALUES (1)", ", (#)", Bound::Other(5_000)),
    chain("rows of a table", "SELECT * FROM (VALUES (1)", ", (#)", Bound::Other(5_000)),
    chain("order", "SELECT seq FROM messages ORDER BY seq", ", seq", Bound::Other(5_000)),
    chain("order by expressions", "SELECT seq FROM messages ORDER BY seq", ", seq + #", Bound::Operators(1)),
    chain("groups", "SELECT 1 FROM messages GROUP BY seq", ", seq", Bound::Other(5_000)),
    chain("groups by expressions", "SELECT 1 FROM messages GROUP BY seq", ", seq + #", Bound::Operators(1)),
    around("cubes", "SELECT 1 FROM messages GROUP BY CUBE (seq", ", seq + #", ")", "", "", Bound::Other(15)),
    around("rollups", "SELECT 1 FROM messages GROUP BY ROLLUP (seq", ", seq + #", ")", "", "", Bound::Other(254)),
    chain(
        "cubes beside cubes",
        "SELECT 1 FROM messages GROUP BY CUBE (seq, author_id)",
        ", CUBE (seq, author_id)",
        Bound::Other(7),
    ),
    around("arguments", "SELECT coalesce(seq", ", #", ") FROM messages", "", "", Bound::Other(5_000)),
    around("arguments of a text function", "SELECT concat('a'", ", 'b'", ")", "", "", Bound::Other(5_000)),
    around("arguments that compare", "SELECT greatest(1", ", #", ")", "", "", Bound::Other(5_000)),
    around("branches", "SELECT CASE", " WHEN seq = # THEN #", " END FROM messages", "", "", Bound::Operators(2)),
    around(
        "branches of a value",
        "SELECT CASE seq",
        " WHEN # THEN #",
        " END FROM messages",
        "",
        "",
        Bound::Operators(1),
    ),
    chain("window functions", "SELECT 1", ", sum(seq) OVER (ORDER BY seq + #)", Bound::Other(240)),
    around("common tables", "WITH a AS (SELECT 1)", ", a# AS (SELECT 1)", " SELECT 1", "", "", Bound::Other(300)),
    chain("aggregates", "SELECT 1", ", count(DISTINCT seq + #)", Bound::Operators(2)),
    chain("statements", "SELECT 1", "; SELECT 1", Bound::Operators(1)),
    chain("empty statements", "SELECT 1", ";", Bound::Other(5_000)),
    chain("commas", "SELECT 1", ",", Bound::Other(5_000)),
    chain("words", "SELECT 1", " a", Bound::Other(5_000)),
    chain("comments", "SELECT 1", " /* a */", Bound::Other(5_000)),
    around("comments in comments", "SELECT 1 ", "/*", "", "*/", "", Bound::Other(5_000)),
    chain("hints", "SELECT 1", " /*! + 1 */", Bound::Operators(1)),
    chain("names with a quote", "SELECT 1", " #' - - - - - -", Bound::Other(100)),
];
