//! A node of an endpoint: its template, and the parameters that it declares. Endpoints that ship and those of tenants' own are
//! made of these; what is put in the place of a parameter that a call leaves out is the node's own default, unless who
//! renders it says otherwise. Start at [`load`].

use chrono_tz::Tz;
use serde::Serialize;

use crate::call::Params;
use crate::datafile::Node;
use crate::error::QueryError;
use crate::template::{self, Args, Budget, Rendered, Template};

/// Sent by clients for themselves; no endpoint may use them.
pub const RESERVED_PARAMETERS: [&str; 4] = ["from", "token", "q", "format"];

/// A parameter as `GET /v0/pipes/{name}` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ParameterDescription {
    /// As it is sent.
    pub name: String,
    /// Tinybird's type name.
    #[serde(rename = "type")]
    pub kind: String,
    /// A call without it is refused.
    pub required: bool,
    /// As text; `None` when it is left out or set by the server (`date_from` and the like).
    pub default: Option<String>,
    /// For people.
    pub description: Option<String>,
    /// When only some values are accepted.
    #[serde(rename = "enum", skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
}

/// An endpoint as `GET /v0/pipes` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointDescription {
    /// The name in the path.
    pub name: String,
    /// For people.
    pub description: String,
    /// In the order the SQL names them.
    pub parameters: Vec<ParameterDescription>,
    /// The SQL, a template when it takes parameters.
    pub sql: String,
}

/// A file that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("failed to load endpoint {name}: {message}")]
pub struct LoadError {
    name: String,
    message: String,
}

impl LoadError {
    pub(crate) fn new(name: &str, message: String) -> Self {
        Self { name: name.to_owned(), message }
    }

    /// What is wrong.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// One that can be rendered.
pub(crate) struct EndpointNode {
    template: Template,
    pub(crate) description: EndpointDescription,
}

/// Reads a node of the file `name`; all its nodes have one budget.
pub(crate) fn load(
    name: &str,
    as_name: &str,
    description: &str,
    node: &Node,
    budget: &mut Budget,
) -> Result<EndpointNode, LoadError> {
    let fail = |message: String| LoadError { name: name.to_owned(), message };
    let template = read_template(node, budget).map_err(fail)?;
    if let Some(reserved) = template.declared.iter().find(|d| RESERVED_PARAMETERS.contains(&d.name.as_str())) {
        return Err(fail(format!("the parameter `{}` is reserved", reserved.name)));
    }
    let parameters: Vec<ParameterDescription> = template
        .declared
        .iter()
        .map(|d| ParameterDescription {
            name: d.name.clone(),
            kind: d.kind.name(),
            required: d.required,
            default: d.default.as_ref().map(template::Value::constant_text),
            description: d.description.clone(),
            allowed: d.allowed.iter().map(template::Value::constant_text).collect(),
        })
        .collect();
    let description = EndpointDescription {
        name: as_name.to_owned(),
        description: description.to_owned(),
        parameters,
        sql: node.sql.clone(),
    };
    Ok(EndpointNode { template, description })
}

fn read_template(node: &Node, budget: &mut Budget) -> Result<Template, String> {
    if !node.template && (node.sql.contains("{{") || node.sql.contains("{%")) {
        return Err("the SQL has template tags but does not start with `%`".to_owned());
    }
    template::parse(&node.sql, budget).map_err(|e| format!("the SQL's {e}"))
}

/// What a call gives, and nothing else; its wall-clock times are of `zone`.
pub(crate) fn args(params: &Params, zone: Tz) -> Args<'_> {
    let mut args = Args::new(params, zone);
    for reserved in RESERVED_PARAMETERS {
        args.set(reserved, None);
    }
    args
}

impl EndpointNode {
    /// Whether its template declares a parameter of that name.
    pub(crate) fn declares(&self, name: &str) -> bool {
        self.template.declared.iter().any(|declared| declared.name == name)
    }

    /// The SQL of one call. A call of several nodes has one budget.
    /// # Errors  `Parameter` for a bad value, `Refused` for the endpoint's own errors, `TemplateTooLarge`.
    pub(crate) fn render(&self, args: &Args<'_>, budget: &mut Budget) -> Result<Rendered, QueryError> {
        template::render(&self.template, args, budget)
    }
}
