//! The dialect that SQL is read in: the engine's own, whose parser counts its steps. It tries one reading of a bracket after another, and each
//! again for every bracket inside, so a short text may take it years (`x IN (SELECT IN (SELECT IN (…`); a parser can't be stopped from
//! outside. Start at [`Counted`].

use std::any::TypeId;
use std::cell::Cell;

use datafusion::sql::sqlparser::ast::Expr;
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::parser::{Parser, ParserError};

/// Expressions that are begun while a text is read. A text has half as many at most as it has bytes; the rest is for second readings.
const STEPS_MAX: usize = 250_000;

thread_local! {
    /// Steps of the text that is read on this thread.
    static STEPS: Cell<usize> = const { Cell::new(0) };
}

/// Begins to count for another text.
pub(crate) fn restart() {
    STEPS.set(0);
}

/// [`GenericDialect`], counting.
#[derive(Debug)]
pub(crate) struct Counted;

/// What is asked of the dialect, asked of the engine's.
macro_rules! of_the_engine {
    ($($name:ident)*) => {
        $(fn $name(&self) -> bool {
            GenericDialect.$name()
        })*
    };
}

impl Dialect for Counted {
    /// The parser asks which dialect it is as well as what it has.
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn parse_prefix(&self, _: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let steps = STEPS.get() + 1;
        STEPS.set(steps);
        // The only error after which the parser tries no other reading.
        (steps > STEPS_MAX).then_some(Err(ParserError::RecursionLimitExceeded))
    }

    fn is_delimited_identifier_start(&self, letter: char) -> bool {
        GenericDialect.is_delimited_identifier_start(letter)
    }

    fn is_identifier_start(&self, letter: char) -> bool {
        GenericDialect.is_identifier_start(letter)
    }

    fn is_identifier_part(&self, letter: char) -> bool {
        GenericDialect.is_identifier_part(letter)
    }

    of_the_engine! {
        allow_extract_custom
        allow_extract_single_quotes
        convert_type_before_value
        describe_requires_table_keyword
        ignores_wildcard_escapes
        require_interval_qualifier
        requires_single_line_comment_whitespace
        support_map_literal_syntax
        supports_alter_column_type_using
        supports_array_join_syntax
        supports_array_typedef_with_brackets
        supports_array_typedef_without_element_type
        supports_asc_desc_in_column_definition
        supports_bang_not_operator
        supports_binary_kw_as_cast
        supports_bitwise_shift_operators
        supports_boolean_literals
        supports_column_definition_trailing_commas
        supports_comma_separated_drop_column_list
        supports_comma_separated_set_assignments
        supports_comma_separated_trim
        supports_comment_on
        supports_comment_optimizer_hint
        supports_connect_by
        supports_constraint_keyword_without_name
        supports_create_index_with_clause
        supports_create_table_like_parenthesized
        supports_create_table_multi_schema_info_sources
        supports_create_table_select
        supports_create_table_using
        supports_create_view_comment_syntax
        supports_cross_join_constraint
        supports_cte_without_as
        supports_data_type_signed_suffix
        supports_detach
        supports_dictionary_syntax
        supports_dollar_as_money_prefix
        supports_dollar_placeholder
        supports_double_ampersand_operator
        supports_empty_projections
        supports_end_transaction_modifier
        supports_eq_alias_assignment
        supports_execute_immediate
        supports_explain_with_utility_options
        supports_extract_comma_syntax
        supports_factorial_operator
        supports_filter_during_aggregation
        supports_from_first_insert
        supports_from_first_select
        supports_from_trailing_commas
        supports_geometric_types
        supports_group_by_expr
        supports_group_by_with_modifier
        supports_in_empty_list
        supports_insert_format
        supports_insert_set
        supports_insert_table_alias
        supports_insert_table_function
        supports_insert_table_query
        supports_install
        supports_interpolate
        supports_interval_options
        supports_key_column_option
        supports_lambda_functions
        supports_left_associative_joins_without_parens
        supports_limit_by
        supports_limit_comma
        supports_listen_notify
        supports_load_data
        supports_load_extension
        supports_long_type_as_bigint
        supports_map_literal_with_angle_brackets
        supports_match_against
        supports_match_recognize
        supports_multiline_comment_hints
        supports_named_fn_args_with_assignment_operator
        supports_named_fn_args_with_colon_operator
        supports_named_fn_args_with_eq_operator
        supports_named_fn_args_with_expr_name
        supports_named_fn_args_with_rarrow_operator
        supports_nested_comments
        supports_notnull_operator
        supports_numeric_literal_underscores
        supports_numeric_prefix
        supports_object_name_double_dot_notation
        supports_optimize_table
        supports_order_by_all
        supports_outer_join_operator
        supports_parens_around_table_factor
        supports_parenthesized_set_variables
        supports_partiql
        supports_partition_by_after_order_by
        supports_pipe_operator
        supports_prewhere
        supports_projection_trailing_commas
        supports_quote_delimited_string
        supports_select_exclude
        supports_select_expr_star
        supports_select_format
        supports_select_item_multi_column_alias
        supports_select_modifiers
        supports_select_wildcard_except
        supports_select_wildcard_exclude
        supports_select_wildcard_ilike
        supports_select_wildcard_rename
        supports_select_wildcard_replace
        supports_select_wildcard_with_alias
        supports_semantic_view_table_factor
        supports_set_names
        supports_set_stmt_without_operator
        supports_settings
        supports_show_like_before_in
        supports_space_separated_column_options
        supports_start_transaction_modifier
        supports_string_escape_constant
        supports_string_literal_backslash_escape
        supports_string_literal_concatenation
        supports_string_literal_concatenation_with_newline
        supports_struct_literal
        supports_subquery_as_function_arg
        supports_table_hints
        supports_table_sample_before_alias
        supports_table_versioning
        supports_top_before_distinct
        supports_trailing_commas
        supports_triple_quoted_string
        supports_try_convert
        supports_unicode_string_literal
        supports_update_order_by
        supports_user_host_grantee
        supports_values_as_table_factor
        supports_window_clause_named_window_reference
        supports_window_function_null_treatment_arg
        supports_with_fill
        supports_within_after_array_aggregation
        supports_xml_expressions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::ast::Statement;
    use std::time::{Duration, Instant};

    #[expect(clippy::disallowed_methods, reason = "both are compared")]
    fn parsed(dialect: &dyn Dialect, sql: &str) -> Result<Vec<Statement>, ParserError> {
        restart();
        Parser::parse_sql(dialect, sql)
    }

    /// What only some dialects have, so that one that isn't asked for shows.
    #[test]
    fn it_reads_as_the_engines_does() {
        for sql in [
            "SELECT a, b FROM t WHERE a = 'it''s' AND b LIKE 'x\\%' ESCAPE '\\'",
            "FROM t",
            "FROM t SELECT a",
            "SELECT * EXCLUDE (a) FROM t",
            "SELECT * EXCEPT (a) REPLACE (1 AS b) FROM t",
            "SELECT {'a': 1}, MAP {'a': 1}, [1, 2][1], x -> x + 1, STRUCT(1 AS a)",
            "SELECT a ->> 'b', a::text, a AT TIME ZONE 'UTC', 1_000, .5, 5!, !a, a DIV 2",
            "SELECT count(*) FILTER (WHERE a), sum(a) OVER w, first_value(a IGNORE NULLS) OVER (ORDER BY b) FROM t WINDOW w AS (ORDER BY a)",
            "SELECT a FROM t GROUP BY ALL ORDER BY ALL LIMIT 1, 2",
            "SELECT a FROM t GROUP BY a WITH ROLLUP QUALIFY row_number() OVER () = 1",
            "SELECT a FROM t LIMIT 5 OFFSET 2 ROWS",
            "SELECT TOP 5 a FROM t",
            "SELECT /* a /* b */ c */ 1 -- d",
            "SELECT \"a\", `b` FROM \"T\" AS t",
            "SELECT U&'\\0041', E'\\n', N'a', X'ff', $$a$$, B'1'",
            "SELECT CAST(NULL AS INT[]), CAST(NULL AS ARRAY<INT>), TRY_CONVERT(INT, a), INTERVAL '1 day', DATE '2024-01-01'",
            "SELECT EXTRACT(day FROM a), TRIM(BOTH 'a' FROM b), POSITION('a' IN b), SUBSTRING(a FROM 1 FOR 2), OVERLAY(a PLACING b FROM 1)",
            "SELECT f(a => 1), f(a := 1), f(SELECT 1), g(DISTINCT a ORDER BY b LIMIT 3)",
            "SELECT 1 WHERE a IN () OR a NOTNULL OR a ISNULL OR a IS DISTINCT FROM b OR a SIMILAR TO 'b' OR a ~* 'c' OR a RLIKE 'd'",
            "SELECT * FROM a NATURAL JOIN b, LATERAL (SELECT 1) c, UNNEST([1]) WITH OFFSET, (VALUES (1)) v (x), d TABLESAMPLE (10 PERCENT)",
            "SELECT * FROM t |> WHERE a",
            "SELECT a FROM t SETTINGS b = 1 FORMAT CSV",
            "SELECT , FROM t",
            "SELECT a, FROM t",
            "WITH a AS MATERIALIZED (SELECT 1) SELECT 1 UNION BY NAME SELECT 2 EXCEPT SELECT 3",
            "SELECT {d '2024-01-01'}, {fn abs(1)}, CASE a WHEN 1 THEN 2 END, ROW(1, 2), (1, 2)",
            "SELECT a FROM t PREWHERE b WHERE c LIMIT 1 BY d",
            "EXPLAIN (ANALYZE) SELECT 1",
            "SELECT a COLLATE \"C\", @x, $1, ?, :name, #t, 'a' 'b'",
        ] {
            assert_eq!(parsed(&Counted, sql), parsed(&GenericDialect, sql), "{sql}");
        }
    }

    #[test]
    fn readings_of_readings_end() {
        for each in ["x IN (SELECT IN (", "f(SELECT (", "((SELECT IN (x ", "CASE x IN (", "CAST((SELECT IN ("] {
            for times in [10, 50, 95] {
                let started = Instant::now();
                let read = parsed(&Counted, &format!("SELECT {}", each.repeat(times / each.matches('(').count())));
                assert!(read.is_err(), "{each}");
                assert!(started.elapsed() < Duration::from_secs(3), "{each}: {:?}", started.elapsed());
            }
        }
    }
}
