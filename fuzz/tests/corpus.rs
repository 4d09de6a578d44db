//! Replays the corpora: inputs that once broke something, or reached far into what reads them.

use std::path::Path;
use std::time::{Duration, Instant};

/// What the engine's threads have.
const STACK_BYTES: usize = 16 * 1024 * 1024;
/// Far more than any input may take, on a machine that has much else to do.
const INPUT_TIME_MAX: Duration = Duration::from_secs(10);

#[test]
fn every_input_of_the_corpora_is_taken() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in fuzz::TARGETS {
        let mut inputs: Vec<_> = std::fs::read_dir(corpora.join(name))
            .unwrap_or_else(|error| panic!("the target {name} has no corpus: {error}"))
            .map(|entry| entry.expect("an entry").path())
            .collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "the corpus of {name} is empty");
        for input in inputs {
            let bytes = std::fs::read(&input).expect("readable");
            let started = Instant::now();
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(move || target(&bytes));
            thread.expect("a thread").join().unwrap_or_else(|_| panic!("{} broke {name}", input.display()));
            assert!(started.elapsed() < INPUT_TIME_MAX, "{} took {:?}", input.display(), started.elapsed());
        }
    }
}
