//! What may be read: which tables, and which of their rows. Names are read once, where they come in, and are compared as
//! these types from there on. Start at [`Readable`] and [`Published`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::error::QueryError;
use crate::own::OwnPipe;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name that a text means, whatever its case: names are of ASCII letters, digits and `_`, so what only looks
            /// like one of their letters is another name.
            #[must_use]
            pub fn of(text: &str) -> Self {
                Self(text.to_ascii_lowercase().into())
            }

            /// In lower case.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// A table: one that ships, a tenant's data source or its quarantine.
    TableName;
    /// An endpoint: one that ships, or a tenant's own.
    EndpointName;
}

/// Conditions that a table's rows must all meet for a caller, by table: SQL over that table's columns.
pub type RowFilters = BTreeMap<TableName, Vec<String>>;

/// The tables that may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readable {
    /// Every table of the tenant, those that it makes later too.
    All,
    /// These.
    Only(Tables),
}

/// Some tables. Only names that were read are among them, and only this crate asks for what SQL has resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables(BTreeSet<Arc<str>>);

impl FromIterator<TableName> for Tables {
    fn from_iter<I: IntoIterator<Item = TableName>>(names: I) -> Self {
        Self(names.into_iter().map(|name| name.0).collect())
    }
}

impl Tables {
    /// Their names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }
}

impl Readable {
    /// `table` as SQL has resolved it: one in quotes and upper case is no name of ours.
    pub(crate) fn has(&self, table: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(tables) => tables.0.contains(table),
        }
    }

    /// Refuses a call that names a table which may not be read. Whether there is one of that name isn't told.
    /// # Errors  `NoScope`.
    pub(crate) fn check(&self, tables: &[String], who: Reader) -> Result<(), QueryError> {
        match tables.iter().find(|table| !self.has(table)) {
            Some(hidden) => Err(QueryError::NoScope { table: hidden.clone(), who }),
            None => Ok(()),
        }
    }
}

/// With whose rights a call reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// The token's that calls.
    Token,
    /// Those that the publisher of the endpoint had.
    Publisher,
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "this token",
            Self::Publisher => "the endpoint's publisher, when it was published,",
        })
    }
}

/// What the publisher of an endpoint could read when it was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublisherReads {
    /// Which tables.
    pub tables: Readable,
    /// Which of their rows.
    pub filters: RowFilters,
}

/// A tenant's own endpoint as it's called.
#[derive(Debug, Clone)]
pub struct Published {
    /// What it says.
    pub pipe: Arc<OwnPipe>,
    /// `None` when it was published before this was kept: then its publisher was held to what it names by default, and
    /// it reads that and nothing else.
    pub reads: Option<PublisherReads>,
}
