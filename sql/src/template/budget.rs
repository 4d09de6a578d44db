//! What a template may take: steps and bytes, to be read and to be rendered. Texts and lists can't be made without a
//! [`Budget`] that pays for them first (see [`value`](super::value)), so no function of a template can make one for nothing.

use crate::budget::SQL_BYTES_MAX;
use crate::error::QueryError;

/// Tags, runs of text and tokens of an endpoint's templates, those of all nodes together. One is a few characters, and a node
/// or two of the tree.
pub const TEMPLATE_PARTS_MAX: usize = 20_000;
/// Bytes of what an endpoint's templates become: their texts, and as many short constants as there can be.
const READ_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Steps of a call's templates, those of all nodes together: expressions, rounds of loops, items that are looked at, and
/// [`STEP_BYTES`] of each text that is. About a tenth of a second.
pub const RENDER_STEPS_MAX: usize = 500_000;
/// Bytes of all values that a call's templates make: the largest request's parameters as a list, and some copies.
pub const RENDER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of a text that are looked at in a step.
const STEP_BYTES: usize = 64;

/// A limit that was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the template takes more than {limit} {what}")]
pub(crate) struct Spent {
    pub(super) what: &'static str,
    pub(super) limit: usize,
}

impl From<Spent> for QueryError {
    fn from(Spent { what, limit }: Spent) -> Self {
        Self::TemplateTooLarge { what, limit }
    }
}

/// One kind of thing that is spent.
#[derive(Debug)]
struct Purse {
    what: &'static str,
    limit: usize,
    left: usize,
}

impl Purse {
    fn of(limit: usize, what: &'static str) -> Self {
        Self { what, limit, left: limit }
    }

    fn spend(&mut self, cost: usize) -> Result<(), Spent> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Spent { what: self.what, limit: self.limit })
            }
        }
    }
}

/// What is left to the templates of one endpoint that is read, or of one call.
#[derive(Debug)]
pub(crate) struct Budget {
    steps: Purse,
    bytes: Purse,
    sql: Purse,
}

impl Budget {
    /// To read an endpoint.
    pub(crate) fn of_reading() -> Self {
        Self {
            steps: Purse::of(TEMPLATE_PARTS_MAX, "tags and tokens"),
            bytes: Purse::of(READ_BYTES_MAX, "bytes"),
            sql: Purse::of(0, "bytes of SQL"),
        }
    }

    /// To render one call.
    pub(crate) fn of_rendering() -> Self {
        Self {
            steps: Purse::of(RENDER_STEPS_MAX, "steps"),
            bytes: Purse::of(RENDER_BYTES_MAX, "bytes of values"),
            sql: Purse::of(SQL_BYTES_MAX, "bytes of SQL"),
        }
    }

    /// So many steps.
    pub(super) fn steps(&mut self, steps: usize) -> Result<(), Spent> {
        self.steps.spend(steps)
    }

    /// One step.
    pub(super) fn step(&mut self) -> Result<(), Spent> {
        self.steps(1)
    }

    /// To look at that many bytes of a text.
    pub(super) fn look(&mut self, bytes: usize) -> Result<(), Spent> {
        self.steps(1 + bytes / STEP_BYTES)
    }

    /// To keep that many bytes.
    pub(super) fn bytes(&mut self, bytes: usize) -> Result<(), Spent> {
        self.bytes.spend(bytes)
    }

    /// To write that many bytes of SQL.
    pub(super) fn sql(&mut self, bytes: usize) -> Result<(), Spent> {
        self.sql.spend(bytes)
    }

    /// Steps and bytes that were spent.
    pub(crate) fn spent(&self) -> (usize, usize) {
        (self.steps.limit - self.steps.left, self.bytes.limit - self.bytes.left)
    }
}
