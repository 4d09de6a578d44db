//! Mails of many tenants through a mail server of which one recipient's domain hangs: how long the others take, from the
//! answer to the visitor who causes one until the server has taken it.
//!
//! - [`serve`]: the mail server, with `RCPT` to [`HANGING`] never answered. [`visitors`]: who causes the mails.

use super::send::start_server_with;
use super::{Common, Scratch, Spread, disk};
use crate::client::Api;
use anyhow::Context as _;
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const TENANTS: usize = 100;
const MAILS: usize = 10_000;
/// One in so many goes to the domain that hangs.
const HANGS_EVERY: usize = 100;
const HANGING: &str = "hangs.example";
/// Visitors that write at once.
const AT_ONCE: usize = 32;
/// What the others' 99th percentile is to stay under.
const GOAL: Duration = Duration::from_secs(5);
/// When mails that are due haven't come by then, they don't.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// When each address's mail was asked for, and when it was taken.
#[derive(Default)]
struct Seen {
    asked: HashMap<String, Instant>,
    taken: HashMap<String, Instant>,
}

type Shared = Arc<Mutex<Seen>>;

/// Prints how long the mails took that didn't go to the domain that hangs.
///
/// # Errors
/// When the server doesn't start or answer, or mails don't come.
pub async fn run(common: &Common) -> anyhow::Result<()> {
    let scratch = Scratch::new(&common.dir)?;
    let (path, time) = (scratch.path().to_owned(), Duration::from_secs(common.seconds));
    let baseline = tokio::task::spawn_blocking(move || disk::fdatasync(&path, time)).await??;
    println!("disk       fdatasync of 4 KiB      {baseline}");
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("smtp://{}?tls=off", listener.local_addr()?);
    let seen = Shared::default();
    let serving = tokio::spawn(serve(listener, Arc::clone(&seen)));
    let (mut server, base) = start_server_with(scratch.path(), &["--mail", &url]).await?;
    let api = Api::new(&base)?;
    let keys = tenants(&api).await?;
    let started = Instant::now();
    visitors(&api, &keys, &seen).await?;
    let written = started.elapsed();
    let others = MAILS - MAILS / HANGS_EVERY;
    let count = || seen.lock().unwrap_or_else(PoisonError::into_inner).taken.len();
    while count() < others && started.elapsed() < WAIT_MAX {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (done, taken) = (started.elapsed(), count());
    anyhow::ensure!(taken >= others, "{taken} of {others} mails came within {WAIT_MAX:?}");
    let spread = waits(&seen);
    println!(
        "mail       {TENANTS} tenants, {MAILS} mails asked for in {written:.1?}, one in {HANGS_EVERY} to {HANGING}"
    );
    println!("mail       {others} to others taken in {done:.1?}  {spread}");
    println!("aim        p99 under {GOAL:?}: {}", if spread.p99 < GOAL { "held" } else { "missed" });
    server.start_kill()?;
    server.wait().await?;
    serving.abort();
    Ok(())
}

fn waits(seen: &Shared) -> Spread {
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    let wait = |(address, taken): (&String, &Instant)| {
        // A mail may be taken before its visitor has the answer: then nobody has waited for it.
        let asked = seen.asked.get(address).copied().unwrap_or(*taken);
        taken.saturating_duration_since(asked)
    };
    Spread::of(seen.taken.iter().map(wait).collect())
}

/// Signs tenants up; gives a chatbot's key of each.
async fn tenants(api: &Api) -> anyhow::Result<Vec<String>> {
    let mut keys = Vec::new();
    for number in 0..TENANTS {
        let body = json!({
            "name": format!("Bench {number}"), "adminName": "Ada", "adminEmail": format!("ada@bench{number}.example"),
            "adminPassword": "a long password",
        });
        let made = api.post("/v1/tenants", "", body).await?;
        let token = made["access_token"].as_str().context("a token")?;
        let chatbot = api.post("/v1/chatbots", token, json!({ "name": "Site", "allowedOrigins": [] })).await?;
        keys.push(chatbot["apiKey"].as_str().context("a key")?.to_owned());
    }
    Ok(keys)
}

/// Each writes a first message, which a mail thanks for.
async fn visitors(api: &Api, keys: &[String], seen: &Shared) -> anyhow::Result<()> {
    let mut under_way = JoinSet::new();
    for number in 0..MAILS {
        let domain = if number % HANGS_EVERY == 0 { HANGING.to_owned() } else { format!("d{}.example", number % 997) };
        let (api, key, seen) = (api.clone(), keys[number % keys.len()].clone(), Arc::clone(seen));
        under_way.spawn(async move {
            let address = format!("v{number}@{domain}");
            api.start_session(&key, &json!({ "email": address, "initialMessage": "hello" })).await?;
            seen.lock().unwrap_or_else(PoisonError::into_inner).asked.insert(address, Instant::now());
            anyhow::Ok(())
        });
        if under_way.len() >= AT_ONCE {
            under_way.join_next().await.context("one is under way")???;
        }
    }
    while let Some(outcome) = under_way.join_next().await {
        outcome??;
    }
    Ok(())
}

async fn serve(listener: TcpListener, seen: Shared) {
    while let Ok((stream, _)) = listener.accept().await {
        let seen = Arc::clone(&seen);
        // A connection that breaks is tried again by who sends.
        tokio::spawn(async move { drop(converse(stream, &seen).await) });
    }
}

/// SMTP, as far as a client needs it that trusts the server.
async fn converse(stream: TcpStream, seen: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 bench\r\n").await?;
    let mut to = String::new();
    while let Some(line) = lines.next_line().await? {
        let answer: &[u8] = match line.get(..4).unwrap_or_default() {
            "EHLO" => b"250-bench\r\n250-SMTPUTF8\r\n250 8BITMIME\r\n",
            "RCPT" => {
                to = line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                if to.ends_with(HANGING) {
                    std::future::pending::<()>().await;
                }
                b"250 ok\r\n"
            }
            "DATA" => {
                writer.write_all(b"354 go on\r\n").await?;
                while lines.next_line().await?.is_some_and(|line| line != ".") {}
                seen.lock().unwrap_or_else(PoisonError::into_inner).taken.insert(to.clone(), Instant::now());
                b"250 taken\r\n"
            }
            "QUIT" => return writer.write_all(b"221 bye\r\n").await,
            _ => b"250 ok\r\n",
        };
        writer.write_all(answer).await?;
    }
    Ok(())
}
