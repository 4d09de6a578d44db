//! The list of routes: what each takes, gives and wants of its caller. The router is built from it, so neither can
//! have a route that the other lacks.
//!
//! [`Routes`] is the list being put together; [`Way`] says who may. `describe` reads parameters, bodies and answers off
//! the handlers' own types. `openapi` makes the document.

pub mod describe;
mod openapi;

use crate::app::App;
use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodFilter, on};
use describe::{Endpoint, Operation, Part};
use ingest::payload::Permission;
pub use openapi::document;
use schemars::JsonSchema;
use std::sync::Arc;

/// One way to be let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// No credential at all.
    Anyone,
    /// A chatbot's public key, as `X-Chatbot-Key`.
    ChatbotKey,
    /// A visitor's session token.
    Visitor,
    /// Any signed-in agent.
    Agent,
    /// A signed-in agent with this permission.
    May(Permission),
    /// A signed-in agent with all of these permissions.
    Holding(&'static [Permission]),
    /// The agent whom the path names.
    Oneself,
    /// A `/v0` token, or an agent who may read reports.
    Reports,
    /// A `/v0` token with a scope for it.
    Scoped,
    /// The operator of the installation.
    Operator,
    /// A credential in the body, or none: the handler says what it wants.
    Body,
}

impl Way {
    /// Statuses with which those are refused who don't come this way.
    fn refusals(self) -> &'static [u16] {
        match self {
            Self::Anyone => &[],
            Self::Body | Self::Operator => &[401],
            // 403: a page's origin, or an agent's permissions.
            _ => &[401, 403],
        }
    }
}

/// Any signed-in agent.
pub const AGENT: &[Way] = &[Way::Agent];
/// Everyone.
pub const ANYONE: &[Way] = &[Way::Anyone];
/// A visitor with a session token.
pub const VISITOR: &[Way] = &[Way::Visitor];
/// Whoever runs the installation.
pub const OPERATOR: &[Way] = &[Way::Operator];
/// A credential in the body.
pub const BODY: &[Way] = &[Way::Body];
/// A `/v0` token that may write, or an agent who may make such tokens.
pub const WRITERS: &[Way] = &[Way::Scoped, Way::Holding(&[Permission::ReportsRead, Permission::TokensWrite])];
/// A `/v0` token.
pub const REPORTS: &[Way] = &[Way::Reports];

/// A route as it's listed.
#[derive(Debug, Clone)]
pub struct Route {
    /// `GET`, `POST`, …
    pub method: &'static str,
    /// As axum matches it: `/v1/agents/{id}`.
    pub path: &'static str,
    /// The section of the documentation.
    pub topic: &'static str,
    /// Who may call it: any of these.
    pub who: &'static [Way],
    /// What it does, as a sentence.
    pub summary: &'static str,
    /// What the handler's types don't say.
    more: Vec<fn(&mut Operation<'_>)>,
    /// Statuses of success, where the handler's type doesn't say them.
    statuses: &'static [u16],
    describe: fn(&mut Operation<'_>),
}

/// Routes being put together; [`Routes::take`] ends it.
#[must_use]
pub struct Routes {
    topic: &'static str,
    list: Vec<Route>,
    router: Router<Arc<App>>,
}

macro_rules! methods {
    ($($name:ident = $filter:ident;)*) => {$(
        /// Adds a route.
        pub fn $name<H, M, E>(
            self,
            path: &'static str,
            handler: H,
            who: &'static [Way],
            summary: &'static str,
        ) -> Self
        where
            H: Handler<M, Arc<App>> + Endpoint<E>,
            M: 'static,
        {
            self.add(MethodFilter::$filter, stringify!($filter), path, handler, who, summary)
        }
    )*};
}

impl Routes {
    /// No routes yet; those to come are about `topic`.
    pub fn new(topic: &'static str) -> Self {
        Self { topic, list: Vec::new(), router: Router::new() }
    }

    methods! {
        get = GET;
        post = POST;
        put = PUT;
        patch = PATCH;
        delete = DELETE;
    }

    fn add<H, M, E>(
        mut self,
        filter: MethodFilter,
        method: &'static str,
        path: &'static str,
        handler: H,
        who: &'static [Way],
        summary: &'static str,
    ) -> Self
    where
        H: Handler<M, Arc<App>> + Endpoint<E>,
        M: 'static,
    {
        let (topic, describe) = (self.topic, H::describe as fn(&mut Operation<'_>));
        self.list.push(Route { method, path, topic, who, summary, more: Vec::new(), statuses: &[], describe });
        self.router = self.router.route(path, on(filter, handler));
        self
    }

    fn last(&mut self) -> &mut Route {
        self.list.last_mut().expect("a route is added before more is said about it")
    }

    /// What the last route answers, where its handler's type doesn't say it: JSON of `T` with one of these statuses.
    pub fn answers<T: JsonSchema>(mut self, statuses: &'static [u16]) -> Self {
        self.last().statuses = statuses;
        self.also(|operation| operation.gives_json::<T>())
    }

    /// The statuses with which the last route answers what its handler's type says.
    pub fn statuses(mut self, statuses: &'static [u16]) -> Self {
        self.last().statuses = statuses;
        self
    }

    /// What the last route takes, where its handler's type doesn't say it.
    pub fn takes<P: Part>(self) -> Self {
        self.also(P::describe)
    }

    /// Says more about the last route.
    pub fn also(mut self, more: fn(&mut Operation<'_>)) -> Self {
        self.last().more.push(more);
        self
    }

    /// Routes of another topic come along.
    pub fn merge(mut self, other: Self) -> Self {
        self.list.extend(other.list);
        self.router = self.router.merge(other.router);
        self
    }

    /// Puts layers around the routes so far. Routes added in here aren't listed: only pages are.
    pub fn around(mut self, wrap: impl FnOnce(Router<Arc<App>>) -> Router<Arc<App>>) -> Self {
        self.router = wrap(self.router);
        self
    }

    /// The list and the router made from it.
    pub fn take(self) -> (Vec<Route>, Router<Arc<App>>) {
        (self.list, self.router)
    }
}
