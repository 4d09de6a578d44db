//! Rows end to end: batches of a thousand through `/v0/events`, durable when they are answered, by connections at once.
//!
//! The server is a process of its own, on the same cores as this load generator. The baseline is what the disk does with
//! the same bytes: each batch appended to a file and synced, one after another.

use super::send::{Tenant, start_server};
use super::{Common, Scratch, Spread};
use crate::client::Api;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Rows of a batch.
pub(super) const BATCH_ROWS: usize = 1_000;
/// Batches that are made before, and sent again and again.
const BATCHES: usize = 16;
/// Connections at once.
const CONNECTIONS: [usize; 4] = [1, 2, 4, 8];

/// Prints rows a second and the time to the answer, by connections, beside the disk's own rate with the same bytes.
///
/// # Errors
/// When the server doesn't start or answer, or rows are missing at the end.
pub async fn run(common: &Common) -> anyhow::Result<()> {
    let scratch = Scratch::new(&common.dir)?;
    let time = Duration::from_secs(common.seconds);
    let batches: Vec<Bytes> = (0..BATCHES).map(|number| batch(number).into()).collect();
    let (path, same) = (scratch.path().to_owned(), batches.clone());
    let baseline = tokio::task::spawn_blocking(move || append(&path, &same, time)).await??;
    let bytes = batches.iter().map(Bytes::len).sum::<usize>() / batches.len();
    println!("disk    append and sync of {BATCH_ROWS} rows, {bytes} bytes  {}", show(&baseline));
    let (mut server, base) = start_server(scratch.path()).await?;
    let api = Api::new(&base)?;
    let token = token(&api, &Tenant::create(&api).await?).await?;
    let mut sent = 0;
    for connections in CONNECTIONS {
        let (rows, times, spent) = measure(&api, &token, &batches, connections, time).await?;
        sent += rows;
        println!("ingest  {connections:>2} connections, {BATCH_ROWS} rows a batch  {}", show(&(rows, times, spent)));
    }
    let started = Instant::now();
    let found = count(&api, &token).await?;
    if found != sent {
        bail!("{found} rows are there of {sent} that were acknowledged");
    }
    println!("query   count of all {found} rows right after the last  {:8.3} s", started.elapsed().as_secs_f64());
    server.start_kill()?;
    server.wait().await?;
    Ok(())
}

/// Rows, the time of each batch, and the time of all.
type Measured = (usize, Vec<Duration>, Duration);

fn show((rows, times, spent): &Measured) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let rate = *rows as f64 / spent.as_secs_f64();
    format!("{rate:>9.0} rows/s  {}", Spread::of(times.clone()))
}

/// Rows of web events, some 110 bytes each.
pub(super) fn batch(number: usize) -> String {
    let mut text = String::new();
    for row in 0..BATCH_ROWS {
        let id = number * BATCH_ROWS + row;
        let (second, page) = (id % 60, id % 37);
        // Writing to memory can't fail.
        let _ = writeln!(
            text,
            r#"{{"id":{id},"at":"2025-03-01T10:20:{second:02}.{:03}Z","kind":"view","page":"/p/{page}","user":"u{}","ms":{}.5}}"#,
            id % 1_000,
            id % 5_000,
            id % 900,
        );
    }
    text
}

fn append(dir: &Path, batches: &[Bytes], time: Duration) -> anyhow::Result<Measured> {
    let path = dir.join("baseline");
    let mut file = File::create(&path)?;
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < time {
        let at = Instant::now();
        file.write_all(&batches[times.len() % batches.len()])?;
        file.sync_data()?;
        times.push(at.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok((times.len() * BATCH_ROWS, times, started.elapsed()))
}

/// A token of the tenant, who gets a data source for these rows: `views`.
pub(super) async fn token(api: &Api, tenant: &Tenant) -> anyhow::Result<String> {
    let scopes = json!([
        { "type": "DATASOURCES:CREATE", "resource": "*" },
        { "type": "DATASOURCES:READ", "resource": "*" },
    ]);
    let made = api.post("/v0/tokens/", &tenant.agent_token, json!({ "name": "bench", "scopes": scopes })).await?;
    let token = made["token"].as_str().context("a token")?.to_owned();
    let schema = "id%20Int64,at%20DateTime64(3),kind%20String,page%20String,user%20String,ms%20Float64";
    api.post(&format!("/v0/datasources?name=views&schema={schema}"), &token, Value::Null).await?;
    Ok(token)
}

async fn measure(
    api: &Api,
    token: &str,
    batches: &[Bytes],
    connections: usize,
    time: Duration,
) -> anyhow::Result<Measured> {
    let mut tasks = JoinSet::new();
    let started = Instant::now();
    for number in 0..connections {
        let (mut connection, token, batches) = (connect(api).await?, token.to_owned(), batches.to_vec());
        tasks.spawn(async move {
            let mut times = Vec::new();
            while started.elapsed() < time {
                let at = Instant::now();
                send(&mut connection, &token, batches[(number + times.len()) % batches.len()].clone()).await?;
                times.push(at.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(outcome) = tasks.join_next().await {
        times.extend(outcome??);
    }
    Ok((times.len() * BATCH_ROWS, times, started.elapsed()))
}

/// A connection that is kept open.
pub(super) async fn connect(api: &Api) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(api.base().trim_start_matches("http://")).await?;
    stream.set_nodelay(true)?;
    let (connection, driver) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(driver);
    Ok(connection)
}

/// Sends a batch; it's durable then.
pub(super) async fn send(connection: &mut SendRequest<Full<Bytes>>, token: &str, rows: Bytes) -> anyhow::Result<()> {
    let request = hyper::Request::post("/v0/events?name=views&wait=true")
        .header("host", "localhost")
        .header("authorization", format!("Bearer {token}"))
        .body(Full::from(rows))?;
    connection.ready().await?;
    let response = connection.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status != 200 || answer["successful_rows"] != json!(BATCH_ROWS) {
        bail!("a batch was answered {status}: {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}

/// The rows there are; asked again while the views are behind.
async fn count(api: &Api, token: &str) -> anyhow::Result<usize> {
    let started = Instant::now();
    loop {
        match api.get("/v0/sql?q=SELECT%20count(*)%20AS%20n%20FROM%20views", token).await {
            Ok(answer) => {
                return usize::try_from(answer["data"][0]["n"].as_u64().unwrap_or_default()).context("a count");
            }
            Err(_) if started.elapsed() < Duration::from_secs(60) => {
                tokio::time::sleep(Duration::from_millis(50)).await
            }
            Err(error) => return Err(error),
        }
    }
}
