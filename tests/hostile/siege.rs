//! One attacker beside one neighbour on a real server. Start at [`at_default_limits_and_with_rates_off`].

use crate::support::{Server, Tenant, http_client};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Within this the neighbour's queries are answered, whatever the attacker does.
const NEIGHBOUR_WAIT_MAX: Duration = Duration::from_secs(3);
/// The most resident memory that the server may ever have had.
const PEAK_BYTES_MAX: usize = 1_200_000_000;
/// Between two of the neighbour's queries.
const NEIGHBOUR_EVERY: Duration = Duration::from_millis(100);
/// Where tests share a process they take turns: a siege measures what its neighbour feels.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A server with its attacker and its neighbour.
pub struct Siege {
    pub server: Server,
    /// Who attacks: an owner of a tenant, as anybody can become.
    pub attacker: Tenant,
    pub neighbour: Tenant,
    dir: tempfile::TempDir,
    watching: JoinHandle<Duration>,
    over: Arc<AtomicBool>,
}

/// Tells the story twice: to a server as it starts by default, and to one without rates, where only budgets of bytes,
/// steps and connections are left. `more` are further flags of `serve`.
pub async fn at_default_limits_and_with_rates_off(more: &[&str], story: impl AsyncFn(&Siege)) {
    let _alone = ALONE.lock().await;
    let off = [&["--limit", "all=off"], more].concat();
    for flags in [more, &off] {
        let siege = Siege::begin(flags).await;
        story(&siege).await;
        siege.held().await;
    }
}

impl Siege {
    async fn begin(flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let server = Server::start(dir.path(), flags);
        let (attacker, neighbour) = (server.tenant("Mallory").await, server.tenant("Quiet").await);
        let over = Arc::new(AtomicBool::new(false));
        let (base, token, ended) = (server.base.clone(), neighbour.report_token.clone(), Arc::clone(&over));
        let watching = tokio::spawn(async move { slowest_query(&base, &token, &ended).await });
        Self { server, attacker, neighbour, dir, watching, over }
    }

    /// The server's data directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The end: the neighbour was served all the while, the server lives, its memory stayed bounded, and it stops.
    async fn held(self) {
        self.over.store(true, Ordering::Relaxed);
        let slowest = self.watching.await.expect("every query of the neighbour was answered");
        assert!(slowest <= NEIGHBOUR_WAIT_MAX, "a query of the neighbour took {slowest:?}");
        let peak = self.server.peak_bytes();
        assert!(peak <= PEAK_BYTES_MAX, "the server had {} MB of memory", peak / 1_000_000);
        println!("the neighbour's slowest query took {slowest:?}; the server's peak was {} MB", peak / 1_000_000);
        self.server.stop();
    }
}

/// Asks as the neighbour until it's over; gives the longest that an answer took.
async fn slowest_query(base: &str, token: &str, over: &AtomicBool) -> Duration {
    let http = http_client(2 * NEIGHBOUR_WAIT_MAX.as_secs());
    let mut slowest = Duration::ZERO;
    loop {
        // One more once it's over: what the attacker has left behind must not be in the way either.
        let last = over.load(Ordering::Relaxed);
        let asked = Instant::now();
        loop {
            let request = http.post(format!("{base}/v0/sql")).bearer_auth(token);
            let answer = request.body("SELECT count(*) AS n FROM messages").send().await.expect("the server answers");
            let status = answer.status();
            if status == 200 {
                break;
            }
            // A client tries again where the server says so; all tries together are one query's time.
            let text = answer.text().await.expect("a text");
            assert!(
                status == 503 && asked.elapsed() < NEIGHBOUR_WAIT_MAX,
                "the neighbour was refused: {status} {text}"
            );
        }
        slowest = slowest.max(asked.elapsed());
        if last {
            return slowest;
        }
        tokio::time::sleep(NEIGHBOUR_EVERY).await;
    }
}
