//! Versions of the metrics' definitions (docs/METRICS.md), and how a table shows its stored columns under one of them.
//!
//! Facts are stored under every version side by side. A call follows one ([`Caller::metrics`](crate::Caller::metrics)): its
//! tables show that version's columns under the plain names ([`TableView`]). A plan names what is shown, so plans are the
//! same under all versions; what is read is chosen when it is run.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Column;
use datafusion::common::tree_node::{Transformed, TransformedResult as _, TreeNode as _};
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::Expr;
use datafusion::physical_expr::expressions;
use datafusion::physical_expr::projection::ProjectionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::projection::ProjectionExec;

use crate::catalog::NewestBy;
use crate::error::QueryError;

/// The parameter by which a call chooses a version.
pub(crate) const PARAMETER: &str = "version";

/// Which definitions a call's numbers follow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricsVersion {
    /// The first; of tenants that never chose another.
    #[default]
    V1,
    /// A resolve ends every wait, and a thread has one rating.
    V2,
}

impl MetricsVersion {
    /// Every version.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// The newest.
    pub const NEWEST: Self = Self::V2;

    /// 1, 2.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }

    /// Reads [`number`](Self::number); `None` for any other.
    #[must_use]
    pub fn of(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.number() == number)
    }

    /// Reads the parameter of a call.
    /// # Errors  `Parameter` when it names no version.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let version = text.trim().parse().ok().and_then(Self::of);
        version.ok_or_else(|| QueryError::parameter(PARAMETER, "is a version of the metrics' definitions: 1 or 2"))
    }
}

/// How a table shows what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableView {
    /// Columns that show a stored one of another name: (shown, stored). All others show the one of their own.
    pub columns: &'static [(&'static str, &'static str)],
    /// Set when of the stored rows only some are shown; its columns are the stored ones.
    pub newest_by: Option<NewestBy>,
}

impl TableView {
    /// The stored column that `shown` shows.
    pub(crate) fn stored<'a>(&self, shown: &'a str) -> &'a str {
        self.columns.iter().find(|(name, _)| *name == shown).map_or(shown, |(_, stored)| stored)
    }

    /// A condition on shown columns as one on stored ones.
    pub(crate) fn condition(&self, filter: &Expr) -> DfResult<Expr> {
        let stored = |part| match part {
            Expr::Column(column) if self.stored(&column.name) != column.name => {
                Ok(Transformed::yes(Expr::Column(Column::from_name(self.stored(&column.name)))))
            }
            other => Ok(Transformed::no(other)),
        };
        filter.clone().transform(stored).data()
    }

    /// `wanted` of the shown columns, as places of stored ones: each once, in order.
    /// # Errors  A stored column isn't there.
    pub(crate) fn places(&self, shown: &Schema, stored: &Schema, wanted: &[usize]) -> DfResult<Vec<usize>> {
        let mut places = Vec::with_capacity(wanted.len());
        for column in wanted {
            let place = stored.index_of(self.stored(shown.field(*column).name()))?;
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Ok(places)
    }

    /// Stored columns, those of [`places`](Self::places), under the names of `wanted`.
    /// # Errors  A stored column isn't there.
    pub(crate) fn named(
        &self,
        shown: &SchemaRef,
        wanted: &[usize],
        rows: Arc<dyn ExecutionPlan>,
    ) -> DfResult<Arc<dyn ExecutionPlan>> {
        let read = rows.schema();
        let names = || wanted.iter().map(|column| shown.field(*column).name().as_str());
        if names().eq(read.fields().iter().map(|field| field.name().as_str()))
            && names().all(|name| self.stored(name) == name)
        {
            return Ok(rows);
        }
        let columns = names().map(|name| {
            let expr = expressions::col(self.stored(name), &read)?;
            Ok(ProjectionExpr::new(expr, name.to_owned()))
        });
        Ok(Arc::new(ProjectionExec::try_new(columns.collect::<DfResult<Vec<_>>>()?, rows)?))
    }
}
