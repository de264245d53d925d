//! Every attack of the table as a test of its own, each with a fresh program.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use libtest_mimic::{Arguments, Failed, Trial};
use tests_harness::namespaces;
use tests_hostile::{
    attacks,
    limited::Limiter,
    pending,
    programs::Programs,
    suite::{self, Attack, Row},
    table,
};

/// Latencies below this are the machine's, which is shared; a build without optimisation says nothing about them.
const FLOOR: Duration = Duration::from_millis(if cfg!(debug_assertions) { 20_000 } else { 1_000 });
/// Rows at a time: most of them wait for time limits.
const AT_ONCE: usize = 4;
/// Held by rows that run beside others; a row that does not hold then is judged by a second run, alone.
static BESIDE: RwLock<()> = RwLock::new(());

type Rows = Arc<Mutex<Vec<Row>>>;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    if let Err(error) = namespaces::private() {
        eprintln!("SKIPPED: no attack was carried out: {error:#}");
        return ExitCode::SUCCESS;
    }
    let (programs, rows) = (programs(), Rows::default());
    let trials = attacks::ALL
        .iter()
        .map(|attack| trial(attack, &programs, &rows))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
    if !rows.is_empty() {
        eprintln!("memory limit: {}\n{}", Limiter::kind(), table::table(&rows));
    }
    for row in pending::ALL {
        eprintln!("PENDING: {}, {:?}: {}", row.name, row.listener, row.reason);
    }
    conclusion.exit_code()
}

fn programs() -> Programs {
    let myself = PathBuf::from(env!("CARGO_BIN_EXE_mesh-hostile"));
    let folder = myself.parent().map(Path::to_owned).unwrap_or_default();
    Programs {
        proxy: folder.join("mesh-proxy"),
        limiter: Limiter { myself },
        folder,
    }
}

fn trial(attack: &'static Attack, programs: &Programs, rows: &Rows) -> Trial {
    let (programs, rows) = (programs.clone(), Arc::clone(rows));
    let name = format!("{}, {:?}", attack.name, attack.listener);
    Trial::test(name, move || {
        let program = programs.program(attack.listener);
        if !programs.has(attack.listener) {
            return Err(format!("{} is missing: `cargo build --workspace` builds it", program.display()).into());
        }
        let run = || suite::row(attack, &programs).map_err(|error| format!("{error:#}"));
        let pending = pending::reason(attack.name, attack.listener);
        let mut row = {
            let _beside = BESIDE.read();
            run()?
        };
        if pending.is_none() && !row.broken(FLOOR).is_empty() {
            let _alone = BESIDE.write();
            row = run()?;
        }
        let broken = row.broken(FLOOR);
        rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
        verdict(&broken, pending)
    })
}

fn verdict(broken: &[String], pending: Option<&str>) -> Result<(), Failed> {
    match (broken, pending) {
        ([], _) => Ok(()),
        (_, Some(reason)) => {
            eprintln!("pending, {reason}: {}", broken.join("; "));
            Ok(())
        }
        (_, None) => Err(broken.join("; ").into()),
    }
}
