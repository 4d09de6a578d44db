//! Ways in which a statement can come to read a table. Nearly all are good SQL, and what is refused with 403 is refused for
//! the table.

/// Statements that read `hidden`; `shown` is another table. Both have a column `event_id`.
pub fn ways(hidden: &str, shown: &str) -> Vec<String> {
    const WAYS: &[&str] = &[
        "SELECT * FROM H",
        "SELECT count(*) AS n FROM H",
        "SELECT * FROM \"H\"",
        "SELECT * FROM UPPER",
        "SELECT * FROM public.H",
        "SELECT * FROM \"public\".\"H\"",
        "SELECT * FROM tenant.public.H",
        "SELECT * FROM \"tenant\".PUBLIC.UPPER",
        "SELECT x.* FROM H AS x",
        "SELECT x.a FROM H AS x (a)",
        "SELECT H.event_id FROM H",
        "SELECT * FROM (SELECT * FROM H) t",
        "SELECT * FROM (SELECT * FROM (SELECT event_id FROM H) t) u",
        "SELECT * FROM (H)",
        "WITH t AS (SELECT * FROM H) SELECT * FROM t",
        "WITH t AS (SELECT * FROM H) SELECT 1 AS one FROM S",
        "WITH H AS (SELECT * FROM H) SELECT * FROM H",
        "WITH H AS (SELECT 1 AS one) SELECT * FROM public.H",
        "WITH H AS (SELECT 1 AS one) SELECT * FROM H, tenant.public.H AS other",
        "WITH S AS (SELECT * FROM H) SELECT * FROM S",
        "WITH a AS (SELECT * FROM H), H AS (SELECT 1 AS one) SELECT * FROM a",
        "WITH a AS (WITH H AS (SELECT 1 AS one) SELECT * FROM H) SELECT * FROM a, H",
        "(WITH H AS (SELECT event_id FROM S) SELECT event_id FROM H) UNION SELECT event_id FROM H",
        "SELECT * FROM S WHERE event_id IN (SELECT event_id FROM H)",
        "SELECT * FROM S WHERE event_id NOT IN (SELECT event_id FROM H)",
        "SELECT * FROM S WHERE EXISTS (SELECT 1 FROM H)",
        "SELECT * FROM S WHERE EXISTS (SELECT 1 FROM H WHERE H.event_id = S.event_id)",
        "SELECT * FROM S WHERE event_id = (SELECT max(event_id) FROM H)",
        "SELECT (SELECT max(event_id) FROM H) AS m",
        "SELECT CASE WHEN (SELECT count(*) FROM H) > 0 THEN 1 ELSE 0 END AS c",
        "SELECT event_id FROM S ORDER BY (SELECT max(event_id) FROM H)",
        "SELECT count(*) AS n FROM S HAVING count(*) >= (SELECT count(*) FROM H)",
        "SELECT * FROM (VALUES ((SELECT max(event_id) FROM H))) AS v (m)",
        "SELECT S.event_id FROM S JOIN H ON S.event_id = H.event_id",
        "SELECT S.event_id FROM S LEFT JOIN H ON S.event_id = H.event_id",
        "SELECT S.event_id FROM S FULL JOIN H ON S.event_id = H.event_id",
        "SELECT S.event_id FROM S JOIN (SELECT event_id FROM H) t USING (event_id)",
        "SELECT S.event_id FROM S JOIN S AS b ON b.event_id IN (SELECT event_id FROM H)",
        "SELECT count(*) AS n FROM S CROSS JOIN H",
        "SELECT count(*) AS n FROM S, H",
        "SELECT count(*) AS n FROM S, LATERAL (SELECT * FROM H) t",
        "SELECT event_id FROM S UNION SELECT event_id FROM H",
        "SELECT event_id FROM S UNION ALL SELECT event_id FROM H",
        "SELECT event_id FROM S INTERSECT SELECT event_id FROM H",
        "SELECT event_id FROM S EXCEPT SELECT event_id FROM H",
        "EXPLAIN SELECT * FROM H",
        "EXPLAIN WITH t AS (SELECT * FROM H) SELECT 1 AS one FROM S",
        "SELECT nosuch FROM H",
        "SELECT H.nosuch FROM S JOIN H ON true",
    ];
    let upper = hidden.to_uppercase();
    let names = [("UPPER", upper.as_str()), ("H", hidden), ("S", shown)];
    WAYS.iter().map(|way| names.iter().fold((*way).to_owned(), |sql, (word, name)| put(&sql, word, name))).collect()
}

/// Puts a name in the place of a word that stands alone.
fn put(sql: &str, word: &str, name: &str) -> String {
    let mut out = String::new();
    let mut rest = sql;
    while let Some(at) = rest.find(word) {
        let letter = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
        let alone = !letter(rest[..at].chars().last().or(out.chars().last()))
            && !letter(rest[at + word.len()..].chars().next());
        out.push_str(&rest[..at]);
        out.push_str(if alone { name } else { word });
        rest = &rest[at + word.len()..];
    }
    out + rest
}
