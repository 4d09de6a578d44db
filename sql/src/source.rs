//! What a statement was made of, to tell statements apart. Kept answers and plans are found by it, so two statements that
//! differ in one byte or in one value's type must never be the same here, as they may be once a syntax tree is printed
//! (`'it''s'` and `E'it\'s'`, `'it''''s'`). It is a digest of the texts that were parsed and of the typed values that were bound, each with
//! its kind and its length before it. Start at [`Source`].

use std::fmt;

use ring::digest::{Context, SHA256};

use crate::call::Caller;
use crate::template::{Literal, Rendered};

/// The kinds of parts; a number is never used for another.
#[derive(Clone, Copy)]
enum Kind {
    Text = 1,
    Null = 2,
    TextValue = 3,
    IntValue = 4,
    BoolValue = 5,
    Node = 6,
    Source = 7,
    Over = 8,
    FilteredTable = 9,
    Condition = 10,
    Zone = 11,
    Metrics = 12,
}

/// A digest of parts, of which none can be taken for another or for two.
struct Parts(Context);

impl Parts {
    fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    fn add(mut self, kind: Kind, bytes: &[u8]) -> Self {
        self.0.update(&[kind as u8]);
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    fn end(self) -> Source {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Source(bytes)
    }
}

/// A statement's origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Source([u8; 32]);

impl Source {
    /// A text as it came.
    pub(crate) fn text(sql: &str) -> Self {
        Parts::new().add(Kind::Text, sql.as_bytes()).end()
    }

    /// A text, and the values of its placeholders.
    pub(crate) fn rendered(rendered: &Rendered) -> Self {
        let text = Parts::new().add(Kind::Text, rendered.sql.as_bytes());
        let values = rendered.literals.iter().fold(text, |parts, literal| match literal {
            Literal::Null => parts.add(Kind::Null, &[]),
            Literal::Text(text) => parts.add(Kind::TextValue, text.as_bytes()),
            Literal::Int(n) => parts.add(Kind::IntValue, &n.to_le_bytes()),
            Literal::Bool(b) => parts.add(Kind::BoolValue, &[u8::from(*b)]),
        });
        values.end()
    }

    /// Nodes by their names; the last answers.
    pub(crate) fn nodes<'a>(nodes: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let none = Parts::new();
        let all = nodes
            .into_iter()
            .fold(none, |parts, (name, source)| parts.add(Kind::Node, name.as_bytes()).add(Kind::Source, &source.0));
        all.end()
    }

    /// A statement over this one's result.
    pub(crate) fn under(self, over: Self) -> Self {
        Parts::new().add(Kind::Source, &self.0).add(Kind::Over, &over.0).end()
    }

    /// A statement, with the rows that its caller may see, the zone in which it reads times and the definitions that its
    /// numbers follow.
    pub(crate) fn asked_by(self, caller: &Caller) -> Self {
        let mut parts = Parts::new().add(Kind::Source, &self.0).add(Kind::Zone, caller.time_zone.as_bytes());
        parts = parts.add(Kind::Metrics, &caller.metrics.number().to_le_bytes());
        for (table, conditions) in &caller.filters {
            parts = parts.add(Kind::FilteredTable, table.as_str().as_bytes());
            parts = conditions.iter().fold(parts, |parts, text| parts.add(Kind::Condition, text.as_bytes()));
        }
        parts.end()
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::MetricsVersion;
    use crate::reads::{Readable, TableName};
    use proptest::prelude::*;

    /// Texts that printing makes alike, and what is around them.
    fn texts() -> impl Strategy<Value = String> {
        let pieces = vec![
            "'",
            "''",
            "'''",
            "\"",
            "\"\"",
            "E'",
            "\\'",
            "N'",
            "X'27'",
            "$$'$$",
            "o",
            "neil",
            "1",
            "1.0",
            "TRUE",
            "NULL",
            " ",
            "--'\n",
            "/*'*/",
            ",",
            "::text",
            "CAST(1 AS INT)",
            "(",
            ")",
            "$1",
            "$2",
            "SELECT ",
            "_",
            "\u{1}",
            "\0",
            "é",
        ];
        prop::collection::vec(prop::sample::select(pieces), 0..8).prop_map(|pieces| pieces.concat())
    }

    fn literals() -> impl Strategy<Value = Literal> {
        prop_oneof![
            Just(Literal::Null),
            texts().prop_map(Literal::Text),
            (-3_i64..3).prop_map(Literal::Int),
            (-3_i64..3).prop_map(|n| Literal::Text(n.to_string())),
            any::<bool>().prop_map(Literal::Bool),
            any::<bool>().prop_map(|b| Literal::Text(b.to_string())),
        ]
    }

    /// A statement, whichever way it comes, and who asks.
    #[derive(Debug, Clone, PartialEq)]
    struct Asked {
        nodes: Vec<(String, String, Vec<Literal>)>,
        over: Option<String>,
        zone: String,
        metrics: MetricsVersion,
        filters: Vec<(String, Vec<String>)>,
    }

    fn asked() -> impl Strategy<Value = Asked> {
        let node = (texts(), texts(), prop::collection::vec(literals(), 0..3));
        let filters = prop::collection::btree_map(
            texts().prop_map(|text| text.to_ascii_lowercase()),
            prop::collection::vec(texts(), 0..3),
            0..3,
        );
        let metrics = prop::sample::select(MetricsVersion::ALL.to_vec());
        (prop::collection::vec(node, 1..3), prop::option::of(texts()), texts(), metrics, filters).prop_map(
            |(nodes, over, zone, metrics, filters)| {
                let filters = filters.into_iter().collect();
                Asked { nodes, over, zone, metrics, filters }
            },
        )
    }

    fn source(asked: &Asked) -> Source {
        let nodes = asked.nodes.iter().map(|(name, sql, literals)| {
            (name.as_str(), Source::rendered(&Rendered { sql: sql.clone(), literals: literals.clone() }))
        });
        let source = Source::nodes(nodes);
        let source = asked.over.as_ref().map_or(source, |over| source.under(Source::text(over)));
        let filters = asked.filters.iter().map(|(table, conditions)| (TableName::of(table), conditions.clone()));
        let (tenant, time_zone) = (String::new(), asked.zone.clone());
        let (readable, filters) = (Readable::All, filters.collect());
        source.asked_by(&Caller { tenant, time_zone, now_ms: 0, readable, filters, metrics: asked.metrics })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]
        /// Different ones never share a source; the same one does.
        #[test]
        fn sources_are_equal_as_statements_are(one in asked(), other in asked(), swapped in any::<bool>()) {
            prop_assert_eq!(source(&one) == source(&other), one == other);
            prop_assert_eq!(source(&one), source(&one.clone()));
            // One step apart: a quote more, a value as a text, a part that moves to its neighbour.
            let mut near = one.clone();
            let (name, sql, literals) = &mut near.nodes[0];
            match literals.first_mut() {
                Some(Literal::Int(n)) if swapped => literals[0] = Literal::Text(n.to_string()),
                Some(Literal::Bool(b)) if swapped => literals[0] = Literal::Text(b.to_string()),
                Some(Literal::Null) if swapped => literals[0] = Literal::Text("NULL".to_owned()),
                Some(Literal::Text(text)) if swapped => text.push('\''),
                _ if swapped => sql.push('\''),
                _ => if let Some(last) = sql.pop() { name.push(last) } else { name.push(' ') },
            }
            prop_assert_ne!(source(&one), source(&near));
        }
    }
}
