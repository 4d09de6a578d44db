//! How the cost of a report grows with the events that there are: times by size, and memory.

use super::ms;
use anyhow::Context as _;
use std::time::Duration;

/// A call of a tenant at one size.
pub struct Line {
    /// Endpoint, parameters and tenant.
    pub call: String,
    /// Warm.
    pub p50: Duration,
}

/// The sizes that were measured.
#[derive(Default)]
pub struct Growth {
    sizes: Vec<Size>,
}

struct Size {
    events: usize,
    lines: Vec<Line>,
    /// MiB of this process before the facts were opened, and after the last call.
    resident: [u64; 2],
}

impl Growth {
    /// Takes a size in, the smallest first. `before`: MiB, as of [`resident`], before its facts were opened.
    pub fn add(&mut self, events: usize, lines: Vec<Line>, before: u64) {
        let after = resident().unwrap_or_default();
        self.sizes.push(Size { events, lines, resident: [before, after] });
    }

    /// A line a call: its medians by size, and how many times the first the last is. Nothing for a single size.
    pub fn print(&self) {
        let [first, .., last] = self.sizes.as_slice() else { return };
        let heads: String = self.sizes.iter().map(|size| format!("{:>12}", size.events)).collect();
        println!("\nreports  {:<52}{heads}  times", "medians in ms, by events");
        for (number, line) in first.lines.iter().enumerate() {
            let times: String = self.sizes.iter().map(|size| format!("{:>12.2}", ms(size.lines[number].p50))).collect();
            let ratio = ms(last.lines[number].p50) / ms(line.p50);
            println!("reports  {:<52}{times}  {ratio:.1}", line.call);
        }
        let memory: String = self
            .sizes
            .iter()
            .map(|size| format!("{:>12}", format!("{} {}", size.resident[0], size.resident[1])))
            .collect();
        println!("reports  {:<52}{memory}", "resident MiB, before and after");
    }
}

/// Resident memory of this process in MiB.
///
/// # Errors
/// When the system doesn't tell.
pub fn resident() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("there is a VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024)
}
