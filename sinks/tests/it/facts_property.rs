//! However the same records are split into batches, flushes, compactions and restarts: the tables are the same.

use crate::log::Bench;
use crate::story::Story;
use ingest::event::Event;
use ingest::time::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use sinks::parquet::FactConfig;

const STEPS: [&str; 17] = [
    "visitor",
    "agent ada",
    "agent bob",
    "bot",
    "note ada",
    "assign ada",
    "resolve ada",
    "resolve system",
    "reopen",
    "rate 3",
    "tag +vip",
    "queue",
    "unassign ada",
    "standby",
    "idle",
    "snooze ada",
    "wake",
];

#[derive(Debug, Clone, Copy)]
enum Upkeep {
    None,
    Flush,
    FlushDiesBeforeCommit,
    FlushDiesAfterCommit,
    FlushAborted,
    Compact,
    CompactDiesBeforeCommit,
    CompactDiesAfterCommit,
    Restart,
}

fn upkeep() -> impl Strategy<Value = Upkeep> {
    use Upkeep::*;
    prop_oneof![
        Just(None),
        Just(Flush),
        Just(Flush),
        Just(Flush),
        Just(FlushDiesBeforeCommit),
        Just(FlushDiesAfterCommit),
        Just(FlushAborted),
        Just(Compact),
        Just(CompactDiesBeforeCommit),
        Just(CompactDiesAfterCommit),
        Just(Restart),
    ]
}

/// (conversation, step, milliseconds since the last event)
fn events(choices: &[(usize, usize, i64)]) -> Vec<Event> {
    let mut stories: Vec<Story> =
        (0..4).map(|n| Story::new(if n < 3 { "acme" } else { "globex" }, &format!("c{n}"))).collect();
    let mut now = 0;
    let mut events: Vec<Event> = stories.iter_mut().map(|story| story.step(Timestamp(0), "start")).collect();
    for (conversation, step, wait) in choices {
        now += wait;
        events.push(stories[*conversation].step(Timestamp(now), STEPS[*step]));
    }
    events
}

fn perform(bench: &mut Bench, upkeep: Upkeep) {
    match upkeep {
        Upkeep::None => {}
        Upkeep::Flush => bench.flush(),
        Upkeep::FlushAborted => {
            if let Some(plan) = bench.store.begin_flush().unwrap() {
                bench.store.abort_flush(plan);
            }
        }
        Upkeep::FlushDiesBeforeCommit => {
            drop(bench.store.begin_flush().unwrap());
            bench.restart();
        }
        Upkeep::FlushDiesAfterCommit => {
            if let Some(plan) = bench.store.begin_flush().unwrap() {
                bench.commit(&plan);
            }
            bench.restart();
        }
        Upkeep::Compact => drop(bench.compact()),
        Upkeep::CompactDiesBeforeCommit => {
            drop(bench.store.begin_compaction().unwrap());
            bench.restart();
        }
        Upkeep::CompactDiesAfterCommit => {
            if let Some(plan) = bench.store.begin_compaction().unwrap() {
                bench.commit(&plan);
            }
            bench.restart();
        }
        Upkeep::Restart => bench.restart(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_the_same_records_gives_the_same_tables(
        choices in vec((0..4_usize, 0..STEPS.len(), 0..90_000_i64), 1..80),
        plan in vec((1..12_usize, 0..6_u64, upkeep()), 1..24),
    ) {
        let events = events(&choices);
        let mut whole = Bench::new(FactConfig::default());
        whole.append(events.clone());
        whole.apply(usize::MAX);
        whole.feed_usage(0, whole.log.len() as u64);

        // Two folds at most, so that most are made again from history; files merge early and in part.
        let config = FactConfig { compact_files: 2, compact_rows: 60, folds: 2, ..FactConfig::default() };
        let mut split = Bench::new(config);
        split.append(events);
        let end = split.log.len() as u64;
        for (records, lag, what) in plan {
            split.apply(records);
            // The job is somewhere else than the log's follower, and delivers some rows again.
            let through = split.store.applied().saturating_sub(lag).max(split.store.usage_applied());
            split.feed_usage(split.store.usage_applied().saturating_sub(lag), through);
            perform(&mut split, what);
        }
        split.apply(usize::MAX);
        split.feed_usage(split.store.usage_applied(), end);
        prop_assert_eq!(split.contents(), whole.contents());
        split.flush();
        split.compact();
        prop_assert_eq!(split.contents(), whole.contents());
        prop_assert!(split.store.verify().is_ok());
        split.restart();
        prop_assert_eq!(split.contents(), whole.contents());
    }
}
