//! Who may do what: every listed route by every kind of caller, and every id by another tenant's. The table is the
//! list the router is built from; here is only how to call each route rightly. A route without an entry in [`body`]
//! fails.

use crate::support::{Call, OPERATOR, PASSWORD, Reply, Server, Tenant, text};
use chat_api::auth::identity;
use chat_api::http::routes;
use chat_api::http::surface::{Route, Way};
use chat_api::store::hash;
use ingest::id::ConversationId;
use ingest::payload::{Permission, PermissionSet, Role};
use ingest::time::Timestamp;
use ring::hmac;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// When the tests' user hashes end: 2100.
const HASH_ENDS_S: i64 = 4_102_444_800;

/// A form with a file.
const FORM: &str =
    "--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nHello\r\n--XX--\r\n";

/// A body that is right for a route; none where none is needed. `{name}` is an id of the caller's tenant; see
/// [`World::fresh`].
pub(super) fn body(route: &Route) -> Option<Value> {
    configuration_body(route).or_else(|| chat_body(route)).or_else(|| {
        assert!(says_nothing(route), "{} {}: how is it called?", route.method, route.path);
        None
    })
}

/// Bodies of the tenant's own.
fn configuration_body(route: &Route) -> Option<Value> {
    Some(match (route.method, route.path) {
        ("POST", "/v1/tenants") => json!({
            "name": "New", "adminName": "N", "adminEmail": "{word}@new.example", "adminPassword": PASSWORD,
        }),
        ("PATCH", "/v1/tenants/me") => json!({ "name": "{word}" }),
        ("POST", "/v1/tenants/me/transfer-ownership") => json!({ "agentId": "{agent}" }),
        ("POST", "/v1/auth/login") => json!({ "email": "x@y.example", "password": PASSWORD }),
        ("POST", "/v1/auth/refresh") => json!({ "refresh_token": "x" }),
        ("POST", "/v1/auth/otp" | "/v1/auth/password/forgot") => json!({ "email": "{word}@y.example" }),
        ("POST", "/v1/auth/otp/verify") => json!({ "email": "{word}@y.example", "code": "123456" }),
        ("POST", "/v1/auth/password/reset") => json!({ "token": "x", "password": PASSWORD }),
        ("POST", "/v1/auth/password/change") => json!({ "currentPassword": PASSWORD, "newPassword": PASSWORD }),
        ("POST", "/v1/invitations") => json!({ "email": "{word}@acme.example", "role": "agent" }),
        ("POST", "/v1/invitations/accept") => json!({ "token": "x", "name": "N", "password": PASSWORD }),
        ("POST", "/v1/agents") => {
            json!({ "name": "{word}", "email": "{word}2@acme.example", "password": PASSWORD, "role": "agent" })
        }
        ("PATCH", "/v1/agents/{id}") => json!({ "name": "{word}2" }),
        ("PUT", "/v1/agents/{id}/status") => json!({ "status": "away" }),
        ("POST", "/v1/roles") => json!({ "name": "{word}2", "permissions": ["conversations:read"] }),
        ("POST", "/v1/groups" | "/v1/tags" | "/v1/chatbots") => json!({ "name": "{word}2" }),
        ("POST", "/v1/canned-responses") => json!({ "shortcut": "{word}2", "text": "Hello" }),
        ("PATCH", "/v1/canned-responses/{id}") => json!({ "shortcut": "{word}2" }),
        ("PATCH", "/v1/groups/{id}" | "/v1/tags/{id}" | "/v1/roles/{id}" | "/v1/chatbots/{id}") => {
            json!({ "name": "{word}2" })
        }
        ("POST", "/v1/groups/{id}/agents") => json!({ "agentIds": ["{agent}"] }),
        ("POST", "/v0/tokens" | "/v0/tokens/") => json!({ "name": "{word}" }),
        ("POST", "/v1/operator/tenants") => {
            json!({ "name": "{word}", "ownerName": "O", "ownerEmail": "{word}@op.example" })
        }
        ("PUT", "/agents/{agent_id}") => json!({ "available": false }),
        _ => return None,
    })
}

/// Bodies of visitors and conversations.
fn chat_body(route: &Route) -> Option<Value> {
    Some(match (route.method, route.path) {
        ("POST", "/v1/widget/session" | "/chats") => json!({ "name": "V" }),
        ("POST", "/v1/widget/identify") => {
            json!({ "userId": "{word}", "userHash": "{hash}", "userHashExp": HASH_ENDS_S })
        }
        ("POST", "/v1/widget/track") => json!({ "name": "opened" }),
        ("POST", "/v1/widget/events") => json!({ "content": "{word}" }),
        ("POST", "/v1/widget/rating") => json!({ "score": 5 }),
        ("POST", "/v1/widget/read" | "/v1/conversations/{id}/read") => json!({ "seq": 1 }),
        ("PATCH", "/v1/visitors/{id}") => json!({ "name": "{word}" }),
        ("PATCH", "/v1/conversations/{id}") => json!({ "notes": "{word}" }),
        ("POST", "/v1/conversations/{id}/assign" | "/v1/conversations/{id}/transfer") => {
            json!({ "agentId": "{agent}" })
        }
        ("POST", "/v1/conversations/{id}/snooze") => {
            json!({ "until": Timestamp::now().plus_ms(24 * 60 * 60 * 1_000).to_string() })
        }
        ("POST", "/v1/conversations/{id}/tags") => json!({ "add": ["{word}"] }),
        ("POST", "/v1/threads/{id}/events") => json!({ "type": "note", "content": "{word}" }),
        ("POST", "/api/v1/messages") => json!({ "conversation_id": "", "user_id": "", "message": "{word}" }),
        _ => return None,
    })
}

/// Routes that need no body.
fn says_nothing(route: &Route) -> bool {
    const ACTIONS: [&str; 23] = [
        "/files",
        "/restore",
        "/rotate-key",
        "/take",
        "/unassign",
        "/resolve",
        "/reopen",
        "/close",
        "/stale",
        "/typing",
        "/block",
        "/unblock",
        "/end",
        "/logout",
        "/tokens",
        "/sql",
        "/v0/pipes/{name}",
        "/v0/pipes",
        "/v0/events",
        "/v0/datasources",
        "/truncate",
        "/import",
        "/import/conversations",
    ];
    matches!(route.method, "GET" | "DELETE") || ACTIONS.iter().any(|end| route.path.ends_with(end))
}

/// More bodies of a route: with the ids that they can name.
fn more_bodies(route: &Route) -> Vec<Value> {
    match (route.method, route.path) {
        ("POST", "/v1/agents") => {
            vec![json!({ "name": "N", "email": "{word}2@acme.example", "password": PASSWORD, "role": "{role}" })]
        }
        ("PATCH", "/v1/agents/{id}") => vec![json!({ "role": "{role}" })],
        ("POST", "/v1/invitations") => vec![json!({ "email": "{word}@acme.example", "role": "{role}" })],
        ("POST", "/v1/conversations/{id}/transfer") => vec![json!({ "groupId": "{group}" })],
        ("PATCH", "/v1/conversations/{id}") => vec![json!({ "groupId": "{group}" })],
        ("POST", "/v1/chatbots") => vec![json!({ "name": "{word}2", "defaultGroupId": "{group}" })],
        ("PATCH", "/v1/chatbots/{id}") => vec![json!({ "defaultGroupId": "{group}" })],
        ("POST", "/v1/canned-responses") => {
            vec![json!({ "shortcut": "{word}2", "text": "Hello", "groupId": "{group}" })]
        }
        ("PATCH", "/v1/canned-responses/{id}") => vec![json!({ "groupId": "{group}" })],
        ("POST", "/v1/widget/session") => vec![json!({ "groupId": "{group}", "initialMessage": "Hi" })],
        _ => Vec::new(),
    }
}

/// Things with ids.
pub(crate) const THINGS: [&str; 11] =
    ["agent", "chatbot", "chat", "thread", "visitor", "group", "tag", "role", "canned", "file", "token"];

/// Which id a path's name means.
pub(super) fn id_of(path: &str, name: &str) -> &'static str {
    match (name, path.split('/').nth(2).unwrap_or_default()) {
        ("id", "agents") | ("agent_id" | "agentId", _) => "agent",
        ("id", "chatbots") => "chatbot",
        ("id", "conversations") | ("chat_id" | "conversation_id", _) => "chat",
        ("id", "threads") => "thread",
        ("id", "visitors") | ("user_id", _) => "visitor",
        ("id", "groups") => "group",
        ("id", "tags") => "tag",
        ("id", "roles") => "role",
        ("id", "canned-responses") => "canned",
        ("id", "files" | "widget") => "file",
        ("slug", _) => "slug",
        ("token", _) => "token",
        ("name", "datasources") => "source",
        ("name", _) => "pipe",
        _ => panic!("{path}: what is {{{name}}}?"),
    }
}

/// The names in a path's braces.
pub(super) fn names(path: &'static str) -> Vec<&'static str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
}

pub(crate) type Ids = BTreeMap<&'static str, String>;

/// Replaces `{name}` everywhere.
pub(super) fn filled(text: &str, ids: &Ids) -> String {
    ids.iter().fold(text.to_owned(), |text, (name, id)| text.replace(&format!("{{{name}}}"), id))
}

fn path(route: &Route, id: impl Fn(&'static str) -> String) -> String {
    names(route.path)
        .into_iter()
        .fold(route.path.to_owned(), |path, name| path.replace(&format!("{{{name}}}"), &id(name)))
}

pub(crate) fn own_path(route: &Route, ids: &Ids) -> String {
    let path = path(route, |name| ids[id_of(route.path, name)].clone());
    match (route.method, route.path) {
        ("POST", "/v1/operator/import") => format!("{path}?tenant={}", ids["slug"]),
        ("GET", "/v0/sql") => format!("{path}?q=SELECT+1"),
        ("POST", "/v0/events") => format!("{path}?name={}", ids["word"]),
        ("POST", "/v0/datasources") => format!("{path}?name={}&format=ndjson", ids["word"]),
        ("POST", "/v0/pipes") => format!("{path}?name={}&sql=SELECT+1+AS+one", ids["word"]),
        _ => path,
    }
}

/// All that a route's path and bodies name, as `{thing}`.
pub(super) fn wants(route: &Route) -> String {
    let mut text: String =
        names(route.path).into_iter().map(|name| format!("{{{}}}", id_of(route.path, name))).collect();
    body(route).into_iter().chain(more_bodies(route)).for_each(|body| text.push_str(&body.to_string()));
    text
}

/// Somebody with a credential, or none.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    name: String,
    pub(super) credential: Option<(&'static str, String)>,
    permissions: Option<PermissionSet>,
}

impl Caller {
    pub(super) fn bearer(name: &str, token: &str, permissions: Option<PermissionSet>) -> Self {
        let credential = Some(("authorization", format!("Bearer {token}")));
        Self { name: name.to_owned(), credential, permissions }
    }

    pub(super) fn page(tenant: &Tenant) -> Self {
        let credential = Some(("x-chatbot-key", tenant.chatbot_key.clone()));
        Self { name: "page".to_owned(), credential, permissions: None }
    }

    pub(super) fn owner(tenant: &Tenant) -> Self {
        Self::bearer("owner", &tenant.token, Some(Role::Owner.permissions()))
    }

    /// Whether one of the route's ways is theirs.
    fn may(&self, route: &Route) -> bool {
        let has = |permission| self.permissions.is_some_and(|set| set.has(permission));
        route.who.iter().any(|way| match way {
            Way::Anyone => true,
            Way::Body => route.path == "/v1/auth/logout" && self.permissions.is_some(),
            Way::ChatbotKey => self.name == "page",
            Way::Visitor => self.name.ends_with("visitor"),
            Way::Agent => self.permissions.is_some(),
            Way::May(permission) => has(*permission),
            Way::Holding(all) => all.iter().all(|permission| has(*permission)),
            Way::Oneself => self.name == "oneself",
            Way::Reports => has(Permission::ReportsRead),
            Way::Scoped => false,
            Way::Operator => self.name == "operator",
        })
    }
}

pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) acme: Tenant,
    globex: Tenant,
    /// An agent of each built-in role.
    agents: Vec<(Role, String)>,
    signed_in: Vec<Caller>,
    /// Agents who hold everything but one permission.
    lacking: BTreeMap<&'static str, Caller>,
    words: u32,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(Server::start()).await
    }

    pub(crate) async fn on(server: Server) -> Self {
        let (acme, globex) = (server.tenant("Acme").await, server.tenant("Globex").await);
        let mut agents = Vec::new();
        let mut signed_in = Vec::new();
        for role in [Role::Owner, Role::Admin, Role::Supervisor, Role::Agent, Role::Viewer] {
            let (id, token) = server.agent(&acme, &format!("some-{}", role.as_str()), role.as_str()).await;
            agents.push((role, id));
            signed_in.push(Caller::bearer(role.as_str(), &token, Some(role.permissions())));
        }
        Self { server, acme, globex, agents, signed_in, lacking: BTreeMap::new(), words: 0 }
    }

    fn word(&mut self) -> String {
        self.words += 1;
        format!("w{}", self.words)
    }

    /// Everybody as at the start, after a route that ends sessions or changes roles.
    async fn sign_in_again(&mut self) {
        self.signed_in.clear();
        for (role, id) in &self.agents {
            let back =
                Call::patch(format!("/v1/agents/{id}"), json!({ "role": role.as_str() })).token(&self.acme.token);
            self.server.call(back).await.expect(200);
            let email = format!("some-{}@{}.example", role.as_str(), self.acme.slug);
            let token = self.server.log_in(&self.acme, &email, PASSWORD).await.expect(200)["access_token"].clone();
            self.signed_in.push(Caller::bearer(role.as_str(), &text(&token), Some(role.permissions())));
        }
        self.lacking.clear();
    }

    /// An agent of a custom role with everything but this.
    pub(super) async fn lacking(&mut self, permission: Permission) -> Caller {
        if let Some(caller) = self.lacking.get(permission.as_str()) {
            return caller.clone();
        }
        let but: PermissionSet = [permission, Permission::Ownership].into_iter().collect();
        let held = PermissionSet::all().without(but);
        let (name, word) = (format!("all but {}", permission.as_str()), self.word());
        let body = json!({ "name": word, "permissions": held });
        let role = self.server.call(Call::post("/v1/roles", body).token(&self.acme.token)).await.expect(201);
        let (_, token) = self.server.agent(&self.acme, &word, &text(&role["id"])).await;
        let caller = Caller::bearer(&name, &token, Some(held));
        self.lacking.insert(permission.as_str(), caller.clone());
        caller
    }

    async fn made(&self, tenant: &Tenant, path: &str, body: Value) -> String {
        text(&self.server.call(Call::post(path, body).token(&tenant.token)).await.expect(201)["id"])
    }

    /// Ids of a tenant that no call has touched yet, of those things that are wanted; and the token of that
    /// conversation's visitor.
    pub(crate) async fn fresh(&mut self, tenant: &Tenant, wants: &str) -> (Ids, String) {
        let word = self.word();
        let session = self.server.session(tenant, json!({ "initialMessage": "Hello" })).await;
        let mut ids = Ids::from([
            ("chat", text(&session["conversationId"])),
            ("thread", text(&session["threadId"])),
            ("visitor", text(&session["visitorId"])),
            ("agent", tenant.owner.clone()),
            ("chatbot", tenant.chatbot.clone()),
            ("slug", tenant.slug.clone()),
        ]);
        let agent = json!({ "name": word, "email": format!("{word}@x.example"), "password": PASSWORD });
        let things = [
            ("agent", "/v1/agents", agent),
            ("chatbot", "/v1/chatbots", json!({ "name": word })),
            ("group", "/v1/groups", json!({ "name": word })),
            ("tag", "/v1/tags", json!({ "name": word })),
            ("role", "/v1/roles", json!({ "name": word, "permissions": ["conversations:read"] })),
            ("canned", "/v1/canned-responses", json!({ "shortcut": word, "text": "Hello" })),
        ];
        for (name, path, body) in things {
            if wants.contains(&format!("{{{name}}}")) {
                ids.insert(name, self.made(tenant, path, body).await);
            }
        }
        // Of the tenant's own, so that they can be deleted.
        for (name, path) in [("pipe", "/v0/pipes?sql=SELECT+1+AS+one"), ("source", "/v0/events?")] {
            if wants.contains(&format!("{{{name}}}")) {
                let call = Call::new("POST".parse().expect("a method"), format!("{path}&name={word}"));
                let made = self.server.call(call.raw(r#"{"one":1}"#).token(&tenant.token)).await;
                assert!(made.status.is_success(), "{}", made.text);
                ids.insert(name, word.clone());
            }
        }
        if wants.contains("{token}") {
            let made = Call::post("/v0/tokens/", json!({ "name": word })).token(&tenant.token);
            ids.insert("token", text(&self.server.call(made).await.expect(200)["id"]));
        }
        if wants.contains("{file}") {
            let call = Call::new("POST".parse().expect("a method"), "/v1/widget/files");
            let call = call.token(&text(&session["sessionToken"]));
            let sent = call.header("content-type", "multipart/form-data; boundary=XX").raw(FORM);
            ids.insert("file", text(&self.server.call(sent).await.expect(201)["file"]["id"]));
        }
        let secret = identity::secret(&self.server.app.key_file, tenant.chatbot.parse().expect("an id"), 1);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        ids.insert("hash", hex::encode(hmac::sign(&key, format!("{word}.{HASH_ENDS_S}").as_bytes())));
        ids.insert("word", word);
        (ids, text(&session["sessionToken"]))
    }

    pub(super) async fn call(&self, route: &Route, caller: &Caller, path: &str, body: Option<String>) -> Reply {
        let mut call = Call::new(route.method.parse().expect("a method"), path);
        if let Some(body) = body {
            call = call.header("content-type", "application/json").raw(body);
        } else if route.path.ends_with("/files") {
            call = call.header("content-type", "multipart/form-data; boundary=XX").raw(FORM);
        } else if route.path == "/v0/sql" && route.method == "POST" {
            call = call.raw("SELECT 1 AS one");
        } else if matches!((route.method, route.path), ("POST", "/v0/events" | "/v0/datasources")) {
            call = call.raw(r#"{"one":1}"#);
        }
        if let Some((name, value)) = &caller.credential {
            call = call.header(name, value);
        }
        self.server.call(call).await
    }

    /// The log's end and the hash of all state: what a refused call leaves as it is.
    pub(super) fn mark(&self) -> (u64, String) {
        let app = &self.server.app;
        let state = app.pool.read(hash::state_hash).expect("a hash");
        (app.writer.reader().end(), state)
    }

    /// Those who try a route, each with ids of their own to try it on.
    async fn callers(&mut self, route: &Route) -> Vec<(Caller, Ids)> {
        let (acme, wants) = (self.acme.clone(), wants(route));
        let mut callers = self.signed_in.clone();
        for way in route.who {
            let takes = match way {
                Way::May(permission) => std::slice::from_ref(permission),
                Way::Holding(all) => *all,
                Way::Reports => &[Permission::ReportsRead],
                _ => &[],
            };
            for permission in takes {
                callers.push(self.lacking(*permission).await);
            }
        }
        callers.push(Caller::bearer("operator", OPERATOR, None));
        callers.push(Caller { name: "anonymous".to_owned(), credential: None, permissions: None });
        callers.push(Caller::page(&acme));
        let mut all = Vec::new();
        for caller in callers {
            all.push((caller, self.fresh(&acme, &wants).await.0));
        }
        let (ids, token) = self.fresh(&acme, &wants).await;
        all.push((Caller::bearer("visitor", &token, None), ids));
        let ((ids, _), (_, token)) = (self.fresh(&acme, &wants).await, self.fresh(&acme, "").await);
        all.push((Caller::bearer("other visitor", &token, None), ids));
        if route.who.contains(&Way::Oneself) {
            let (mut ids, _) = self.fresh(&acme, "").await;
            let word = self.word();
            let (id, token) = self.server.agent(&acme, &word, "viewer").await;
            ids.insert("agent", id);
            all.push((Caller::bearer("oneself", &token, Some(Role::Viewer.permissions())), ids));
        }
        all
    }
}

/// Every route by every kind of caller: let in, or refused with the exact status and code; a refusal changes nothing.
#[tokio::test]
async fn every_route_by_every_caller() {
    const ENDS_SESSIONS: [&str; 3] =
        ["/v1/auth/logout", "/v1/auth/password/change", "/v1/tenants/me/transfer-ownership"];
    let mut world = World::new().await;
    let (list, _) = routes().take();
    let mut wrong = Vec::new();
    for route in &list {
        for (caller, ids) in world.callers(route).await {
            if let Err(problem) = check(&world, route, &caller, &ids).await {
                wrong.push(format!("{} {} by {}: {problem}", route.method, route.path, caller.name));
            }
        }
        if ENDS_SESSIONS.contains(&route.path) {
            world.sign_in_again().await;
        }
    }
    assert!(wrong.is_empty(), "{} of the table aren't so:\n{}", wrong.len(), wrong.join("\n"));
}

async fn check(world: &World, route: &Route, caller: &Caller, ids: &Ids) -> Result<(), String> {
    let mut body = body(route).map(|body| filled(&body.to_string(), ids));
    let messages = route.path == "/api/v1/messages";
    if messages && caller.name.ends_with("visitor") {
        // The first message is the page's; a visitor writes on.
        body = body
            .map(|body| body.replace(r#""conversation_id":"""#, &format!(r#""conversation_id":"{}""#, ids["chat"])));
    }
    let may = caller.may(route);
    let elsewhere = caller.name == "other visitor" && (messages || route.path.contains('{'));
    let before = (!may || elsewhere).then(|| world.mark());
    let reply = world.call(route, caller, &own_path(route, ids), body).await;
    let found = (reply.status.as_u16(), reply.json["code"].as_str().unwrap_or_default());
    let right = if !may {
        let (status, code) = refusal(route, caller);
        found.0 == status && code.is_none_or(|code| code == found.1)
    } else if elsewhere {
        found == (404, "not_found")
    } else {
        // There are no facts here, so a report or a table that is asked for isn't there.
        (200..300).contains(&found.0)
            || route.path.ends_with("/stats") && found == (503, "reports_unavailable")
            || route.path == "/v0/datasources/{name}" && found == (404, "")
    };
    if !right {
        let expected = if may { "to be let in".to_owned() } else { format!("{:?}", refusal(route, caller)) };
        return Err(format!("expected {expected}, found {} {}", found.0, reply.text));
    }
    match before {
        Some(before) if world.mark() != before => Err("a refusal changed something".to_owned()),
        _ => Ok(()),
    }
}

/// Whether an agent's access token is one of the ways in.
pub(super) fn is_for_agents(route: &Route) -> bool {
    route.who.iter().any(|way| matches!(way, Way::Agent | Way::May(_) | Way::Holding(_) | Way::Oneself))
}

/// The status and the code with which a caller isn't let in.
fn refusal(route: &Route, caller: &Caller) -> (u16, Option<&'static str>) {
    let agents = is_for_agents(route);
    match route.path {
        path if path.starts_with("/v0/") || path == "/v1/workspace" => (403, None),
        // Not a socket at all.
        "/v1/realtime" => (400, None),
        "/v1/auth/login" => (401, Some("invalid_credentials")),
        "/v1/auth/refresh" => (401, Some("invalid_refresh_token")),
        "/v1/auth/otp/verify" => (401, Some("invalid_code")),
        "/v1/auth/password/reset" | "/v1/invitations/accept" => (401, Some("invalid_token")),
        _ if caller.permissions.is_some() && agents => (403, Some("forbidden")),
        _ => (401, Some("unauthorized")),
    }
}

/// Another tenant's id answers as one that never was, in paths, bodies and queries, and nothing changes for either
/// tenant.
#[tokio::test]
async fn every_foreign_id_is_unknown() {
    let mut world = World::new().await;
    let (acme, globex) = (world.acme.clone(), world.globex.clone());
    let (list, _) = routes().take();
    let mut wrong = Vec::new();
    for route in &list {
        let wants = wants(route);
        let agents = is_for_agents(route);
        if !THINGS.iter().any(|thing| wants.contains(&format!("{{{thing}}}"))) {
            continue;
        }
        let (own, token) = world.fresh(&acme, &wants).await;
        let (foreign, _) = world.fresh(&globex, &wants).await;
        let caller = match route.who {
            _ if agents => Caller::owner(&acme),
            who if who.contains(&Way::Visitor) => Caller::bearer("visitor", &token, None),
            _ => Caller::page(&acme),
        };
        let unknown: Ids = THINGS.iter().map(|name| (*name, ConversationId::fresh().to_string())).collect();
        let before = world.mark();
        let body = body(route).map(|body| body.to_string());
        for foreign_name in names(route.path) {
            let path = |ids: &Ids| {
                let ids = |name| if name == foreign_name { ids } else { &own };
                path(route, |name| ids(name)[id_of(route.path, name)].clone())
            };
            let answers = [&foreign, &unknown].map(|ids| (path(ids), body.as_ref().map(|body| filled(body, &own))));
            wrong.extend(same_404(&world, route, &caller, answers, foreign_name).await.err());
        }
        for body in body.into_iter().chain(more_bodies(route).iter().map(Value::to_string)) {
            if THINGS.iter().any(|thing| body.contains(&format!("{{{thing}}}"))) {
                let answers = [&foreign, &unknown]
                    .map(|ids| (own_path(route, &own), Some(filled(&filled(&body, &things(ids)), &own))));
                wrong.extend(same_404(&world, route, &caller, answers, &body).await.err());
            }
        }
        if world.mark() != before {
            wrong.push(format!("{} {}: something changed", route.method, route.path));
        }
    }
    let (foreign, _) = world.fresh(&globex, "{agent}{group}").await;
    for (name, thing) in [("assignee", "agent"), ("groupId", "group")] {
        let list = async |id: &str| {
            let call = Call::get(format!("/v1/conversations?{name}={id}")).token(&acme.token);
            world.server.call(call).await.expect(200)
        };
        let unknown = ConversationId::fresh().to_string();
        assert_eq!(list(&foreign[thing]).await, list(&unknown).await, "{name}");
    }
    assert!(wrong.is_empty(), "{} ids aren't so:\n{}", wrong.len(), wrong.join("\n"));
}

/// The ids among them that are of things.
fn things(ids: &Ids) -> Ids {
    ids.iter().filter(|(name, _)| THINGS.contains(name)).map(|(name, id)| (*name, id.clone())).collect()
}

/// Both calls answer the same 404, down to the words.
pub(super) async fn same_404(
    world: &World,
    route: &Route,
    caller: &Caller,
    calls: [(String, Option<String>); 2],
    what: &str,
) -> Result<(), String> {
    let mut answers = Vec::new();
    for (path, body) in calls {
        answers.push(world.call(route, caller, &path, body).await);
    }
    // `/v0` has errors of its own shape.
    let said = |answer: &Reply| match route.path.starts_with("/v0/") {
        true => answer.json["error"].is_string(),
        false => answer.json["code"] == "not_found",
    };
    let right = answers.iter().all(|answer| answer.status == 404 && said(answer)) && answers[0].json == answers[1].json;
    if right {
        return Ok(());
    }
    let place = format!("{} {}, {what}", route.method, route.path);
    Err(format!("{place}: theirs {}, unknown {}", answers[0].text, answers[1].text))
}
