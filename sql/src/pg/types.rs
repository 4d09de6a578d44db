//! Postgres' types: their numbers, names and sizes, and which one shows a column of arrow. Start at [`PgType`].

use arrow::datatypes::{DataType, Field};

/// The metadata of a field that is shown as another type than its own; catalogs have such columns.
pub(super) const SHOWN_AS: &str = "pg";

/// A type of single values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    Bytea,
    /// One byte of text, in catalogs.
    Char,
    Name,
    Int8,
    Int2,
    Int4,
    Text,
    Oid,
    Float4,
    Float8,
    Unknown,
    Varchar,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    Interval,
    Numeric,
    Uuid,
}

/// What is known of a type.
pub(super) struct Known {
    pub(super) scalar: Scalar,
    /// As `pg_type` names it.
    pub(super) name: &'static str,
    /// As SQL names it.
    pub(super) sql_name: &'static str,
    pub(super) oid: u32,
    /// Of the arrays of it; 0 when it has none.
    pub(super) array_oid: u32,
    /// -1: it varies.
    pub(super) bytes: i16,
    /// `pg_type.typcategory`.
    pub(super) category: &'static str,
}

const fn known(
    scalar: Scalar,
    names: (&'static str, &'static str),
    oids: (u32, u32),
    bytes: i16,
    category: &'static str,
) -> Known {
    Known { scalar, name: names.0, sql_name: names.1, oid: oids.0, array_oid: oids.1, bytes, category }
}

/// Every type there is, in the order of [`Scalar`].
pub(super) const KNOWN: [Known; 20] = [
    known(Scalar::Bool, ("bool", "boolean"), (16, 1000), 1, "B"),
    known(Scalar::Bytea, ("bytea", "bytea"), (17, 1001), -1, "U"),
    known(Scalar::Char, ("char", "\"char\""), (18, 1002), 1, "Z"),
    known(Scalar::Name, ("name", "name"), (19, 1003), 64, "S"),
    known(Scalar::Int8, ("int8", "bigint"), (20, 1016), 8, "N"),
    known(Scalar::Int2, ("int2", "smallint"), (21, 1005), 2, "N"),
    known(Scalar::Int4, ("int4", "integer"), (23, 1007), 4, "N"),
    known(Scalar::Text, ("text", "text"), (25, 1009), -1, "S"),
    known(Scalar::Oid, ("oid", "oid"), (26, 1028), 4, "N"),
    known(Scalar::Float4, ("float4", "real"), (700, 1021), 4, "N"),
    known(Scalar::Float8, ("float8", "double precision"), (701, 1022), 8, "N"),
    known(Scalar::Unknown, ("unknown", "unknown"), (705, 0), -2, "X"),
    known(Scalar::Varchar, ("varchar", "character varying"), (1043, 1015), -1, "S"),
    known(Scalar::Date, ("date", "date"), (1082, 1182), 4, "D"),
    known(Scalar::Time, ("time", "time without time zone"), (1083, 1183), 8, "D"),
    known(Scalar::Timestamp, ("timestamp", "timestamp without time zone"), (1114, 1115), 8, "D"),
    known(Scalar::TimestampTz, ("timestamptz", "timestamp with time zone"), (1184, 1185), 8, "D"),
    known(Scalar::Interval, ("interval", "interval"), (1186, 1187), 16, "T"),
    known(Scalar::Numeric, ("numeric", "numeric"), (1700, 1231), -1, "N"),
    known(Scalar::Uuid, ("uuid", "uuid"), (2950, 2951), 16, "U"),
];

impl Scalar {
    pub(super) fn known(self) -> &'static Known {
        &KNOWN[self as usize]
    }
}

/// A type of values, or of arrays of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PgType {
    pub(super) scalar: Scalar,
    pub(super) is_array: bool,
}

impl PgType {
    pub(super) const TEXT: Self = Self { scalar: Scalar::Text, is_array: false };

    pub(super) fn of(scalar: Scalar) -> Self {
        Self { scalar, is_array: false }
    }

    /// By its number; `None` for types that are not there.
    pub(super) fn by_oid(oid: u32) -> Option<Self> {
        KNOWN.iter().find_map(|known| match oid {
            0 => None,
            oid if oid == known.oid => Some(Self::of(known.scalar)),
            oid if oid == known.array_oid => Some(Self { scalar: known.scalar, is_array: true }),
            _ => None,
        })
    }

    /// By a name, of `pg_type` or of SQL.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        let (name, is_array) = match name.strip_suffix("[]") {
            Some(item) => (item, true),
            None => (name, false),
        };
        let name = match name {
            "int" => "int4",
            "float" | "double" => "float8",
            "decimal" => "numeric",
            "string" | "bpchar" => "text",
            name => name.trim_matches('"'),
        };
        let found = KNOWN.iter().find(|known| known.name == name || known.sql_name == name)?;
        Some(Self { scalar: found.scalar, is_array })
    }

    pub(super) fn oid(self) -> u32 {
        let known = self.scalar.known();
        if self.is_array { known.array_oid } else { known.oid }
    }

    /// Of a value; -1 when it varies.
    pub(super) fn bytes(self) -> i16 {
        if self.is_array { -1 } else { self.scalar.known().bytes }
    }

    pub(super) fn sql_name(self) -> String {
        let name = self.scalar.known().sql_name;
        if self.is_array { format!("{name}[]") } else { name.to_owned() }
    }

    /// What shows a column.
    pub(super) fn of_field(field: &Field) -> Self {
        let shown_as = field.metadata().get(SHOWN_AS).and_then(|name| Self::by_name(name));
        shown_as.unwrap_or_else(|| Self::of_arrow(field.data_type()))
    }

    /// What shows a type of arrow; what has no better one is text.
    pub(super) fn of_arrow(kind: &DataType) -> Self {
        Self::of(match kind {
            DataType::Boolean => Scalar::Bool,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => Scalar::Int2,
            DataType::Int32 | DataType::UInt16 => Scalar::Int4,
            DataType::Int64 | DataType::UInt32 => Scalar::Int8,
            DataType::UInt64
            | DataType::Decimal32(..)
            | DataType::Decimal64(..)
            | DataType::Decimal128(..)
            | DataType::Decimal256(..) => Scalar::Numeric,
            DataType::Float32 => Scalar::Float4,
            DataType::Float64 => Scalar::Float8,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => Scalar::Bytea,
            DataType::Date32 | DataType::Date64 => Scalar::Date,
            DataType::Time32(_) | DataType::Time64(_) => Scalar::Time,
            DataType::Timestamp(_, None) => Scalar::Timestamp,
            DataType::Timestamp(_, Some(_)) => Scalar::TimestampTz,
            DataType::Interval(_) | DataType::Duration(_) => Scalar::Interval,
            DataType::Dictionary(_, value) => return Self::of_arrow(value),
            DataType::List(item) | DataType::LargeList(item) => {
                let item = Self::of_field(item);
                // An array of arrays has its items' type in Postgres; ours are shown as texts.
                let scalar = if item.is_array { Scalar::Text } else { item.scalar };
                return Self { scalar, is_array: true };
            }
            _ => Scalar::Text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_in_the_order_of_the_types_and_found_by_every_name() {
        for (at, known) in KNOWN.iter().enumerate() {
            assert_eq!(known.scalar as usize, at);
            let single = Some(PgType::of(known.scalar));
            assert_eq!([PgType::by_oid(known.oid), PgType::by_name(known.name)], [single; 2], "{}", known.name);
            assert_eq!(PgType::by_name(known.sql_name), single);
        }
        assert_eq!(PgType::by_oid(0), None);
        assert_eq!(PgType::by_oid(1016).map(PgType::sql_name).as_deref(), Some("bigint[]"));
    }
}
