//! A statement to its plan, and plans that are still good: to name what a statement names and to optimize its plan takes longer
//! than to answer it from a few thousand rows, and dashboards ask the same again after each message.
//!
//! A kept plan holds no row and no file: its tables are names that the call which runs it looks up
//! ([`NamedTable`](crate::catalog::NamedTable)). It is kept under its tenant, the statement with its values, the rows that the
//! caller may see, the time zone and the metrics' definitions ([`Key`]), and is good while its tables have the same columns. Opening hours are put in by
//! each call ([`hours::bound`]). What asks for the time or for chance is planned anew, as what makes texts under a call's
//! budget is ([`functions::is_shared`]). Start at [`optimized`] and [`Plans`].

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::common::tree_node::{TreeNode as _, TreeNodeRecursion};
use datafusion::error::Result as DfResult;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, Volatility};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::parser::Statement;
use lru::LruCache;

use crate::answers::Key;
use crate::catalog::TableDef;
use crate::watch::Watch;
use crate::{functions, gate, hours, measure};

/// Plans of all tenants together, however small.
const KEPT: NonZeroUsize = NonZeroUsize::new(512).expect("it isn't zero");
/// About what a node, a column of one or an expression takes.
const PART_BYTES: usize = 512;

/// A plan that the optimizer is done with.
#[derive(Clone)]
pub(crate) struct Optimized {
    pub(crate) plan: Arc<LogicalPlan>,
    /// The same rows give the same answer, whenever it is asked: nothing in the plan, as it is before constants are
    /// computed, asks for the time or for chance.
    pub(crate) steady: bool,
    /// Other calls may run it.
    lasting: bool,
    /// It asks for opening hours, which the call that runs it has to put in.
    unbound: bool,
}

/// Plans a statement.
/// # Errors  What it names isn't there, or may not be asked for.
pub(crate) async fn optimized(state: &SessionState, statement: Statement) -> DfResult<Optimized> {
    let plan = state.statement_to_plan(statement).await?;
    gate::verify(&plan)?;
    let (mut steady, mut shared, mut hours_asked) = (true, true, false);
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|part| {
                if let Expr::ScalarFunction(call) = part {
                    steady &= call.func.signature().volatility == Volatility::Immutable;
                    shared &= functions::is_shared(&call.func) || hours::is_hours(&call.func);
                    hours_asked |= hours::is_hours(&call.func);
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let lasting = steady && shared;
    if lasting && hours_asked {
        // A rule may have to know a constant's value; then the plan is this call's alone.
        if let Ok(plan) = state.optimize(&hours::unbound(plan.clone())?) {
            return Ok(Optimized { plan: Arc::new(plan), steady, lasting, unbound: true });
        }
    }
    let plan = Arc::new(state.optimize(&plan)?);
    Ok(Optimized { plan, steady, lasting: lasting && !hours_asked, unbound: false })
}

/// What runs.
/// # Errors  The facts can't be opened, or a constant is too large.
pub(crate) async fn physical(
    state: &SessionState,
    optimized: &Optimized,
    watch: &Watch,
) -> DfResult<Arc<dyn ExecutionPlan>> {
    let plan = optimized.plan.as_ref();
    let bound = if optimized.unbound { Some(hours::bound(plan.clone(), state)?) } else { None };
    let plan = watch.conditions(bound.as_ref().unwrap_or(plan))?;
    let physical = state.query_planner().create_physical_plan(&plan, state).await?;
    measure::constants(&physical)?;
    watch.pauses(physical)
}

/// The plans of all tenants, the last used ones.
pub(crate) struct Plans {
    /// Of all together; none is more than a sixteenth of it.
    bytes_max: usize,
    kept: Mutex<Kept>,
}

struct Kept {
    plans: LruCache<Name, KeptPlan>,
    bytes: usize,
}

/// A tenant, and what its plan is kept under.
type Name = (String, String);

struct KeptPlan {
    optimized: Optimized,
    tables: Vec<TableDef>,
    bytes: usize,
}

impl Plans {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::new(Kept { plans: LruCache::new(KEPT), bytes: 0 }) }
    }

    /// The tenant's plan under `key`, if it is one over `tables`.
    pub(crate) fn get(&self, tenant: &str, key: &Key, tables: &[TableDef]) -> Option<Optimized> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = kept.plans.get(&(tenant.to_owned(), key.text().to_owned()))?;
        let same = |(a, b): (&TableDef, &TableDef)| a.name == b.name && a.schema == b.schema;
        let good = plan.tables.len() == tables.len() && plan.tables.iter().zip(tables).all(same);
        good.then(|| plan.optimized.clone())
    }

    /// Keeps a plan over `tables` that other calls may run.
    /// # Errors  The plan can't be walked.
    pub(crate) fn put(&self, tenant: &str, key: &Key, tables: Vec<TableDef>, optimized: &Optimized) -> DfResult<()> {
        if !optimized.lasting {
            return Ok(());
        }
        let bytes = tenant.len() + key.text().len() + parts(&optimized.plan)? * PART_BYTES;
        if bytes > self.bytes_max / 16 {
            return Ok(());
        }
        let name = (tenant.to_owned(), key.text().to_owned());
        let plan = KeptPlan { optimized: optimized.clone(), tables, bytes };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += bytes;
        if let Some((_, gone)) = kept.plans.push(name, plan) {
            kept.bytes -= gone.bytes;
        }
        while kept.bytes > self.bytes_max {
            let Some((_, gone)) = kept.plans.pop_lru() else { break };
            kept.bytes -= gone.bytes;
        }
        Ok(())
    }
}

/// Nodes, their columns and expressions.
fn parts(plan: &LogicalPlan) -> DfResult<usize> {
    let mut parts = 0;
    plan.apply_with_subqueries(|node| {
        parts += 1 + node.schema().fields().len();
        node.apply_expressions(|expr| {
            expr.apply(|_| {
                parts += 1;
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Caller;
    use crate::catalog::{CallCatalog, NotFresh, TableSnapshot, TablesError, TenantTables};
    use crate::definitions::MetricsVersion;
    use crate::hours::Clock;
    use crate::reads::{Readable, RowFilters};
    use crate::session;
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use async_trait::async_trait;
    use chrono::DateTime;

    /// One table, of which nobody reads a row.
    struct Unread;

    #[async_trait]
    impl TenantTables for Unread {
        fn tables(&self, _: &str) -> Vec<TableDef> {
            vec![def(&["author"])]
        }

        fn snapshot(&self, _: &str, _: &str) -> Result<TableSnapshot, TablesError> {
            Err(TablesError::Unavailable("planning reads no rows".to_owned()))
        }

        async fn wait_fresh(&self) -> Result<(), NotFresh> {
            Ok(())
        }

        fn version(&self, _: &str) -> Option<u64> {
            None
        }
    }

    fn def(texts: &[&str]) -> TableDef {
        let at = Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), true);
        let fields = texts.iter().map(|name| Field::new(*name, DataType::Utf8, true)).chain([at]);
        TableDef { name: "posts".into(), schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())) }
    }

    async fn planned(sql: &str) -> (Key, Optimized) {
        let (source, tenant): (Arc<dyn TenantTables>, Arc<str>) = (Arc::new(Unread), "acme".into());
        let catalog = CallCatalog::new(&source, &tenant, &Readable::All);
        let runtime = session::runtime(1 << 20, 1 << 20, None, None).expect("pools");
        let clock = Clock::new(&source, &tenant, "UTC");
        let state =
            session::state(&session::template(runtime), &catalog, 1, DateTime::UNIX_EPOCH, clock).expect("a session");
        catalog.open(&state, &RowFilters::new()).expect("no filters");
        let passed = gate::read(sql).expect("a statement");
        let (tenant, time_zone) = ("acme".to_owned(), "UTC".to_owned());
        let (readable, filters, metrics) = (Readable::All, RowFilters::new(), MetricsVersion::V1);
        let caller = Caller { tenant, time_zone, now_ms: 0, readable, filters, metrics };
        let key = Key::of(&caller, &passed).expect("a key");
        (key, optimized(&state, passed.statement).await.expect("a plan"))
    }

    #[tokio::test]
    async fn what_belongs_to_one_call_is_planned_anew() {
        for (sql, lasting) in [
            ("SELECT count(*) FROM posts WHERE at > TIMESTAMP '2024-05-01'", true),
            ("SELECT date_trunc('day', to_local_time(at AT TIME ZONE 'Asia/Tokyo')) AS d FROM posts", true),
            ("SELECT upper(author), percentile_cont(0.5) WITHIN GROUP (ORDER BY 1.0) FROM posts GROUP BY 1", true),
            ("SELECT count(*) FROM posts WHERE at > now()", false),
            ("SELECT count(*) FROM posts WHERE at > (SELECT now())", false),
            ("SELECT random() FROM posts", false),
            ("SELECT author || '!' FROM posts", false),
            ("SELECT repeat('ab', 2)", false),
            ("SELECT author FROM posts WHERE author IN (SELECT concat(author, 'x') FROM posts)", false),
            ("SELECT author || business_seconds(at, at) FROM posts", false),
            ("SELECT business_seconds(at, at) FROM posts", true),
            ("SELECT business_seconds(TIMESTAMP '2024-05-01', at) FROM posts", true),
        ] {
            assert_eq!(planned(sql).await.1.lasting, lasting, "{sql}");
        }
    }

    #[tokio::test]
    async fn a_plan_is_its_tenants_and_its_columns() {
        let (key, plan) = planned("SELECT author FROM posts").await;
        let (other_key, _) = planned("SELECT at FROM posts").await;
        let plans = Plans::new(1 << 20);
        plans.put("acme", &key, vec![def(&["author"])], &plan).expect("kept");
        assert!(plans.get("acme", &key, &[def(&["author"])]).is_some());
        assert!(plans.get("globex", &key, &[def(&["author"])]).is_none());
        assert!(plans.get("acme", &other_key, &[def(&["author"])]).is_none());
        assert!(plans.get("acme", &key, &[def(&["title", "author"])]).is_none());
        assert!(plans.get("acme", &key, &[]).is_none());
    }

    /// The last used stay.
    #[tokio::test]
    async fn plans_stay_within_their_bytes() {
        let (key, plan) = planned("SELECT author FROM posts").await;
        let bytes = "t00".len() + key.text().len() + parts(&plan.plan).expect("parts") * PART_BYTES;
        let plans = Plans::new(20 * bytes);
        let tenants: Vec<String> = (0..40).map(|n| format!("t{n:02}")).collect();
        for tenant in &tenants {
            plans.put(tenant, &key, vec![def(&["author"])], &plan).expect("kept");
            assert!(plans.get("t00", &key, &[def(&["author"])]).is_some(), "used before each other");
        }
        let kept = tenants.iter().filter(|tenant| plans.get(tenant, &key, &[def(&["author"])]).is_some());
        assert_eq!(kept.count(), 20);
        let small = Plans::new(15 * bytes);
        small.put("t00", &key, vec![def(&["author"])], &plan).expect("not kept");
        assert!(small.get("t00", &key, &[def(&["author"])]).is_none(), "more than its part");
    }
}
