//! Engine of the fuzz targets. A target stands as a test beside its parser (`fuzz_*`): it gives seeds and a check, and
//! the engine feeds the seeds and mutants of them to the check.
//!
//! Seeds are what the target makes with its own encoders, and the files in `corpus/TARGET`, which hold what once
//! failed. In `cargo test` a target runs a fixed series of mutants, the same on every machine; with `MESH_FUZZ_MINUTES`
//! a random one for that long. A failing mutant is reduced and written into the corpus.
//!
//! Built on proptest, which reduces; not on bolero 0.13: with it in the lock file, Cargo holds back the `indexmap` and
//! `hashbrown` of the whole workspace.

mod mutate;

use std::{
    cell::{Cell, RefCell},
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook},
    path::{Path, PathBuf},
    sync::Once,
    time::{Duration, Instant},
};

use proptest::{
    collection::vec,
    test_runner::{Config, TestError, TestRng, TestRunner},
};

use crate::mutate::{Edit, apply, edit};

/// Environment variable: minutes that each target runs.
pub const MINUTES: &str = "MESH_FUZZ_MINUTES";
/// Mutants of a target in `cargo test`: a number, not a time, so that a fast machine finds what a slow one does.
const MUTANTS: u64 = 2_000;
/// Mutants between two looks at the clock.
const ROUND: u32 = 50;
/// Mutants of each seed for one of nothing.
const SEEDED: usize = 8;
/// Most edits that make a mutant.
const EDITS: usize = 8;

/// Input of a check.
#[derive(Debug)]
pub struct Target {
    /// Name: that of the test function.
    pub name: &'static str,
    /// Valid inputs.
    pub seeds: Vec<Vec<u8>>,
    /// Tokens of the grammar that mutants use often.
    pub words: &'static [&'static str],
}

impl Target {
    /// Feeds every seed, then mutants, to `check`, which panics on what must not be.
    pub fn run(mut self, check: impl Fn(&[u8])) {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name);
        self.seeds.extend(files(&corpus));
        for seed in &self.seeds {
            check(seed);
        }
        let minutes = std::env::var(MINUTES).ok().map(|text| text.parse::<f64>());
        let long = minutes.map(|minutes| Duration::from_secs_f64(minutes.expect("minutes, a number") * 60.0));
        let (begun, mut count) = (Instant::now(), 0);
        let mut seeder = runner(None, long.is_some());
        while long.map_or(count < MUTANTS, |long| begun.elapsed() < long) {
            let strategy = (0..=SEEDED * self.seeds.len(), vec(edit(), 0..EDITS));
            // A runner ends with its count of cases.
            let mut runner = runner(Some(seeder.new_rng()), false);
            let ran = quietly(|| {
                runner.run(&strategy, |(seed, edits)| {
                    check(&self.mutant(seed / SEEDED, &edits));
                    Ok(())
                })
            });
            if let Err(TestError::Fail(_, (seed, edits))) = ran {
                self.fail(&corpus, &self.mutant(seed / SEEDED, &edits));
            }
            count += u64::from(ROUND);
        }
        let (name, seeds) = (self.name, self.seeds.len());
        #[expect(clippy::print_stdout, reason = "the report of a target, which its user reads")]
        {
            println!("fuzz {name}: {seeds} seeds, {count} mutants in {:.1?}", begun.elapsed());
        }
    }

    /// Mutant of a seed; of nothing, if there is no such seed.
    fn mutant(&self, seed: usize, edits: &[Edit]) -> Vec<u8> {
        let mut bytes = self.seeds.get(seed).cloned().unwrap_or_default();
        for edit in edits {
            apply(edit, &mut bytes, &self.seeds, self.words);
        }
        bytes
    }

    fn fail(&self, corpus: &Path, input: &[u8]) -> ! {
        let file = corpus.join(format!("{:016x}", hash(input)));
        let written = fs::create_dir_all(corpus).and_then(|()| fs::write(&file, input));
        panic!(
            "{}: {}\ninput, {} bytes: {}\nwritten to {}: {written:?}",
            self.name,
            LAST.take(),
            input.len(),
            input.escape_ascii(),
            file.display(),
        );
    }
}

/// Runs `call` and returns its result. Panics if the heap that it held at once exceeds `limit` bytes.
pub fn within<T>(limit: usize, call: impl FnOnce() -> T) -> T {
    let mut result = None;
    // An unwound measurement would never end.
    let heap = allocation_counter::measure(|| result = Some(catch_unwind(AssertUnwindSafe(call))));
    let result = result.expect("it was called");
    let peak = heap.bytes_max;
    let result = result.unwrap_or_else(|panic| resume_unwind(panic));
    assert!(peak <= limit as u64, "held {peak} bytes at once, the limit is {limit}");
    result
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
    /// Message of the last panic while quiet.
    static LAST: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps the panics of a thread for [`LAST`]: reducing an input makes hundreds.
fn quietly<T>(call: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let shown = take_hook();
        set_hook(Box::new(move |panic| {
            if IS_QUIET.get() {
                LAST.set(panic.to_string());
            } else {
                shown(panic);
            }
        }));
    });
    IS_QUIET.set(true);
    let result = call();
    IS_QUIET.set(false);
    result
}

fn runner(rng: Option<TestRng>, is_random: bool) -> TestRunner {
    let config = Config {
        cases: ROUND,
        failure_persistence: None,
        max_shrink_iters: 5_000,
        ..Config::default()
    };
    if is_random {
        return TestRunner::new(config);
    }
    let rng = rng.unwrap_or_else(|| TestRng::deterministic_rng(config.rng_algorithm));
    TestRunner::new_with_rng(config, rng)
}

/// Contents of the files of a directory, by name.
fn files(dir: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("readable")).collect()
}

/// FNV-1a: a name for an input that is the same everywhere.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &'static str) -> Target {
        Target {
            name,
            seeds: vec![b"length=0010;name=web".to_vec()],
            words: &["admin"],
        }
    }

    #[test]
    fn finds_and_reduces_a_fault_and_keeps_it() {
        let name = "engine_finds";
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let is_bad = |bytes: &[u8]| bytes.windows(5).any(|five| five == b"admin");
        let run = || target(name).run(|bytes| assert!(!is_bad(bytes), "forbidden"));
        catch_unwind(AssertUnwindSafe(run)).expect_err("mutants with the word");
        let kept = files(&corpus);
        fs::remove_dir_all(&corpus).expect("written");
        let [kept] = &kept[..] else { panic!("one input") };
        assert!(is_bad(kept) && kept.len() <= 25, "{}", kept.escape_ascii());
    }

    #[test]
    fn mutants_are_the_same_each_time_and_differ() {
        let series = || {
            let seen = RefCell::new(Vec::new());
            target("engine_series").run(|bytes| {
                if seen.borrow().len() < 500 {
                    seen.borrow_mut().push(bytes.to_vec());
                }
            });
            seen.into_inner()
        };
        let (first, second) = (series(), series());
        assert_eq!(first, second);
        let different: std::collections::HashSet<_> = first.iter().collect();
        assert!(different.len() > 350, "{}", different.len());
    }

    #[test]
    fn heap_is_measured() {
        within(10_000, || std::hint::black_box(vec![0_u8; 9_000]));
        let over = || within(10_000, || std::hint::black_box(vec![0_u8; 11_000]));
        catch_unwind(over).expect_err("over the limit");
        let called = Cell::new(false);
        within(0, || called.set(true));
        assert!(called.get());
    }
}
