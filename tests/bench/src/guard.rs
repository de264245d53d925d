//! Instructions per request under callgrind, compared with the committed figures. Unlike time they are not noise on a
//! shared machine: a program takes the same number anywhere, to about one percent.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::report::median;

/// Compare instructions per request with the committed figures.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// File of the committed figures
    #[arg(long, value_name = "FILE", default_value = "tests/bench/instructions.json")]
    figures: PathBuf,
    /// Replace them by the current figures
    #[arg(long)]
    update: bool,
    /// Count and print the bare pair too
    #[arg(long)]
    bare: bool,
}

/// Requests of the two runs, whose difference excludes the start.
const REQUESTS: [usize; 2] = [1_600, 6_400];
/// Largest allowed increase.
const MOST: f64 = 1.05;
/// Decrease that is worth a new figure.
const LESS: f64 = 0.98;

/// Instructions per request.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Figures {
    outbound: u64,
    inbound: u64,
}

/// Runs the comparison.
#[expect(clippy::print_stdout, reason = "it is what this command is for")]
pub(crate) fn run(args: &Args) -> Result<()> {
    if args.bare {
        let Figures { outbound, inbound } = count(true)?;
        println!("bare pair: outbound {outbound}, inbound {inbound} instructions per request");
    }
    let now = count(false)?;
    println!(
        "outbound {}, inbound {} instructions per request",
        now.outbound, now.inbound
    );
    let file = args.figures.display();
    if args.update {
        let text = serde_json::to_string_pretty(&now)? + "\n";
        return std::fs::write(&args.figures, text).with_context(|| format!("cannot write {file}"));
    }
    let text = std::fs::read_to_string(&args.figures).with_context(|| format!("cannot read {file}"))?;
    let committed: Figures = serde_json::from_str(&text).with_context(|| format!("{file} is not as expected"))?;
    for (name, now, committed) in [
        ("outbound", now.outbound, committed.outbound),
        ("inbound", now.inbound, committed.inbound),
    ] {
        let ratio = now as f64 / committed as f64;
        ensure!(
            ratio <= MOST,
            "{name}: a request takes {now} instructions, {:.1} % more than the {committed} of {file}",
            (ratio - 1.0) * 100.0
        );
        if ratio < LESS {
            println!("{name}: that is less than the {committed} of {file}; commit it by --update");
        }
    }
    Ok(())
}

/// Number of counts: the threads decide which requests leave together, which moves a figure by 2 %.
const COUNTS: usize = 5;

/// Medians of counts.
fn count(is_bare: bool) -> Result<Figures> {
    let counts = (0..COUNTS).map(|_| count_once(is_bare)).collect::<Result<Vec<_>>>()?;
    let median = |of: fn(&Figures) -> u64| median(counts.iter().map(|one| of(one) as f64).collect()) as u64;
    Ok(Figures {
        outbound: median(|one| one.outbound),
        inbound: median(|one| one.inbound),
    })
}

fn count_once(is_bare: bool) -> Result<Figures> {
    let folder = tempfile::tempdir()?;
    let mut totals = Vec::new();
    for requests in REQUESTS {
        totals.push(one(folder.path(), requests, is_bare)?);
    }
    let each = |thread: usize| (totals[1][thread] - totals[0][thread]) / (REQUESTS[1] - REQUESTS[0]) as u64;
    // Threads in the order they start: the client with the application, inbound, outbound.
    Ok(Figures {
        inbound: each(1),
        outbound: each(2),
    })
}

/// Instructions of each thread of one run.
fn one(folder: &Path, requests: usize, is_bare: bool) -> Result<Vec<u64>> {
    let out = folder.join(requests.to_string());
    let mut command = Command::new("valgrind");
    command
        .args(["--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .args(["instructions", "--requests", &requests.to_string()])
        .args(is_bare.then_some("--bare"));
    let ran = command.stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let ran = ran.context("cannot run valgrind; is it installed?")?;
    if !ran.status.success() {
        bail!("valgrind failed: {}", String::from_utf8_lossy(&ran.stderr));
    }
    let total = |thread: usize| {
        let file = format!("{}-{thread:02}", out.display());
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
        totals(&text).with_context(|| format!("{file} has no totals"))
    };
    (1..=3).map(total).collect()
}

fn totals(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_found() {
        assert_eq!(totals("fn=(1) x\n5 7\ntotals: 123456\n"), Some(123_456));
        assert_eq!(totals("summary: 5\n"), None);
    }
}
