//! The Postgres wire of a real server under real clients: psql, psycopg 3, asyncpg.

#[path = "../sql/tests/it/support/client.rs"]
mod client;
#[path = "../sinks/tests/it/python.rs"]
mod python;
mod support;

use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::{OPERATOR, Server, Tenant};

const PYPI: &str = "psycopg[binary]==3.3.9 asyncpg==0.32.0";

/// A server with the wire on a free port; its port.
async fn server(dir: &Path, more: &[&str]) -> (Server, String) {
    let server = Server::start(dir, &[&["--pg-listen", "127.0.0.1:0"], more].concat());
    let status = server.get("/v1/status", OPERATOR).await;
    let address = status["pg"].as_str().expect("an address").to_owned();
    let port = address.rsplit_once(':').expect("a port").1.to_owned();
    (server, port)
}

/// A tenant with one message of a visitor in one conversation with tags.
async fn tenant(server: &Server, name: &str) -> Tenant {
    let tenant = server.tenant(name).await;
    let session = server.session(&tenant.chatbot_key, json!({ "initialMessage": "hello?" })).await;
    let id = session["conversationId"].as_str().expect("an id");
    for tag in ["vip", "a b"] {
        server.post("/v1/tags", &tenant.token, json!({ "name": tag })).await;
    }
    let tags = json!({ "add": ["vip", "a b"] });
    server.post(&format!("/v1/conversations/{id}/tags"), &tenant.token, tags).await;
    tenant
}

fn output(command: &mut Command, needs: &str) -> Output {
    let output = command.stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| panic!("failed to run {command:?}: {error}; {needs}"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn psql_command(port: &str, tenant: &Tenant, token: &str, more: &[&str], commands: &[&str]) -> Command {
    let mut psql = Command::new("psql");
    for variable in ["PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE", "PGSERVICE"] {
        psql.env_remove(variable);
    }
    psql.args(["-X", "-w", "-h", "127.0.0.1", "-p", port, "-U", &tenant.id, "-d", "reports"]);
    psql.env("PGPASSWORD", token).env("LC_ALL", "C.UTF-8").args(more);
    for command in commands {
        psql.args(["-c", command]);
    }
    psql
}

fn psql(port: &str, tenant: &Tenant, token: &str, more: &[&str], commands: &[&str]) -> Output {
    let needs = "the tests of the Postgres wire need psql (Debian: postgresql-client)";
    output(&mut psql_command(port, tenant, token, more, commands), needs)
}

async fn narrow(server: &Server, tenant: &Tenant, body: Value) -> String {
    let made = server.post("/v0/tokens/", &tenant.token, body).await;
    made["token"].as_str().expect("a token").to_owned()
}

#[tokio::test]
async fn psql_selects_and_describes() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (server, port) = server(dir.path(), &[]).await;
    let acme = tenant(&server, "Acme").await;
    let run = |commands: &[&str]| psql(&port, &acme, &acme.report_token, &["-At", "-v", "ON_ERROR_STOP=1"], commands);
    let count = run(&["SELECT author_type, count(*) FROM messages GROUP BY 1"]);
    assert_eq!(text(&count), "visitor|1\n");

    let listed = text(&run(&["\\dt"]));
    for table in ["conversations", "messages", "agents"] {
        assert!(listed.contains(&format!("public|{table}|table|{}", acme.id)), "{listed}");
    }
    let described = text(&run(&["\\d messages"]));
    for column in ["conversation_id|text||not null|", "occurred_at|timestamp with time zone||not null|"] {
        assert!(described.contains(column), "{described}");
    }
    assert!(text(&run(&["\\d conversations"])).contains("tags|text[]||"), "lists");
    for (command, word) in [
        ("\\d", "messages"),
        ("\\d+ messages", "conversation_id"),
        ("\\dt+", "messages"),
        ("\\dt public.*", "messages"),
        ("\\dn", "public"),
        ("\\l", "reports"),
        ("\\du", &acme.id),
        ("\\conninfo", &acme.id),
        ("\\dv", ""),
        ("\\di", ""),
        ("\\df", ""),
        ("\\dx", ""),
        ("\\dp", "messages"),
        ("SHOW server_version", "15.0"),
        ("SELECT version()", "PostgreSQL 15.0 (Parlance"),
        ("SELECT current_database(), current_schema()", "reports|public"),
        ("BEGIN; SELECT 7; COMMIT", "7"),
    ] {
        let output = run(&[command]);
        assert!(output.status.success() && text(&output).contains(word), "{command}: {}", text(&output));
    }
}

/// The slug is what people know; whatever the name, the token says whose rows they are, and says no to another tenant's name.
#[tokio::test]
async fn a_tenant_is_called_by_its_id_or_its_slug() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (server, port) = server(dir.path(), &[]).await;
    let (acme, globex) = (tenant(&server, "Acme").await, tenant(&server, "Globex").await);
    let run = |user: &str| {
        let called = Tenant { id: user.to_owned(), ..acme.clone() };
        psql(&port, &called, &acme.report_token, &["-At"], &["SELECT count(*) FROM messages"])
    };
    assert_eq!(acme.slug, "acme");
    for name in [&acme.id, &acme.slug, &acme.id.to_uppercase(), "ACME", " acme "] {
        let output = run(name);
        assert!(output.status.success() && text(&output) == "1\n", "{name}: {}", text(&output));
    }
    let as_wrong_token = "the token is not one of this tenant";
    for name in [&globex.id, &globex.slug, "acm", "acme-2", "acme'", "%", "nobody"] {
        let output = run(name);
        assert!(!output.status.success() && text(&output).contains(as_wrong_token), "{name}: {}", text(&output));
    }
    let wrong = psql(&port, &acme, "no-token", &["-At"], &["SELECT 1"]);
    assert!(text(&wrong).contains(as_wrong_token), "{}", text(&wrong));
}

/// What tools ask when they connect and when they show a table.
#[tokio::test]
async fn catalogs_hold_the_callers_tables_and_no_others() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (server, port) = server(dir.path(), &[]).await;
    let acme = tenant(&server, "Acme").await;
    let scopes = json!([{ "type": "DATASOURCES:READ", "resource": "messages", "filter": "author_type = 'agent'" }]);
    let one = narrow(&server, &acme, json!({ "name": "one", "scopes": scopes })).await;
    let ask = |token: &str, sql: &str| text(&psql(&port, &acme, token, &["-At"], &[sql]));

    for sql in [
        "SELECT table_name FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog') ORDER BY 1",
        "SELECT tablename FROM pg_tables ORDER BY 1",
        "SELECT relname FROM pg_catalog.pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE relkind = 'r' ORDER BY 1",
        "SELECT DISTINCT table_name FROM information_schema.columns ORDER BY 1",
    ] {
        assert!(ask(&acme.report_token, sql).contains("conversations\n"), "{sql}");
        assert_eq!(ask(&one, sql), "messages\n", "{sql}");
    }
    assert_eq!(ask(&one, "SELECT count(*) FROM messages"), "0\n", "the token's filter holds");
    assert!(ask(&one, "SELECT * FROM conversations").contains("DATASOURCES:READ:conversations"));
    assert!(ask(&one, "SELECT 'conversations'::regclass").contains("no table named"));

    let found = |sql: &str, expected: &str| assert_eq!(ask(&acme.report_token, sql), expected, "{sql}");
    found("SELECT 'messages'::regclass::oid = c.oid FROM pg_class c WHERE relname = 'messages'", "t\n");
    found("SELECT format_type(1184, NULL), format_type(1009, -1)", "timestamp with time zone|text[]\n");
    found("SELECT pg_catalog.pg_table_is_visible(c.oid) FROM pg_class c WHERE c.relname ~ '^messages$'", "t\n");
    found("SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'", "public\n");
    found("SELECT current_setting('server_version_num')::int >= 90000", "t\n");
    found("SELECT a.attname FROM pg_attribute a WHERE a.attrelid = 'ratings'::regclass AND a.attnum = 1", "event_id\n");
    found("SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid WHERE c.relname = 'messages'", "0\n");
    // Metabase asks for primary keys so; there are none.
    found(
        "SELECT result.table_cat, result.column_name FROM (SELECT NULL AS table_cat, a.attname AS column_name, \
         (information_schema._pg_expandarray(i.indkey)).n AS key_seq FROM pg_catalog.pg_class ct \
         JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid) \
         WHERE i.indisprimary) result WHERE result.key_seq > 0",
        "",
    );
    // Grafana.
    found(
        "SELECT quote_ident(table_name) FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN \
         ('information_schema', 'pg_catalog') AND table_name = 'messages'",
        "messages\n",
    );
    // SQLAlchemy, under Superset.
    found(
        "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON \
         pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relkind = \
         ANY (ARRAY['r', 'p']) AND pg_catalog.pg_class.relpersistence != 't' AND \
         pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != 'pg_catalog' \
         AND pg_catalog.pg_class.relname = 'agents'",
        "agents\n",
    );
    // DBeaver.
    found(
        "SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d \
         ON d.objoid = n.oid AND d.objsubid = 0 AND d.classoid = 'pg_namespace'::regclass WHERE nspname = 'public'",
        "2200|2200|public|10||\n",
    );
}

#[tokio::test]
async fn psycopg_works_and_hostile_sql_does_not() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (server, port) = server(dir.path(), &[]).await;
    let (acme, globex) = (tenant(&server, "Acme").await, tenant(&server, "Globex").await);
    let mut client = Command::new(python::environment(PYPI).join("bin/python"));
    client.arg("-I").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/pg_psycopg.py"));
    client.args(["127.0.0.1", &port, &acme.id, &acme.report_token, &globex.id, &globex.report_token]);
    let output = output(&mut client, "psycopg");
    assert_eq!(text(&output), "ok\n");
}

#[tokio::test]
async fn asyncpg_works() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (server, port) = server(dir.path(), &[]).await;
    let acme = tenant(&server, "Acme").await;
    let mut client = Command::new(python::environment(PYPI).join("bin/python"));
    client.arg("-I").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/pg_asyncpg.py"));
    client.args(["127.0.0.1", &port, &acme.id, &acme.report_token]);
    let output = output(&mut client, "asyncpg");
    assert_eq!(text(&output), "ok\n");
}

/// A token's rate and a tenant's connections are bounded, and a token that ends takes its connection with it.
#[tokio::test]
async fn limits_hold_here_too() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (server, port) = server(dir.path(), &["--pg-connections-per-tenant-max", "2"]).await;
    let acme = tenant(&server, "Acme").await;
    let slow = narrow(&server, &acme, json!({ "name": "slow", "scopes": [], "limits": { "rps": 1 } })).await;
    let verbose = ["-At", "-v", "VERBOSITY=verbose"];
    let many = psql(&port, &acme, &slow, &verbose, &["SELECT 1", "SELECT 2", "SELECT 3"]);
    assert!(text(&many).starts_with("1\n") && text(&many).contains("53400"), "{}", text(&many));

    let raw = |user: &str, token: &str| {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let body = format!("\0\x03\0\0user\0{user}\0\0");
        let length = |bytes: usize| u32::try_from(bytes + 4).expect("short").to_be_bytes();
        stream.write_all(&[&length(body.len())[..], body.as_bytes()].concat()).expect("sent");
        let mut asked = [0; 9];
        stream.read_exact(&mut asked).expect("asked for a password");
        let password = format!("{token}\0");
        stream.write_all(&[b"p", &length(password.len())[..], password.as_bytes()].concat()).expect("sent");
        let mut first = [0; 1];
        stream.read_exact(&mut first).expect("an answer");
        (stream, first[0])
    };
    let kept: Vec<_> = (0..2).map(|_| raw(&acme.id, &acme.report_token)).collect();
    assert!(kept.iter().all(|(_, first)| *first == b'R'));
    assert_eq!(raw(&acme.id, &acme.report_token).1, b'E', "a third connection");
    drop(kept);

    // Whoever doesn't say who they are is let go.
    let mut silent = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).expect("connected");
    silent.set_read_timeout(Some(Duration::from_secs(30))).expect("set");
    let started = Instant::now();
    let read = std::io::Read::read(&mut silent, &mut [0; 1]);
    assert!(matches!(read, Ok(0)) && started.elapsed() < Duration::from_secs(20), "{read:?}");
}

/// A certificate for this machine and its key, as files.
fn certificate(dir: &Path) -> (String, String) {
    let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext"]);
    openssl.arg("subjectAltName=IP:127.0.0.1").arg("-keyout").arg(&key).arg("-out").arg(&cert);
    let made = output(&mut openssl, "the tests need openssl, to make a certificate");
    assert!(made.status.success(), "{}", text(&made));
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    (path(&cert), path(&key))
}

#[tokio::test]
async fn tls_is_spoken_when_there_is_a_certificate() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (cert, key) = certificate(dir.path());
    let (server, port) = server(&dir.path().join("data"), &["--pg-tls-cert", &cert, "--pg-tls-key", &key]).await;
    let acme = tenant(&server, "Acme").await;
    let ask = |options: &str| {
        let connection = format!("dbname=reports {options}");
        let more = ["-At", "-d", connection.as_str()];
        psql(&port, &acme, &acme.report_token, &more, &["\\conninfo", "SELECT 1"])
    };
    let checked = ask(&format!("sslmode=verify-full sslrootcert={cert}"));
    assert!(text(&checked).contains("TLSv1.3") && text(&checked).ends_with("1\n"), "{}", text(&checked));
    assert!(text(&ask("sslmode=disable")).ends_with("1\n"), "on this machine it needn't be");
}

/// What runs for longer than any limit.
fn heavy() -> String {
    let forty = (0..40).map(|n| format!("SELECT {n} AS n")).collect::<Vec<_>>().join(" UNION ALL ");
    let seven = ["a", "b", "c", "d", "e", "f", "g"].map(|name| format!("({forty}) {name}")).join(", ");
    format!("SELECT sum(a.n * b.n + c.n * d.n + e.n * f.n + g.n) FROM {seven}")
}

/// 72 clients are killed in the middle of a query, and a tenant has 64 places for queries.
#[tokio::test]
async fn killed_clients_leave_no_query_behind() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (server, port) = server(dir.path(), &[]).await;
    let acme = tenant(&server, "Acme").await;
    let started = Instant::now();
    for _ in 0..3 {
        let spawn = |_| {
            psql_command(&port, &acme, &acme.report_token, &["-At"], &[&heavy()])
                .stdin(Stdio::null())
                .spawn()
                .expect("psql")
        };
        let mut clients: Vec<_> = (0..24).map(spawn).collect();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        for client in &mut clients {
            assert!(client.try_wait().expect("a child").is_none(), "it is still waiting for its answer");
            client.kill().expect("killed");
            client.wait().expect("reaped");
        }
    }
    let answer = psql(&port, &acme, &acme.report_token, &["-At"], &["SELECT count(*) FROM messages"]);
    assert_eq!(text(&answer), "1\n");
    println!("answered {:?} after the first query, which may take 10 s", started.elapsed());
}

/// A connection is no better than its token: one that expires, one that is revoked, one whose agent has logged out.
#[tokio::test]
async fn a_token_that_ends_ends_its_connections() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (server, port) = server(dir.path(), &[]).await;
    let acme = tenant(&server, "Acme").await;
    let address = format!("127.0.0.1:{port}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let path = format!("/v0/tokens/?expiration_time={}", now + 3);
    let brief = server.post(&path, &acme.token, json!({ "name": "brief", "scopes": [] })).await;
    let brief = brief["token"].as_str().expect("a token");
    let enter = |token: &str| client::Client::start(&address, &acme.id, token).expect("let in");
    let leaked = server.post("/v0/tokens/", &acme.token, json!({ "name": "leaked" })).await;
    let mut revoked = enter(leaked["token"].as_str().expect("a token"));
    let (mut brief, mut agents, mut other) = (enter(brief), enter(&acme.token), enter(&acme.report_token));
    for client in [&mut brief, &mut revoked, &mut agents, &mut other] {
        assert!(client.simple("SELECT count(*) FROM messages").is_ok());
    }
    let (gone, _) = server.call(reqwest::Method::DELETE, "/v0/tokens/leaked", &acme.token, None).await;
    assert_eq!(gone, 204);
    let (left, _) = server.call(reqwest::Method::POST, "/v1/auth/logout", &acme.token, Some(json!({}))).await;
    assert!(left.is_success(), "{left}");
    tokio::time::sleep(Duration::from_millis(3500)).await;
    for client in [&mut brief, &mut revoked, &mut agents] {
        let refusal = client.simple("SELECT count(*) FROM messages").expect_err("refused");
        assert_eq!((refusal.code.as_str(), refusal.fatal), ("28000", true), "{}", refusal.message);
        assert!(matches!(client.message(), Ok(None)), "the connection has ended");
    }
    assert!(other.extended("SELECT count(*) FROM messages").is_ok(), "another token stays");
}

/// `openssl s_client`: what goes in is encrypted, what comes out was.
struct Tls(std::process::Child);

impl std::io::Read for Tls {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.0.stdout.as_mut().expect("piped").read(into)
    }
}

impl std::io::Write for Tls {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.stdin.as_mut().expect("piped").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.stdin.as_mut().expect("piped").flush()
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// `sslnegotiation=direct` of psql 17: TLS from the first byte, which names the protocol.
#[tokio::test]
async fn tls_may_come_first() {
    let dir = tempfile::tempdir().expect("temp dir");
    let (cert, key) = certificate(dir.path());
    let (server, port) = server(&dir.path().join("data"), &["--pg-tls-cert", &cert, "--pg-tls-key", &key]).await;
    let acme = tenant(&server, "Acme").await;
    let direct = |more: &[&str]| {
        let mut openssl = Command::new("openssl");
        openssl.args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}"), "-CAfile", &cert]);
        openssl.args(["-verify_return_error"]).args(more).stdin(Stdio::piped()).stdout(Stdio::piped());
        client::Client::over(Tls(openssl.stderr(Stdio::null()).spawn().expect("openssl runs")))
    };
    let mut client = direct(&["-alpn", "postgresql"]);
    client.start_up(&acme.id, &acme.report_token).expect("let in");
    assert_eq!(client.simple("SELECT count(*) FROM messages"), Ok(vec![vec![Some("1".to_owned())]]));
    // Whoever speaks another protocol, or doesn't say which, is let go.
    for stranger in [&["-alpn", "http/1.1"][..], &[]] {
        assert!(matches!(direct(stranger).message(), Ok(None)), "{stranger:?}");
    }
}
