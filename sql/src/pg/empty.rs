//! Catalogs without rows are taken out of a query before it is planned: their joins, their arms of a UNION, their
//! subqueries. What is left has an answer the planner can find. Start at [`Catalogs::take_out`].

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArguments, GroupByExpr, Ident, JoinOperator, Query, Select, SelectItem, SetExpr, SetOperator,
    TableFactor, TableWithJoins, Value, Visit, VisitMut, Visitor, VisitorMut, visit_expressions_mut,
};

use super::catalog::{INFORMATION_SCHEMA, PG_CATALOG};
use super::params::value;
use super::rewrite::{folded, idents, null_text};

/// Tables of the catalogs that are there and have no rows.
pub(super) const EMPTY: &[&str] = &[
    "pg_aggregate",
    "pg_amop",
    "pg_amproc",
    "pg_attrdef",
    "pg_auth_members",
    "pg_available_extensions",
    "pg_cast",
    "pg_collation",
    "pg_constraint",
    "pg_conversion",
    "pg_cursors",
    "pg_db_role_setting",
    "pg_default_acl",
    "pg_depend",
    "pg_description",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_foreign_data_wrapper",
    "pg_foreign_server",
    "pg_foreign_table",
    "pg_group",
    "pg_index",
    "pg_indexes",
    "pg_inherits",
    "pg_language",
    "pg_largeobject",
    "pg_locks",
    "pg_matviews",
    "pg_opclass",
    "pg_operator",
    "pg_opfamily",
    "pg_partitioned_table",
    "pg_policies",
    "pg_policy",
    "pg_prepared_statements",
    "pg_proc",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_publication_tables",
    "pg_range",
    "pg_rewrite",
    "pg_rules",
    "pg_seclabel",
    "pg_seclabels",
    "pg_sequence",
    "pg_sequences",
    "pg_shdepend",
    "pg_shdescription",
    "pg_stat_activity",
    "pg_stat_all_tables",
    "pg_stat_database",
    "pg_stat_gssapi",
    "pg_stat_replication",
    "pg_stat_ssl",
    "pg_stat_user_tables",
    "pg_statio_user_tables",
    "pg_statistic",
    "pg_statistic_ext",
    "pg_statistic_ext_data",
    "pg_stats",
    "pg_subscription",
    "pg_subscription_rel",
    "pg_transform",
    "pg_trigger",
    "pg_ts_config",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_user_mapping",
    "pg_user_mappings",
    "pg_views",
    "character_sets",
    "check_constraints",
    "column_privileges",
    "constraint_column_usage",
    "constraint_table_usage",
    "domains",
    "element_types",
    "foreign_tables",
    "key_column_usage",
    "parameters",
    "referential_constraints",
    "role_table_grants",
    "routine_privileges",
    "routines",
    "sequences",
    "table_constraints",
    "table_privileges",
    "triggers",
    "user_defined_types",
    "view_column_usage",
    "view_table_usage",
    "views",
];

/// Takes catalogs without rows out of a statement, from the inside out.
#[derive(Default)]
pub(super) struct Catalogs {
    empty_common: BTreeSet<String>,
}

impl VisitorMut for Catalogs {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            if self.query_is_empty(&table.query) {
                self.empty_common.insert(table.alias.name.value.to_lowercase());
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Subquery(query) if self.query_is_empty(query) => *expr = null_text(),
            Expr::Exists { subquery, negated } if self.query_is_empty(subquery) => {
                *expr = value(Value::Boolean(*negated));
            }
            Expr::InSubquery { subquery, negated, .. } if self.query_is_empty(subquery) => {
                *expr = value(Value::Boolean(*negated));
            }
            Expr::Function(function) => {
                if let FunctionArguments::Subquery(query) = &function.args
                    && self.query_is_empty(query)
                {
                    *expr = null_text();
                }
            }
            // Only catalogs without rows have columns that are arrays.
            Expr::AnyOp { .. } => *expr = value(Value::Boolean(false)),
            Expr::AllOp { .. } => *expr = value(Value::Boolean(true)),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        self.without_arms(&mut query.body);
        let mut gone = BTreeSet::new();
        if let SetExpr::Select(select) = query.body.as_mut() {
            gone = self.without_joins(select);
            if aggregates(select) && select.from.iter().any(|tables| self.tables_are_empty(tables)) {
                // One row comes out all the same, of no rows.
                let joins = select.from.iter().flat_map(|tables| tables.joins.iter().map(|join| &join.relation));
                gone.extend(select.from.iter().map(|tables| &tables.relation).chain(joins).flat_map(names_of));
                select.from.clear();
                select.selection = Some(value(Value::Boolean(false)));
            }
        }
        if !gone.is_empty() {
            let _: ControlFlow<()> = visit_expressions_mut(query, |expr| {
                if let Expr::CompoundIdentifier(parts) = expr
                    && parts.len() == 2
                    && gone.contains(&folded(&parts[0]))
                {
                    *expr = null_text();
                }
                ControlFlow::Continue(())
            });
        }
        ControlFlow::Continue(())
    }
}

impl Catalogs {
    /// True when nothing is left: the query has no rows.
    pub(super) fn take_out(query: &mut Query) -> bool {
        let mut catalogs = Self::default();
        // It never breaks.
        let _: ControlFlow<()> = query.visit(&mut catalogs);
        catalogs.query_is_empty(query)
    }

    fn query_is_empty(&self, query: &Query) -> bool {
        self.body_is_empty(&query.body)
    }

    fn body_is_empty(&self, body: &SetExpr) -> bool {
        match body {
            SetExpr::Select(select) => self.select_is_empty(select),
            SetExpr::Query(query) => self.query_is_empty(query),
            SetExpr::SetOperation { left, op: SetOperator::Union, right, .. } => {
                self.body_is_empty(left) && self.body_is_empty(right)
            }
            SetExpr::SetOperation { left, op: SetOperator::Intersect, right, .. } => {
                self.body_is_empty(left) || self.body_is_empty(right)
            }
            SetExpr::SetOperation { left, .. } => self.body_is_empty(left),
            _ => false,
        }
    }

    fn select_is_empty(&self, select: &Select) -> bool {
        !aggregates(select) && select.from.iter().any(|table| self.tables_are_empty(table))
    }

    fn tables_are_empty(&self, tables: &TableWithJoins) -> bool {
        let mut empty = self.is_empty(&tables.relation);
        for join in &tables.joins {
            let right = self.is_empty(&join.relation);
            empty = match &join.join_operator {
                JoinOperator::Left(_)
                | JoinOperator::LeftOuter(_)
                | JoinOperator::LeftAnti(_)
                | JoinOperator::Anti(_) => empty,
                JoinOperator::Right(_) | JoinOperator::RightOuter(_) => right,
                JoinOperator::FullOuter(_) => empty && right,
                _ => empty || right,
            };
        }
        empty
    }

    fn is_empty(&self, factor: &TableFactor) -> bool {
        match factor {
            TableFactor::Table { name, args: None, .. } => match idents(name).as_slice() {
                [schema, name] => {
                    (schema.value == PG_CATALOG || schema.value == INFORMATION_SCHEMA)
                        && EMPTY.contains(&name.value.as_str())
                }
                [name] => self.empty_common.contains(&name.value.to_lowercase()),
                _ => false,
            },
            TableFactor::Derived { subquery, .. } => self.query_is_empty(subquery),
            TableFactor::NestedJoin { table_with_joins, .. } => self.tables_are_empty(table_with_joins),
            _ => false,
        }
    }

    /// `x UNION y` is `x` when `y` has no rows.
    fn without_arms(&self, body: &mut SetExpr) {
        let SetExpr::SetOperation { left, op: SetOperator::Union, right, .. } = body else { return };
        self.without_arms(left);
        self.without_arms(right);
        let stays = match (self.body_is_empty(left), self.body_is_empty(right)) {
            (true, false) => right,
            (false, true) => left,
            _ => return,
        };
        *body = (**stays).clone();
    }

    /// Takes the empty sides of outer joins away; their names are given back, since their columns are NULL.
    fn without_joins(&self, select: &mut Select) -> BTreeSet<String> {
        let mut gone = BTreeSet::new();
        for tables in &mut select.from {
            tables.joins.retain(|join| {
                let outer = matches!(join.join_operator, JoinOperator::Left(_) | JoinOperator::LeftOuter(_));
                if !outer || !self.is_empty(&join.relation) {
                    return true;
                }
                gone.extend(names_of(&join.relation));
                false
            });
        }
        for item in &mut select.projection {
            if let SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) = item
                && let [table, column] = parts.as_slice()
                && gone.contains(&folded(table))
            {
                let alias = Ident::with_quote('"', folded(column));
                *item = SelectItem::ExprWithAlias { expr: Expr::CompoundIdentifier(parts.clone()), alias };
            }
        }
        gone
    }
}

/// How the columns of a relation are qualified.
fn names_of(factor: &TableFactor) -> Vec<String> {
    match factor {
        TableFactor::Table { name, alias, .. } => match alias {
            Some(alias) => vec![folded(&alias.name)],
            None => idents(name).last().map(|ident| folded(ident)).into_iter().collect(),
        },
        TableFactor::Derived { alias: Some(alias), .. } => vec![folded(&alias.name)],
        TableFactor::NestedJoin { table_with_joins, .. } => {
            let joined = table_with_joins.joins.iter().flat_map(|join| names_of(&join.relation));
            names_of(&table_with_joins.relation).into_iter().chain(joined).collect()
        }
        _ => Vec::new(),
    }
}

/// Whether a row comes out of no rows.
fn aggregates(select: &Select) -> bool {
    const AGGREGATES: [&str; 8] = ["count", "max", "min", "sum", "avg", "array_agg", "string_agg", "bool_or"];
    /// Looks for them, but not in queries inside.
    struct Finder {
        depth: usize,
    }
    impl Visitor for Finder {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth += 1;
            ControlFlow::Continue(())
        }
        fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            self.depth -= 1;
            ControlFlow::Continue(())
        }
        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            let name = match expr {
                Expr::Function(function) if self.depth == 0 => idents(&function.name).last().map(|ident| folded(ident)),
                _ => None,
            };
            if name.is_some_and(|name| AGGREGATES.contains(&name.as_str())) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        }
    }
    let is_grouped = !matches!(&select.group_by, GroupByExpr::Expressions(by, _) if by.is_empty());
    !is_grouped && select.projection.visit(&mut Finder { depth: 0 }).is_break()
}
