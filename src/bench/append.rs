//! Events into the embedded log by batch size: encode, hash, insert, commit, fsync, and the copies of the WAL.

use super::{Common, Scratch, Spread, disk};
use ingest::conformance::event;
use ingest::log::EventLog as _;
use ingest::sqlite::{Checkpoints, DataDir};
use std::time::{Duration, Instant};

/// Prints throughput and latency a batch, beside the disk's fdatasync.
///
/// # Errors
/// When the data directory can't be made.
pub fn run(common: &Common) -> anyhow::Result<()> {
    let scratch = Scratch::new(&common.dir)?;
    let time = Duration::from_secs(common.seconds);
    println!("disk    fdatasync of 4 KiB             {}", disk::fdatasync(scratch.path(), time)?);
    for batch in [1, 16, 64, 256] {
        let dir = DataDir::open(&scratch.path().join(format!("append-{batch}")), None, true)?;
        let (mut connection, mut log, _key_file) = dir.open_database()?;
        let mut checkpoints = Checkpoints::watch(&mut connection)?;
        let (started, mut times, mut number) = (Instant::now(), Vec::new(), 0);
        while started.elapsed() < time {
            // The size of a chat message's event, sealed text included.
            let events = (number..number + batch).map(|number| event(number, 300)).collect();
            number += batch;
            let at = Instant::now();
            connection.execute_batch("BEGIN IMMEDIATE")?;
            let records = log.append(&connection, events)?;
            connection.execute_batch("COMMIT")?;
            log.committed(&records);
            checkpoints.after_commit(&connection)?;
            times.push(at.elapsed());
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let rate = number as f64 / started.elapsed().as_secs_f64();
        println!("append  {batch:>3} a batch  {rate:>9.0} events/s  {}", Spread::of(times));
    }
    Ok(())
}
