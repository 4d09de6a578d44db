//! The baseline: this disk's raw `fdatasync`, one after another, of 4 KiB appended.

use super::Spread;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// Measures for `time` in `dir`.
///
/// # Errors
/// The system's.
pub fn fdatasync(dir: &Path, time: Duration) -> std::io::Result<Spread> {
    let path = dir.join("fdatasync");
    let mut file = File::create(&path)?;
    let page = [0x5a_u8; 4_096];
    let (started, mut times) = (Instant::now(), Vec::new());
    while started.elapsed() < time {
        file.write_all(&page)?;
        let at = Instant::now();
        file.sync_data()?;
        times.push(at.elapsed());
    }
    std::fs::remove_file(path)?;
    Ok(Spread::of(times))
}
