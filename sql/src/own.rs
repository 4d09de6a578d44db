//! A tenant's own endpoint: a datafile of several nodes. A node may name the others as if they were tables; the call's
//! statement is the answering node's query, with those it needs as common tables in front. Start at [`OwnPipe::parse`].

use std::collections::{BTreeMap, HashMap};

use chrono_tz::Tz;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;

use crate::call::{Caller, Params};
use crate::datafile;
use crate::endpoint_node::{self, EndpointDescription, EndpointNode, LoadError, ParameterDescription};
use crate::error::QueryError;
use crate::expand;
use crate::gate::{self, Extra, Passed};
use crate::reads::{Published, Readable, TableName, Tables};
use crate::source::Source;
use crate::template::{self, Budget};

/// Nodes of a pipe.
pub const PIPE_NODES_MAX: usize = 30;
/// Bytes of a pipe's text.
pub const PIPE_BYTES_MAX: usize = 64 * 1024;

/// About what a pipe takes beside its texts and their parts.
const PIPE_BYTES: usize = 4 * 1024;
/// About what a tag or a token becomes.
const PART_BYTES: usize = 160;

/// A pipe that a tenant published.
pub struct OwnPipe {
    nodes: Vec<(String, EndpointNode)>,
    /// The one that answers.
    answers: usize,
    description: EndpointDescription,
    bytes: usize,
}

impl std::fmt::Debug for OwnPipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OwnPipe").field(&self.description.name).finish()
    }
}

impl OwnPipe {
    /// As it is called.
    pub(crate) fn name(&self) -> &str {
        &self.description.name
    }

    /// Reads a datafile. Without `TYPE endpoint` its last node answers.
    /// # Errors  What in it can't be served.
    pub fn parse(name: &str, text: &str) -> Result<Self, LoadError> {
        let fail = |message: String| LoadError::new(name, message);
        if text.len() > PIPE_BYTES_MAX {
            return Err(fail(format!("it has {} bytes, the limit is {PIPE_BYTES_MAX}", text.len())));
        }
        let file = datafile::parse(text).map_err(|e| fail(e.to_string()))?;
        let answering: Vec<usize> =
            file.nodes.iter().enumerate().filter(|(_, node)| node.endpoint).map(|(at, _)| at).collect();
        let answers = match (answering.as_slice(), file.nodes.len()) {
            (_, 0) => return Err(fail("it has no node".to_owned())),
            (_, PIPE_NODES_MAX..) if file.nodes.len() > PIPE_NODES_MAX => {
                return Err(fail(format!("it has more than {PIPE_NODES_MAX} nodes")));
            }
            ([one], _) => *one,
            ([], nodes) => nodes - 1,
            _ => return Err(fail("more than one node has `TYPE endpoint`".to_owned())),
        };
        let mut nodes: Vec<(String, EndpointNode)> = Vec::new();
        let mut budget = Budget::of_reading();
        for node in &file.nodes {
            let known = node.name.to_lowercase();
            if !is_name(&known) || nodes.iter().any(|(other, _)| *other == known) {
                return Err(fail(format!("the node's name `{}` can't be one, or is there twice", node.name)));
            }
            if node.sql.is_empty() {
                return Err(fail(format!("the node `{}` has no SQL", node.name)));
            }
            nodes.push((known, endpoint_node::load(name, &node.name, &node.description, node, &mut budget)?));
        }
        let description = described(name, &file.description, &nodes, answers).map_err(fail)?;
        let (parts, copied) = budget.spent();
        let bytes = PIPE_BYTES + 2 * text.len() + copied + parts * PART_BYTES;
        Ok(Self { nodes, answers, description, bytes })
    }

    /// What it takes in memory, about.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The pipe as an endpoint: its parameters are those of all nodes.
    pub fn description(&self) -> &EndpointDescription {
        &self.description
    }

    /// The nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = &EndpointDescription> {
        self.nodes.iter().map(|(_, endpoint)| &endpoint.description)
    }

    /// The name of the node that answers.
    pub fn answering(&self) -> &str {
        &self.nodes[self.answers].0
    }

    /// Values with which the pipe can be tried: something of its type for every parameter that a call must bring.
    pub(crate) fn sample(&self) -> Params {
        let required = self.description.parameters.iter().filter(|p| p.required);
        required.map(|p| (p.name.clone(), vec![sample(p)])).collect()
    }

    /// The statement of one call.
    /// # Errors  As a shipped endpoint's; 400 for nodes that need each other in a circle.
    pub(crate) fn statement(&self, params: &Params) -> Result<Passed, QueryError> {
        let budget = Budget::of_rendering();
        let mut call = Call { pipe: self, params, budget, done: BTreeMap::new(), path: Vec::new(), order: Vec::new() };
        call.visit(self.answers)?;
        let Call { mut done, order, .. } = call;
        let mut common = Vec::new();
        let (mut answer, mut sources) = (None, Vec::new());
        for at in order {
            let Some(passed) = done.remove(&at) else { continue };
            sources.extend(passed.source.map(|source| (self.nodes[at].0.as_str(), source)));
            if at == self.answers {
                answer = Some(passed);
            } else {
                common.push(common_table(&self.nodes[at].0, passed.statement)?);
            }
        }
        let Passed { mut statement, format, .. } = answer.ok_or(QueryError::Internal)?;
        let query = gate::plain_query(&mut statement).ok_or_else(not_a_query)?;
        if !common.is_empty() {
            let nothing = || ast::With { with_token: AttachedToken::empty(), recursive: false, cte_tables: Vec::new() };
            let with = query.with.get_or_insert_with(nothing);
            // In front, so that the node's own common tables see them.
            with.cte_tables.splice(0..0, common);
        }
        expand::check(query)?;
        // Of the whole: a node takes a table's place where the planner lets it, and not where the schema is named too.
        let tables = gate::tables(&statement, Extra::default())?;
        Ok(Passed { statement, tables, format, source: Some(Source::nodes(sources)) })
    }

    /// The tables it names with its sample values and that are no node's name: what it was held to, when it was published,
    /// before its publisher's rights were kept. None if it refuses these values.
    fn named_by_default(&self) -> Tables {
        let named = self.statement(&self.sample()).map(|passed| passed.tables).unwrap_or_default();
        named.iter().filter(|table| self.place(table).is_none()).map(|table| TableName::of(table)).collect()
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|(known, _)| known == name)
    }
}

impl Published {
    /// The caller with the tables that the publisher could read, and the row filters of both.
    pub(crate) fn reader(&self, caller: &Caller) -> Caller {
        let Some(reads) = &self.reads else {
            return Caller { readable: Readable::Only(self.pipe.named_by_default()), ..caller.clone() };
        };
        let mut reader = Caller { readable: reads.tables.clone(), ..caller.clone() };
        for (table, conditions) in &reads.filters {
            let both = reader.filters.entry(table.clone()).or_default();
            for condition in conditions {
                if !both.contains(condition) {
                    both.push(condition.clone());
                }
            }
        }
        reader
    }
}

/// What is known of the nodes while they are put in order.
struct Call<'a> {
    pipe: &'a OwnPipe,
    params: &'a Params,
    /// Of all its nodes together.
    budget: Budget,
    done: BTreeMap<usize, Passed>,
    path: Vec<usize>,
    /// Those that are needed before those that need them.
    order: Vec<usize>,
}

impl Call<'_> {
    fn visit(&mut self, at: usize) -> Result<(), QueryError> {
        if self.done.contains_key(&at) {
            return Ok(());
        }
        self.path.push(at);
        let node = &self.pipe.nodes[at].1;
        // As Tinybird does, and as SQL computes: only what ships knows the tenant's zone.
        let rendered = node.render(&endpoint_node::args(self.params, Tz::UTC), &mut self.budget)?;
        let mut statement = gate::parse(&rendered.sql)?;
        gate::plain_query(&mut statement).ok_or_else(not_a_query)?;
        template::bind(&mut statement, &rendered.literals)?;
        let passed = gate::check(statement, Source::rendered(&rendered))?;
        for needed in passed.tables.iter().filter_map(|table| self.pipe.place(table)) {
            if let Some(from) = self.path.iter().position(|other| *other == needed) {
                let names = self.path[from..].iter().chain([&needed]).map(|at| self.pipe.nodes[*at].0.as_str());
                let circle = names.collect::<Vec<_>>().join(" → ");
                return Err(QueryError::sql(format!("the nodes need each other in a circle: {circle}"), None));
            }
            self.visit(needed)?;
        }
        self.path.pop();
        self.done.insert(at, passed);
        self.order.push(at);
        Ok(())
    }
}

fn not_a_query() -> QueryError {
    QueryError::not_allowed("EXPLAIN in a node", None)
}

fn common_table(name: &str, mut statement: Statement) -> Result<ast::Cte, QueryError> {
    let query = gate::plain_query(&mut statement).ok_or_else(not_a_query)?.clone();
    let name = ast::Ident::with_quote('"', name);
    Ok(ast::Cte {
        alias: ast::TableAlias { explicit: true, name, columns: Vec::new(), at: None },
        query: Box::new(query),
        from: None,
        materialized: None,
        closing_paren_token: AttachedToken::empty(),
    })
}

fn is_name(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    starts && name.len() <= 100 && name != "_" && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn described(
    name: &str,
    description: &str,
    nodes: &[(String, EndpointNode)],
    answers: usize,
) -> Result<EndpointDescription, String> {
    let mut parameters: Vec<ParameterDescription> = Vec::new();
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    for found in nodes.iter().flat_map(|(_, endpoint)| &endpoint.description.parameters) {
        match by_name.get(found.name.as_str()).and_then(|at| parameters.get_mut(*at)) {
            None => {
                by_name.insert(&found.name, parameters.len());
                parameters.push(found.clone());
            }
            Some(known) if known.kind != found.kind => {
                return Err(format!("`{}` is declared with two types", found.name));
            }
            Some(known) => known.required |= found.required,
        }
    }
    let answer = &nodes[answers].1.description;
    let texts = [description, answer.description.as_str()];
    Ok(EndpointDescription {
        name: name.to_owned(),
        description: texts.into_iter().find(|text| !text.is_empty()).unwrap_or_default().to_owned(),
        parameters,
        sql: answer.sql.clone(),
    })
}

fn sample(parameter: &ParameterDescription) -> String {
    if let Some(allowed) = parameter.allowed.first() {
        return allowed.clone();
    }
    let kind = parameter.kind.strip_prefix("Array(").unwrap_or(&parameter.kind);
    match kind.trim_end_matches(')') {
        "String" => "x",
        "Date" => "2024-01-01",
        "DateTime" => "2024-01-01 00:00:00",
        "Boolean" => "true",
        _ => "1",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint_node::RESERVED_PARAMETERS;
    use crate::endpoints::Endpoints;

    /// The statement of a pipe of this template, in which `NAME` is a parameter's name.
    fn statement(template: &str, name: &str, given: Option<&str>) -> String {
        let text = format!("NODE n\nSQL >\n%\n{}\n", template.replace("NAME", name));
        let pipe = OwnPipe::parse("own", &text).expect(&text);
        let params = given.map(|value| (name.to_owned(), vec![value.to_owned()])).into_iter().collect();
        let statement = pipe.statement(&params).map(|passed| passed.statement.to_string());
        statement.unwrap_or_else(|error| format!("refused: {}", error.status()))
    }

    /// A name that an endpoint which ships has for a parameter is any name in a tenant's own: nothing is put in its place, and
    /// it doesn't say how others are read.
    #[test]
    fn names_of_shipped_parameters_mean_nothing_in_a_tenant_s_own_endpoint() {
        let shipped = Endpoints::shipped().expect("endpoints");
        let parameters = shipped.descriptions().flat_map(|endpoint| &endpoint.parameters);
        let mut names: Vec<&str> = parameters.map(|parameter| parameter.name.as_str()).collect();
        // Those that the server sets for templates which don't declare them.
        names.extend(["whole_minutes", "ended"]);
        names.sort_unstable();
        names.dedup();
        assert!(["by", "date_from", "date_to", "ended", "hours", "time_zone"].iter().all(|name| names.contains(name)));
        let templates = [
            "SELECT {{String(NAME)}}, {{defined(NAME)}}",
            "SELECT {{String(NAME, 'the file says')}}",
            "SELECT {{Date(NAME, '2020-02-02')}}",
            "SELECT {{DateTime(NAME, '2020-02-02 10:00:00')}}",
            "SELECT {{Int32(NAME, 7)}}",
            "SELECT {{NAME}}{% if NAME == 'yes' %}, 1{% end %}",
            "SELECT {{DateTime(date_from)}}, {{DateTime(date_to, '2020-02-02 10:00:00')}}, {{NAME}}",
            "SELECT {{DateTime(other, '2020-02-02 10:00:00')}}, {{String(NAME, 'x')}}",
        ];
        for name in names {
            assert!(!RESERVED_PARAMETERS.contains(&name), "{name}");
            for template in templates {
                for given in [None, Some(""), Some("2021-03-04"), Some("Asia/Tokyo"), Some("no zone")] {
                    // A parameter that the template names too is the same one.
                    if template.contains(name) {
                        continue;
                    }
                    let expected = statement(template, "neutral", given);
                    assert_eq!(statement(template, name, given), expected, "{name} {template} {given:?}");
                }
            }
            let text = format!("NODE n\nSQL >\n%\nSELECT {{{{DateTime({name}, '2020-02-02 10:00:00')}}}}\n");
            let pipe = OwnPipe::parse("own", &text).expect("a pipe");
            let described: Vec<_> =
                pipe.description().parameters.iter().map(|p| (&*p.name, p.default.as_deref())).collect();
            assert_eq!(described, [(name, Some("2020-02-02 10:00:00"))]);
        }
    }
}
