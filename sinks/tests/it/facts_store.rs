//! The fact store: flush, compaction, restart and damage, one story each.

use crate::log::{Bench, rows, table};
use crate::story::{Story, tenant};
use sinks::parquet::facts::Table;
use sinks::parquet::{FactConfig, FactError, FactStore, manifest, sink};
use std::time::Duration;

fn small() -> FactConfig {
    FactConfig { compact_files: 2, ..FactConfig::default() }
}

/// A store that has applied one conversation of `messages` messages.
fn talked(messages: usize) -> Bench {
    let mut bench = Bench::new(small());
    let script = "0:00 start".to_owned() + &" | 0:01 visitor".repeat(messages);
    bench.append(Story::new("acme", "c1").tell(&script));
    bench.apply(usize::MAX);
    bench.feed_usage(0, bench.log.len() as u64);
    bench
}

fn say(bench: &mut Bench, conversation: &str) {
    bench.append(Story::new("acme", conversation).tell("0:00 start | 0:01 visitor"));
    bench.apply(usize::MAX);
}

fn messages(store: &FactStore) -> usize {
    rows(&store.snapshot(tenant("acme"), Table::Messages)).len()
}

#[test]
fn a_flush_moves_rows_from_memory_to_files_and_a_restart_reads_no_event_again() {
    let mut bench = talked(3);
    let before = bench.contents();
    bench.flush();
    assert_eq!(bench.store.tail_rows(), 0);
    assert_eq!(bench.contents(), before);
    bench.restart();
    assert_eq!((bench.store.applied(), bench.store.usage_applied()), (4, 4));
    assert_eq!(bench.contents(), before);
    assert!(bench.store.begin_flush().unwrap().is_none(), "nothing is new");
}

/// Written but not committed: the files go, the rows come from the log again.
#[test]
fn a_crash_before_the_commit_leaves_no_file_and_loses_no_row() {
    let mut bench = talked(3);
    let before = bench.contents();
    let plan = bench.store.begin_flush().unwrap().expect("rows to flush");
    assert_eq!(bench.files().len(), 5, "messages, conversations, usage, events, threads");
    drop(plan);
    bench.restart();
    assert!(bench.files().is_empty());
    assert_eq!(bench.store.applied(), 0);
    bench.apply(usize::MAX);
    bench.feed_usage(0, 4);
    assert_eq!(bench.contents(), before);
}

#[test]
fn a_crash_after_the_commit_repeats_no_row() {
    let mut bench = talked(3);
    let before = bench.contents();
    let plan = bench.store.begin_flush().unwrap().expect("rows to flush");
    bench.commit(&plan);
    bench.restart();
    assert_eq!(bench.store.applied(), 4);
    // Delivered again, as after any crash.
    bench.store.apply(&bench.log, &|id, after| bench.history(id, after)).unwrap();
    bench.feed_usage(0, 4);
    assert_eq!(bench.contents(), before);
}

#[test]
fn rows_that_come_during_a_flush_stay_in_memory() {
    let mut bench = talked(3);
    let plan = bench.store.begin_flush().unwrap().expect("rows to flush");
    say(&mut bench, "c2");
    assert_eq!(messages(&bench.store), 4);
    assert!(matches!(bench.store.begin_flush(), Err(FactError::Busy)));
    assert!(matches!(bench.store.begin_compaction(), Err(FactError::Busy)));
    bench.commit(&plan);
    assert_eq!(messages(&bench.store), 4);
    bench.store.finish_flush(plan);
    assert_eq!(messages(&bench.store), 4);
    assert_eq!(bench.store.tail_rows(), 5, "one message, one conversation, one thread, two events");
    bench.restart();
    bench.apply(usize::MAX);
    assert_eq!(messages(&bench.store), 4);
}

#[test]
fn an_aborted_flush_puts_everything_back() {
    let mut bench = talked(3);
    let plan = bench.store.begin_flush().unwrap().expect("rows to flush");
    say(&mut bench, "c2");
    bench.store.abort_flush(plan);
    assert!(bench.files().is_empty());
    assert_eq!(messages(&bench.store), 4);
    bench.flush();
    assert_eq!(messages(&bench.store), 4);
}

/// A disk that refuses is no reason to lose a row: they are in memory again.
#[test]
fn a_flush_that_cant_write_keeps_the_rows() {
    let bench = talked(3);
    // A file where the tenant's directory should be.
    let place = bench.dir.path().join(tenant("acme").to_string());
    std::fs::write(&place, "").unwrap();
    let error = bench.store.begin_flush().unwrap_err();
    assert!(matches!(error, FactError::Io { .. }), "{error}");
    assert_eq!(messages(&bench.store), 3);
    std::fs::remove_file(&place).unwrap();
    bench.flush();
    assert_eq!(messages(&bench.store), 3);
}

/// Three versions of a conversation and three partials of a minute become one row each; readers of the old files
/// keep them until they are done.
#[test]
fn compaction_merges_files_and_waits_for_their_readers() {
    let mut bench = Bench::new(small());
    let events = Story::new("acme", "c1").tell("0:00 start | 0:01 visitor | 0:02 agent ada");
    for (n, event) in events.into_iter().enumerate() {
        bench.append([event]);
        bench.apply(1);
        bench.feed_usage(n as u64, n as u64 + 1);
        bench.flush();
    }
    let before = bench.contents();
    let reader = bench.store.snapshot(tenant("acme"), Table::Conversations);
    assert_eq!(rows(&reader).len(), 3, "three versions in three files");
    assert_eq!(bench.compact(), 3, "conversations, usage and events; messages have two files only");
    assert_eq!(bench.contents(), before);
    let merged = bench.store.snapshot(tenant("acme"), Table::Conversations);
    assert_eq!((merged.files.len(), rows(&merged).len()), (1, 1));
    assert_eq!(rows(&reader).len(), 3, "the old files are still there for whoever holds them");
    let held = bench.files().len();
    drop(reader);
    assert_eq!(bench.files().len(), held - 3);
    bench.restart();
    assert_eq!(bench.contents(), before);
    bench.store.verify().expect("sound");
}

#[test]
fn a_crash_around_the_commit_of_a_compaction_changes_nothing() {
    for committed in [false, true] {
        let mut bench = talked(1);
        for name in ["c2", "c3"] {
            bench.flush();
            say(&mut bench, name);
        }
        bench.flush();
        let before = bench.contents();
        let listed = bench.files();
        let plan = bench.store.begin_compaction().unwrap().expect("three files of two allowed");
        if committed {
            bench.commit(&plan);
        }
        drop(plan);
        bench.restart();
        assert_eq!(bench.contents(), before);
        assert_eq!(bench.files() == listed, !committed, "an uncommitted merge is gone, a committed one has replaced");
        bench.compact();
        assert_eq!(bench.contents(), before);
    }
}

/// A full file is left alone: old facts aren't written again and again.
#[test]
fn a_full_file_is_not_merged_again() {
    let mut bench = Bench::new(FactConfig { compact_files: 2, compact_rows: 8, ..FactConfig::default() });
    for n in 0..12 {
        bench.append(Story::new("acme", &format!("c{n}")).tell("0:00 start | 0:01 visitor | 0:02 visitor"));
        bench.apply(usize::MAX);
        bench.flush();
        bench.compact();
    }
    let snapshot = bench.store.snapshot(tenant("acme"), Table::Messages);
    let mut sizes: Vec<u64> = snapshot.files.iter().map(|file| file.rows()).collect();
    sizes.sort_unstable();
    assert_eq!(sizes.iter().sum::<u64>(), 24);
    assert!(sizes.iter().filter(|rows| **rows <= 4).count() <= 2 && sizes.last() <= Some(&8), "{sizes:?}");
}

#[test]
fn damage_is_found_and_the_error_says_what_to_do() {
    let bench = talked(3);
    bench.flush();
    let path = bench.files().into_iter().next().unwrap();
    let good = std::fs::read(&path).unwrap();
    let told = |error: FactError| {
        let text = error.to_string();
        assert!(text.contains(path.to_str().unwrap()) && text.contains("parlance rebuild --views facts"), "{text}");
        text
    };

    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    std::fs::write(&path, flipped).unwrap();
    assert!(told(bench.store.verify().unwrap_err()).contains("SHA-256"));
    bench.reopen().expect("the size is right: an open doesn't read every byte");

    std::fs::write(&path, &good[..good.len() - 1]).unwrap();
    assert!(told(bench.store.verify().unwrap_err()).contains("the manifest says"));
    told(bench.reopen().err().expect("cut short"));

    std::fs::remove_file(&path).unwrap();
    told(bench.store.verify().unwrap_err());
    told(bench.reopen().err().expect("missing"));

    std::fs::write(&path, good).unwrap();
    assert_eq!(bench.store.verify().expect("as written").files, 5);
}

/// A merge must not launder a flipped byte into a file with a fresh checksum.
#[test]
fn compaction_refuses_a_damaged_input() {
    let mut bench = talked(1);
    for name in ["c2", "c3"] {
        bench.flush();
        say(&mut bench, name);
    }
    bench.flush();
    let damaged = bench.store.snapshot(tenant("acme"), Table::Messages).files[1].path().to_owned();
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[10] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let error = bench.store.begin_compaction().unwrap_err();
    assert!(error.to_string().contains(damaged.to_str().unwrap()), "{error}");
    bench.store.begin_flush().expect("the store is not stuck");
}

#[test]
fn a_reset_forgets_everything() {
    let mut bench = talked(3);
    let before = bench.contents();
    bench.flush();
    manifest::reset(&bench.sqlite).unwrap();
    sink::reset_dir(bench.dir.path()).unwrap();
    bench.restart();
    assert_eq!((bench.store.applied(), bench.store.usage_applied(), bench.files().len()), (0, 0, 0));
    bench.apply(usize::MAX);
    bench.feed_usage(0, 4);
    assert_eq!(bench.contents(), before);
}

/// A history that can't be read leaves the facts where they were; the next try goes through.
#[test]
fn a_batch_is_applied_whole_or_not_at_all() {
    let mut bench = talked(2);
    bench.flush();
    bench.restart();
    let more: Vec<_> = Story::new("acme", "c1").tell(&("0:00 start".to_owned() + &" | 0:01 visitor".repeat(3)));
    bench.append(Story::new("acme", "c0").tell("0:00 start | 0:01 visitor"));
    bench.append(more.into_iter().skip(3));
    let fresh = &bench.log[3..];
    let error = bench.store.apply(fresh, &|_, _| Err("no disk".into())).unwrap_err();
    assert!(matches!(error, FactError::History { .. }), "{error}");
    assert_eq!((bench.store.applied(), messages(&bench.store)), (3, 2));
    let error = bench.store.apply(fresh, &|_, _| Ok(Vec::new())).unwrap_err();
    assert!(matches!(error, FactError::SeqGap { expected: 1, found: 4, .. }), "{error}");
    let error = bench.store.apply(&fresh[1..], &|_, _| Ok(Vec::new())).unwrap_err();
    assert!(matches!(error, FactError::OffsetGap { expected: 3, found: 4 }), "{error}");
    bench.apply(usize::MAX);
    assert_eq!((bench.store.applied(), messages(&bench.store)), (6, 4));
}

#[tokio::test]
async fn a_query_waits_for_its_offset_and_no_longer_than_told() {
    let mut bench = talked(2);
    let short = Duration::from_millis(10);
    bench.store.wait_for(3, short).await.expect("there already");
    let behind = bench.store.wait_for(4, short).await.unwrap_err();
    assert!(matches!(behind, FactError::Behind { applied: 3, wanted: 4 }), "{behind}");
    bench.append(Story::new("acme", "c2").tell("0:00 start"));
    let long = Duration::from_secs(60);
    let (reached, ()) = tokio::join!(bench.store.wait_for(4, long), async { bench.apply(usize::MAX) });
    reached.expect("applied meanwhile");
}

/// Readers on other threads, while rows come, are flushed and merged: no row is missing or double at any moment.
#[test]
fn a_snapshot_sees_each_row_once_at_every_moment() {
    let mut bench = Bench::new(small());
    bench.append(Story::new("acme", "c1").tell(&("0:00 start".to_owned() + &" | 0:01 visitor".repeat(600))));
    let store = &bench.store;
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut looks = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let least = store.applied().saturating_sub(1);
                let ids = rows(&store.snapshot(tenant("acme"), Table::Messages));
                let most = store.applied().saturating_sub(1);
                let distinct: std::collections::HashSet<_> = ids.iter().map(|row| &row[0]).collect();
                assert_eq!(distinct.len(), ids.len(), "a row is double");
                assert!((least..=most).contains(&(ids.len() as u64)), "{least} <= {} <= {most}", ids.len());
                looks += 1;
            }
            looks
        });
        for (n, record) in bench.log.iter().enumerate() {
            store.apply(std::slice::from_ref(record), &|_, _| Ok(Vec::new())).unwrap();
            if n % 20 == 19 {
                let plan = store.begin_flush().unwrap().expect("rows to flush");
                bench.commit(&plan);
                store.finish_flush(plan);
                while let Some(plan) = store.begin_compaction().unwrap() {
                    bench.commit(&plan);
                    store.finish_flush(plan);
                }
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    assert_eq!(table(store, tenant("acme"), Table::Messages).len(), 600);
}

/// Tables of one tenant are never another's.
#[test]
fn tenants_are_apart() {
    let mut bench = talked(2);
    bench.append(Story::new("globex", "c1").tell("0:00 start | 0:01 visitor"));
    bench.apply(usize::MAX);
    bench.flush();
    assert_eq!(messages(&bench.store), 2);
    assert_eq!(table(&bench.store, tenant("globex"), Table::Messages).len(), 1);
    let [messages, conversations, ..] = bench.store.snapshots(tenant("nobody"));
    assert!(messages.files.is_empty() && conversations.batches.is_empty());
}
