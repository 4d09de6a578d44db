//! A statement of the Postgres wire on the engine's threads: read, its parameters put in, Postgres' words put into the
//! engine's, and through the gate. Start at [`Job::prepare`].

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::SchemaProvider;
use datafusion::error::Result as DfResult;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    self, ArrayElemTypeDef, BinaryOperator, Expr, LimitClause, Query, TimezoneInfo, Value, visit_expressions,
    visit_expressions_mut,
};
use futures_util::future::BoxFuture;

use super::catalog::{self, INFORMATION_SCHEMA, PG_CATALOG, TYPE_TREE, View};
use super::params::{self, Given, PARAMETERS_MAX, any_value, inner, place};
use super::proto::Column;
use super::rewrite::{self, Rewritten, rewrite, shown_name};
use super::types::{PgType, Scalar};
use crate::catalog::TableDef;
use crate::error::QueryError;
use crate::gate::{self, Extra, Passed};
use crate::reads::Reader;
use crate::result_memory::Account;

/// The parameters' types as far as they are known.
pub(crate) type Types = Vec<Option<PgType>>;
/// Makes a logical plan of a statement that passed.
pub(crate) type Plan = dyn Fn(Job, Statement) -> BoxFuture<'static, Result<LogicalPlan, QueryError>> + Send + Sync;
/// Parameters whose types are looked for one by one.
const ALONE_MAX: usize = 8;

/// A statement with its values.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(super) sql: String,
    pub(super) values: Vec<(PgType, Given)>,
    pub(super) view: Arc<View>,
    /// What its connection's results hold.
    pub(super) memory: Arc<Account>,
}

/// A statement that passed.
pub(crate) enum Prepared {
    Plan(Box<Passed>),
    /// Its answer is known: no rows of these columns.
    NoRows(SchemaRef),
}

/// What a client is told before a statement runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    pub(super) parameters: Vec<PgType>,
    pub(super) columns: Vec<Column>,
}

/// The columns of a result as they are shown.
pub(super) fn shown(schema: &Schema) -> Vec<Column> {
    let column =
        |field: &Arc<Field>| Column { name: shown_name(field.name()).to_owned(), kind: PgType::of_field(field) };
    schema.fields().iter().map(column).collect()
}

impl Job {
    /// Reads the statement and lets it through the gate.
    /// # Errors  As over HTTP; 403 for a table that the token has no scope for.
    pub(crate) fn prepare(&self, tables: &[TableDef]) -> Result<Prepared, QueryError> {
        let values: Vec<_> = self.values.iter().cloned().map(Some).collect();
        self.passed(self.parse()?, tables, &values)
    }

    /// What the result's memory counts in.
    pub(crate) fn memory(&self) -> &Arc<Account> {
        &self.memory
    }

    /// The catalogs that the statement may name besides the caller's tables.
    pub(crate) fn schemas(&self, tables: &[TableDef]) -> DfResult<Vec<(&'static str, Arc<dyn SchemaProvider>)>> {
        let schemas = catalog::schemas(tables, &self.view)?;
        Ok(schemas.into_iter().map(|(name, schema)| (name, schema as Arc<dyn SchemaProvider>)).collect())
    }

    fn parse(&self) -> Result<Statement, QueryError> {
        // asyncpg asks this about types; the engine takes no recursion.
        if self.sql.trim_start().starts_with("WITH RECURSIVE typeinfo_tree(") {
            return gate::parse(&format!("SELECT * FROM {PG_CATALOG}.{TYPE_TREE} WHERE oid = ANY ($1::oid[])"));
        }
        gate::parse(&self.sql)
    }

    fn passed(
        &self,
        mut statement: Statement,
        tables: &[TableDef],
        values: &params::Values,
    ) -> Result<Prepared, QueryError> {
        let own: BTreeSet<&str> =
            tables.iter().map(catalog::name_of).filter(|name| self.view.readable.has(name)).collect();
        let query = gate::inner_query(&mut statement)?;
        params::bind(query, values)?;
        if let Rewritten::NoRows(names) = rewrite(query, &self.view, &own)? {
            let fields: Vec<Field> = names.into_iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
            return Ok(Prepared::NoRows(Arc::new(Schema::new(fields))));
        }
        let placeholders = values.iter().any(Option::is_none);
        let extra = Extra { schemas: &[PG_CATALOG, INFORMATION_SCHEMA], placeholders };
        let passed = gate::check_with(statement, extra)?;
        if passed.format.is_some() {
            return Err(QueryError::not_allowed("FORMAT; this wire has its own", None));
        }
        self.view.readable.check(&passed.tables, Reader::Token)?;
        if let Some(unknown) = passed.tables.iter().find(|name| !own.contains(name.as_str())) {
            return Err(QueryError::NoTable(unknown.clone()));
        }
        Ok(Prepared::Plan(Box::new(passed)))
    }

    /// Finds the types of the parameters and columns. `plan` makes a logical plan.
    /// # Errors  As [`Job::prepare`] and of planning.
    pub(crate) async fn describe(
        &self,
        tables: &[TableDef],
        mut types: Types,
        plan: &Plan,
    ) -> Result<Described, QueryError> {
        let mut statement = self.parse()?;
        let lists = of_text(gate::inner_query(&mut statement)?, &mut types)?;
        let unknown: Vec<usize> = (0..types.len()).filter(|at| types[*at].is_none()).collect();
        if !unknown.is_empty() {
            let found = self.found(&statement, tables, &types, &unknown, plan).await;
            // One that can't be found alone may keep the others from being found with it.
            if found.is_none() && unknown.len() <= ALONE_MAX {
                for at in &unknown {
                    let mut others = types.clone();
                    unknown.iter().filter(|other| *other != at).for_each(|other| others[*other] = Some(PgType::TEXT));
                    let found = self.found(&statement, tables, &others, &[*at], plan).await;
                    types[*at] = found.and_then(|found| found.get(at).copied());
                }
            }
            for (at, kind) in found.unwrap_or_default() {
                types[at] = Some(kind);
            }
        }
        let finished = types.iter().enumerate().map(|(at, kind)| {
            let kind = kind.unwrap_or(PgType::TEXT);
            if lists.contains(&at) { PgType { is_array: true, ..kind } } else { kind }
        });
        let parameters: Vec<PgType> = finished.collect();
        let values: Vec<_> = parameters.iter().map(|kind| Some((*kind, any_value(*kind)))).collect();
        // Anew: finding out has changed it.
        let schema = match self.passed(self.parse()?, tables, &values)? {
            Prepared::NoRows(schema) => schema,
            Prepared::Plan(passed) => Arc::clone(plan(self.clone(), passed.statement).await?.schema().inner()),
        };
        Ok(Described { parameters, columns: shown(&schema) })
    }

    /// The types that the planner finds for parameters from what stands around them; `None` when it can't plan.
    async fn found(
        &self,
        statement: &Statement,
        tables: &[TableDef],
        types: &Types,
        unknown: &[usize],
        plan: &Plan,
    ) -> Option<HashMap<usize, PgType>> {
        let values: Vec<_> = types.iter().map(|kind| kind.map(|kind| (kind, any_value(kind)))).collect();
        let Ok(Prepared::Plan(passed)) = self.passed(statement.clone(), tables, &values) else { return None };
        let found = plan(self.clone(), passed.statement).await.ok()?.get_parameter_types().ok()?;
        let of = |at: &usize| Some((*at, PgType::of_arrow(found.get(&format!("${}", at + 1))?.as_ref()?)));
        Some(unknown.iter().filter_map(of).collect())
    }
}

/// Postgres' type of a type in a statement; `None` for what it doesn't have.
fn of_sql(kind: &ast::DataType) -> Option<PgType> {
    use ast::DataType as T;
    Some(PgType::of(match kind {
        T::Array(ArrayElemTypeDef::SquareBracket(item, _) | ArrayElemTypeDef::AngleBracket(item)) => {
            return of_sql(item).filter(|item| !item.is_array).map(|item| PgType { is_array: true, ..item });
        }
        T::Custom(name, _) => {
            let idents: Vec<&ast::Ident> = rewrite::idents(name);
            return idents.last().and_then(|ident| PgType::by_name(&rewrite::folded(ident)));
        }
        T::Bool | T::Boolean => Scalar::Bool,
        T::Bytea => Scalar::Bytea,
        T::Char(_) | T::Character(_) | T::Text | T::String(_) => Scalar::Text,
        T::Varchar(_) | T::CharacterVarying(_) | T::CharVarying(_) => Scalar::Varchar,
        T::Int2(_) | T::SmallInt(_) => Scalar::Int2,
        T::Int(_) | T::Int4(_) | T::Integer(_) => Scalar::Int4,
        T::Int8(_) | T::BigInt(_) => Scalar::Int8,
        T::Float4 | T::Real => Scalar::Float4,
        T::Float(_) | T::Float8 | T::Double(_) | T::DoublePrecision => Scalar::Float8,
        T::Numeric(_) | T::Decimal(_) | T::Dec(_) => Scalar::Numeric,
        T::Date => Scalar::Date,
        T::Time(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => Scalar::Time,
        T::Timestamp(_, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => Scalar::Timestamp,
        T::Timestamp(_, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => Scalar::TimestampTz,
        T::Interval { .. } => Scalar::Interval,
        T::Uuid => Scalar::Uuid,
        // Other engines' types.
        _ => return None,
    }))
}

/// What the text itself says about parameters' types: how many there are, `$1::type`, LIMIT. Gives back those that are
/// lists, and writes `x = ANY ($1)` as `x = $1`, so that the planner finds the type of an item.
fn of_text(query: &mut Query, types: &mut Types) -> Result<BTreeSet<usize>, QueryError> {
    let mut count = types.len();
    let mut casts = Vec::new();
    let _: ControlFlow<()> = visit_expressions(query, |expr| {
        match expr {
            Expr::Value(_) => count = count.max(place(expr).map_or(0, |at| at + 1)),
            Expr::Cast { expr, data_type, .. } => {
                if let (Some(at), Some(kind)) = (place(expr), of_sql(data_type)) {
                    casts.push((at, kind));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    });
    if count > PARAMETERS_MAX {
        return Err(QueryError::SqlTooLarge { what: "parameters", found: count, limit: PARAMETERS_MAX });
    }
    types.resize(count, None);
    let limits = match &query.limit_clause {
        Some(LimitClause::LimitOffset { limit, offset, .. }) => {
            [limit.as_ref().and_then(place), offset.as_ref().and_then(|offset| place(&offset.value))]
        }
        _ => [None, None],
    };
    casts.extend(limits.into_iter().flatten().map(|at| (at, PgType::of(Scalar::Int8))));
    for (at, kind) in casts {
        types[at] = types[at].or(Some(kind));
    }
    let mut lists = BTreeSet::new();
    let _: ControlFlow<()> = visit_expressions_mut(query, |expr| {
        let (left, right) = match expr {
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. }
            | Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, right),
            _ => return ControlFlow::Continue(()),
        };
        if let Some(at) = place(inner(right)).filter(|at| types[*at].is_none()) {
            lists.insert(at);
            let right = Box::new(params::value(Value::Placeholder(format!("${}", at + 1))));
            *expr = Expr::BinaryOp { left: left.clone(), op: BinaryOperator::Eq, right };
        }
        ControlFlow::Continue(())
    });
    Ok(lists)
}
