//! The OpenAPI document as the real server serves it. PyPI's `schemathesis` calls every operation with what the document
//! allows and with what it forbids, and holds each answer to the document; npm's `openapi-typescript` makes the web's
//! types from it.

#[path = "../sinks/tests/it/python.rs"]
mod python;
mod support;

use expect_test::expect_file;
use reqwest::Method;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::{OPERATOR, PASSWORD, Server, Tenant};

const SCHEMATHESIS: &str = "schemathesis==4.32.5";
/// Calls of an operation with words of its schema's shape; those at the edges come on top.
const EXAMPLES: &str = "8";
/// Left out: what goes on until somebody hangs up.
const ENDLESS: &str = "(/stream|/realtime)$";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

fn run(command: &mut Command, needs: &str) {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("failed to run {command:?}: {error}; {needs}"));
    assert!(output.status.success(), "failed to run {command:?}: {needs}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// Who calls which operations with which ids, for schemathesis: without these it would see refusals only.
struct Config(String);

impl Config {
    fn operations(&mut self, pattern: &str, header: (&str, &str), id: Option<(&str, &str)>) {
        let (name, value) = header;
        writeln!(self.0, "[[operations]]\ninclude-path-regex = '{pattern}'\nheaders = {{ '{name}' = '{value}' }}")
            .expect("written");
        if let Some((name, id)) = id {
            writeln!(self.0, "parameters = {{ 'path.{name}' = '{id}' }}").expect("written");
        }
    }

    async fn of(server: &Server, tenant: &Tenant) -> Self {
        let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi/hooks.py");
        let mut config =
            Self(format!("hooks = '{}'\n[generation]\nwith-security-parameters = false\n", hooks.display()));
        let bearer = |token: &str| format!("Bearer {token}");
        let owner = bearer(&tenant.token);
        let made = async |path: &str, body: Value| text(&server.post(path, &tenant.token, body).await["id"]).to_owned();
        let email = "eve@acme.example";
        let agent = json!({ "name": "Eve", "email": email, "password": PASSWORD, "role": "admin" });
        let things = [
            (
                "agents",
                made("/v1/agents", json!({ "name": "B", "email": "b@acme.example", "password": PASSWORD })).await,
            ),
            ("chatbots", made("/v1/chatbots", json!({ "name": "Other" })).await),
            ("groups", made("/v1/groups", json!({ "name": "Sales" })).await),
            ("tags", made("/v1/tags", json!({ "name": "vip" })).await),
            ("roles", made("/v1/roles", json!({ "name": "Guest", "permissions": ["conversations:read"] })).await),
            ("canned-responses", made("/v1/canned-responses", json!({ "shortcut": "hi", "text": "Hello" })).await),
        ];
        let session = async || server.session(&tenant.chatbot_key, json!({ "initialMessage": "Hello" })).await;
        let (talked, erased, own) = (session().await, session().await, session().await);
        let session_token = bearer(text(&own["sessionToken"]));
        let chat = text(&talked["conversationId"]);
        for (path, id) in &things {
            config.operations(&format!("^/v1/{path}/[{{]id"), ("Authorization", &owner), Some(("id", id)));
        }
        for (path, id) in
            [("conversations", chat), ("threads", text(&talked["threadId"])), ("visitors", text(&erased["visitorId"]))]
        {
            config.operations(&format!("^/v1/{path}/[{{]id"), ("Authorization", &owner), Some(("id", id)));
        }
        config.operations("^/agents/", ("Authorization", &owner), Some(("agent_id", &things[0].1)));
        config.operations("^/chats/", ("Authorization", &owner), Some(("chat_id", chat)));
        // Who signs out here must not be who calls elsewhere.
        server.post("/v1/agents", &tenant.token, agent).await;
        let login = json!({ "email": email, "password": PASSWORD });
        let (status, signed_in) = server.call(Method::POST, "/v1/auth/login", "", Some(login)).await;
        assert!(status.is_success(), "{signed_in}");
        config.operations("^/v1/auth/", ("Authorization", &bearer(text(&signed_in["access_token"]))), None);
        config.operations("^/v1/widget/(?!session$)", ("Authorization", &session_token), None);
        config.operations("^/v1/widget/session$|^/chats$", ("X-Chatbot-Key", &tenant.chatbot_key), None);
        config.operations("^/api/", ("Authorization", &session_token), None);
        config.operations("^/v1/operator/", ("Authorization", &bearer(OPERATOR)), None);
        config.operations("^/v0/(sql|pipes)", ("Authorization", &bearer(&tenant.report_token)), None);
        let others = "^/v0/tokens|^/v1/[a-z-]+$|^/v1/(tenants|invitations|import|export)/";
        config.operations(others, ("Authorization", &owner), None);
        config
    }
}

/// No answer is a fault of the server, or one that the document doesn't tell of: by its status, its type or its shape.
#[tokio::test]
async fn schemathesis_finds_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(&dir.path().join("data"), &["--limit", "all=off"]);
    let tenant = server.tenant("Acme").await;
    let config = dir.path().join("schemathesis.toml");
    std::fs::write(&config, Config::of(&server, &tenant).await.0).expect("written");
    let document = server.get("/openapi.json", "").await;
    // From a file: read from the server, the document's own route would be left out.
    let saved = dir.path().join("openapi.json");
    std::fs::write(&saved, document.to_string()).expect("written");
    let paths = document["paths"].as_object().expect("paths");
    let operations: usize = paths
        .iter()
        .filter(|(path, _)| !path.ends_with("/stream") && !path.ends_with("/realtime"))
        .map(|(_, methods)| methods.as_object().map_or(0, serde_json::Map::len))
        .sum();

    let mut command = Command::new(python::environment(SCHEMATHESIS).join("bin/schemathesis"));
    command.current_dir(dir.path()).arg("--config-file").arg(&config).arg("run");
    command.arg(&saved).args(["--url", &server.base, "--checks", CHECKS]);
    command.args(["--phases", "coverage,fuzzing", "--max-examples", EXAMPLES, "--generation-deterministic"]);
    command.args(["--no-shrink", "--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off"]);
    command.args(["--request-timeout", "30", "--no-color", "--exclude-path-regex", ENDLESS]);
    let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output()).await.expect("joined");
    let output = output.expect("schemathesis runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        said.contains(&format!("Tested: {operations}\n")),
        "not all of {operations} operations were called:\n{said}"
    );
    server.stop();
}

/// What the document puts behind a credential is: the binary's own routes too.
#[tokio::test]
async fn nothing_behind_a_credential_is_open() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(&dir.path().join("data"), &["--limit", "all=off"]);
    let tenant = server.tenant("Acme").await;
    let document = server.get("/openapi.json", "").await;
    let mut called = 0;
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let schemes: Vec<&Value> = operation["security"].as_array().into_iter().flatten().collect();
            if schemes.iter().all(|scheme| **scheme == json!({})) {
                continue;
            }
            let method: Method = method.to_uppercase().parse().expect("a method");
            let id = path.replace("{name}", "usage.json").replace(['{', '}'], "");
            // Tinybird's routes, also the one that isn't under /v0, refuse as Tinybird does.
            let refused = if path.starts_with("/v0/") || path == "/v1/workspace" { 403 } else { 401 };
            let place = format!("{method} {path}");
            for token in ["", "nonsense", "wst_nonsense"] {
                let (status, answer) = server.call(method.clone(), &id, token, None).await;
                assert_eq!(status, refused, "{place} by '{token}': {answer}");
            }
            if schemes.iter().all(|scheme| **scheme == json!({ "operator": [] })) {
                let (status, answer) = server.call(method, &id, &tenant.token, None).await;
                assert_eq!(status, 401, "{place} by an owner: {answer}");
            }
            called += 1;
        }
    }
    assert!(called > 90, "the document is read: {called}");
    server.stop();
}

/// npm's `openapi-typescript` as `web/package-lock.json` has it, installed once a target directory and lock.
fn openapi_typescript() -> PathBuf {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("web");
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).join("web");
    let lock = std::fs::read(web.join("package-lock.json")).expect("readable");
    let ready = installed.join("ready");
    if std::fs::read(&ready).ok().as_ref() != Some(&lock) {
        std::fs::create_dir_all(&installed).expect("made");
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(web.join(file), installed.join(file)).expect("copied");
        }
        let needs = "the test of the web's types needs node with npm, and the package registry once";
        run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&installed), needs);
        std::fs::write(&ready, lock).expect("written");
    }
    installed.join("node_modules/.bin/openapi-typescript")
}

/// The types that the web is written against are the document's; `UPDATE_EXPECT=1` writes them anew.
#[tokio::test]
async fn the_webs_types_are_the_documents() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Server::start(&dir.path().join("data"), &[]);
    let (document, types) = (dir.path().join("openapi.json"), dir.path().join("api.d.ts"));
    std::fs::write(&document, server.get("/openapi.json", "").await.to_string()).expect("written");
    let mut command = Command::new(openapi_typescript());
    command.arg(&document).args(["--alphabetize", "-o"]).arg(&types);
    run(&mut command, "openapi-typescript refuses the document");
    expect_file!["../web/src/api.d.ts"].assert_eq(&std::fs::read_to_string(&types).expect("readable"));
    server.stop();
}
