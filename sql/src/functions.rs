//! Which functions SQL may call: a list, so that a feature enabled elsewhere in the build adds nothing here.
//! Left out on purpose: what names files (`input_file_name`), what generates rows (`generate_series`, `range`), and
//! what is worse than linear in its text (`levenshtein`). What makes text longer runs under [`crate::text`].

use std::sync::Arc;

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

use crate::hours::Clock;
use crate::text::{self, Budget};
use crate::{buckets, covered, local, percentile, row_errors, types};

/// Cheap functions, linear in their input, whose output is no larger than it.
const PLAIN: &[&str] = &[
    // values and types
    "arrow_cast",
    "arrow_try_cast",
    "arrow_typeof",
    "coalesce",
    "get_field",
    "greatest",
    "least",
    "nullif",
    "nvl",
    "nvl2",
    // text
    "ascii",
    "bit_length",
    "btrim",
    "character_length",
    "chr",
    "contains",
    "ends_with",
    "find_in_set",
    "initcap",
    "left",
    "lower",
    "ltrim",
    "octet_length",
    "reverse",
    "right",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "substr_index",
    "to_hex",
    "upper",
    // time
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "from_unixtime",
    "make_date",
    "make_time",
    "now",
    "to_date",
    "to_time",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
    // numbers
    "abs",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "cbrt",
    "ceil",
    "cos",
    "cosh",
    "cot",
    "degrees",
    "exp",
    "factorial",
    "floor",
    "gcd",
    "isnan",
    "iszero",
    "lcm",
    "ln",
    "log",
    "log10",
    "log2",
    "nanvl",
    "pi",
    "power",
    "radians",
    "random",
    "round",
    "signum",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
    "trunc",
    // patterns
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "regexp_match",
];

/// Ours, and what is replaced by ours.
const OWN: &[&str] = &["to_local_time", "first_day", "bucket_starts"];

/// Whether the function is the same for every call.
pub(crate) fn is_shared(function: &ScalarUDF) -> bool {
    PLAIN.contains(&function.name()) || OWN.contains(&function.name())
}

/// Of all functions of a session those that take every value, or aren't computed row by row.
const TAKE_ALL: &[&str] = &[
    "arrow_cast",
    "arrow_try_cast",
    "arrow_typeof",
    "coalesce",
    "current_date",
    "current_time",
    "get_field",
    "greatest",
    "least",
    "now",
    "nullif",
    "nvl",
    "nvl2",
    "pi",
    "random",
    // They answer NULL themselves.
    "business_seconds",
    "first_day",
    "bucket_starts",
];

/// Whether what its arguments can't be made into is NULL to it. A cast that is written in one of the others is one by itself.
pub(crate) fn takes_what_it_gets(function: &ScalarUDF) -> bool {
    may_fail(function) || ["greatest", "least", "nullif", "nvl2"].contains(&function.name())
}

/// Whether a row's value can make the function fail; then it answers NULL for the row.
pub(crate) fn may_fail(function: &ScalarUDF) -> bool {
    !TAKE_ALL.contains(&function.name()) && !row_errors::is_lenient(function)
}

/// The scalar functions that are the same for every call; `to_local_time` is replaced by a faster one.
pub(crate) fn shared() -> Vec<Arc<ScalarUDF>> {
    let mut functions = SessionStateDefaults::default_scalar_functions();
    functions.retain(|function| PLAIN.contains(&function.name()));
    functions.iter_mut().for_each(types::bound);
    functions.push(Arc::new(local::fast()));
    functions.extend(buckets::functions().map(Arc::new));
    functions
}

/// The scalar functions of one call: those that can make text longer share `budget`, business hours are the tenant's.
pub(crate) fn own(budget: &Arc<Budget>, clock: Clock) -> Vec<Arc<ScalarUDF>> {
    let functions = SessionStateDefaults::default_scalar_functions();
    let bounded = functions.into_iter().filter_map(|function| text::bounded(function, budget));
    bounded.chain([clock.function()]).map(Arc::new).collect()
}

/// The aggregates, `percentile_cont` replaced by an exact one, and `covered_ms`.
pub(crate) fn aggregate() -> Vec<Arc<AggregateUDF>> {
    let mut functions = SessionStateDefaults::default_aggregate_functions();
    functions.retain(|f| f.name() != "percentile_cont");
    functions.extend([percentile::exact(), covered::function()].map(Arc::new));
    functions
}

/// The planners, with `||` sent through the bounded concatenation.
pub(crate) fn planners(budget: &Arc<Budget>) -> Vec<Arc<dyn ExprPlanner>> {
    let mut planners: Vec<Arc<dyn ExprPlanner>> = vec![Arc::new(text::ConcatPlanner::new(budget))];
    planners.extend(SessionStateDefaults::default_expr_planners());
    planners
}
