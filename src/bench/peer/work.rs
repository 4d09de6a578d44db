//! What a side's processes have cost, as the system counts it.

use super::start::Peer;
use anyhow::Context as _;
use std::collections::HashMap;
use std::time::Duration;
use tokio::process::Child;

/// Ticks of the system's clock a second, as Linux shows them whatever it counts with.
const TICKS_A_SECOND: f64 = 100.0;
const PAGE_BYTES: f64 = 4_096.0;

/// Of all processes of a side.
pub(super) struct Work {
    /// Time on processors.
    pub(super) processor: Duration,
    /// Pages of 4 KiB that were written, or are to be.
    pub(super) pages: f64,
}

impl Work {
    pub(super) fn since(&self, before: &Self) -> Self {
        let processor = self.processor.saturating_sub(before.processor);
        Self { processor, pages: self.pages - before.pages }
    }
}

/// What the server has cost until now, and all that the peer has started.
pub(super) fn of(server: &Child, peer: Option<&Peer>) -> anyhow::Result<Work> {
    let roots: Vec<u32> = server.id().into_iter().chain(peer.and_then(Peer::database)).collect();
    let mut work = Work { processor: Duration::ZERO, pages: 0.0 };
    for process in with_children(&roots)? {
        // One that has just ended counts no more.
        let Some((ticks, bytes)) = cost(process) else { continue };
        work.processor += Duration::from_secs_f64(ticks / TICKS_A_SECOND);
        work.pages += bytes / PAGE_BYTES;
    }
    Ok(work)
}

fn with_children(roots: &[u32]) -> anyhow::Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in std::fs::read_dir("/proc").context("processes are counted on Linux only")? {
        let Some(process) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let parent = stat(process).and_then(|stat| stat.get(1)?.parse().ok());
        children.entry(parent.unwrap_or_default()).or_default().push(process);
    }
    let mut all = roots.to_vec();
    let mut next = 0;
    while let Some(process) = all.get(next) {
        all.extend(children.get(process).into_iter().flatten().copied().collect::<Vec<_>>());
        next += 1;
    }
    Ok(all)
}

/// The fields of `/proc/PID/stat` after the command's name: the state, the parent and so on.
fn stat(process: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Ticks of processor time, and bytes written.
fn cost(process: u32) -> Option<(f64, f64)> {
    let stat = stat(process)?;
    let ticks = stat.get(11)?.parse::<f64>().ok()? + stat.get(12)?.parse::<f64>().ok()?;
    let io = std::fs::read_to_string(format!("/proc/{process}/io")).ok()?;
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?;
    Some((ticks, written.parse().ok()?))
}
