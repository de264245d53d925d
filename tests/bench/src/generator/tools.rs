//! wrk and h2load: their command lines and output.

use std::{io::ErrorKind, path::Path, process::Command};

use anyhow::{Context as _, Result, bail, ensure};

use super::Seen;
use crate::orders::{self, Load, Loaded, What};

/// Third-party generator.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Wrk,
    H2load,
}

impl Tool {
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Wrk => "wrk",
            Self::H2load => "h2load",
        }
    }

    /// Fails if it is not installed.
    pub(super) fn check(self) -> Result<()> {
        let (program, package) = match self {
            Self::Wrk => ("wrk", "wrk"),
            Self::H2load => ("h2load", "nghttp2-client"),
        };
        match Command::new(program).arg("--version").output() {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("the program {program} is not on the PATH: install it (in Debian the package {package})")
            }
            Err(error) => Err(error).with_context(|| format!("cannot run {program}")),
        }
    }

    /// Runs the load with one thread.
    pub(super) fn run(self, load: &Load) -> Result<Seen> {
        match self {
            Self::Wrk => {
                let mut wrk = Command::new("wrk");
                wrk.args(["-t1", "--latency", &format!("-c{}", load.connections)]);
                wrk.args([format!("-d{}s", load.ms / 1000), url(load)]);
                parse_wrk(&output(wrk)?)
            }
            Self::H2load => {
                let folder = tempfile::tempdir()?;
                let log = folder.path().join("requests");
                output(h2load(load, &log))?;
                let log = std::fs::read_to_string(&log).context("h2load has written no log")?;
                parse_h2load(&log, load.ms as f64 / 1000.0)
            }
        }
    }
}

fn url(load: &Load) -> String {
    format!("http://{}/bench", load.addr)
}

fn h2load(load: &Load, log: &Path) -> Command {
    let mut h2load = Command::new("h2load");
    h2load.args([
        "-t1",
        &format!("-c{}", load.connections),
        &format!("-D{}", load.ms / 1000),
    ]);
    match load.what {
        What::Http2 { streams } => h2load.arg(format!("-m{streams}")),
        What::Open { rate } => {
            let each = rate as f64 / load.connections as f64;
            h2load.args(["--h1", "-m1", &format!("--rps={each}")])
        }
        _ => h2load.args(["--h1", "-m1"]),
    };
    h2load.arg("--log-file").arg(log).arg(url(load));
    h2load
}

fn output(mut command: Command) -> Result<String> {
    let output = command.output()?;
    ensure!(
        output.status.success(),
        "it ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Parses the output of wrk: quantiles, and errors only if there were some.
fn parse_wrk(text: &str) -> Result<Seen> {
    for errors in ["Non-2xx", "Socket errors"] {
        ensure!(!text.contains(errors), "wrk has seen errors:\n{text}");
    }
    let value = |name: &str| {
        let mut values = text.lines().filter_map(|line| line.trim().strip_prefix(name));
        values.next().map(str::trim)
    };
    let seen = || {
        Some(Seen {
            rate: value("Requests/sec:")?.parse().ok()?,
            p50: microseconds(value("50%")?)?,
            p99: microseconds(value("99%")?)?,
        })
    };
    seen().with_context(|| format!("wrk says something unexpected:\n{text}"))
}

/// Parses a time of wrk.
fn microseconds(text: &str) -> Option<f64> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 60e6)];
    let (number, unit) = units
        .iter()
        .find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    Some(number.parse::<f64>().ok()? * unit)
}

/// Parses the log of h2load: a line per request with its start, status and microseconds. It prints no quantiles.
fn parse_h2load(log: &str, seconds: f64) -> Result<Seen> {
    let mut latencies = orders::histogram();
    for line in log.lines() {
        let mut fields = line.split('\t');
        let (_begun, status, took) = (fields.next(), fields.next(), fields.next());
        ensure!(status == Some("200"), "h2load has seen an error: {line}");
        let took = took.and_then(|took| took.parse().ok());
        latencies.saturating_record(took.with_context(|| format!("h2load says something unexpected: {line}"))?);
    }
    Ok(Seen::from(&Loaded::new(&latencies, seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 4s test @ http://127.0.0.1:9000/bench
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   353.42us   82.21us   4.29ms   93.51%
    Req/Sec    90.15k     3.02k   93.30k    95.00%
  Latency Distribution
     50%  343.00us
     75%  361.00us
     90%  399.00us
     99%    1.20ms
  358914 requests in 4.00s, 88.31MB read
Requests/sec:  89697.34
Transfer/sec:     22.07MB
";

    #[test]
    fn parses_output_of_wrk() {
        let seen = Seen {
            rate: 89_697.34,
            p50: 343.0,
            p99: 1_200.0,
        };
        assert_eq!(parse_wrk(WRK).expect("its words"), seen);
        assert!(parse_wrk("nonsense").is_err());
        let wrong = format!("{WRK}  Non-2xx or 3xx responses: 5\n");
        assert!(parse_wrk(&wrong).is_err());
        assert_eq!(microseconds("2.50s"), Some(2_500_000.0));
    }

    #[test]
    fn parses_log_of_h2load() {
        let log = "1700000000000000\t200\t100\n1700000000000100\t200\t300\n";
        let seen = parse_h2load(log, 2.0).expect("its words");
        assert_eq!((seen.rate, seen.p50, seen.p99), (1.0, 100.0, 300.0));
        assert!(parse_h2load("1700000000000000\t-1\t100\n", 2.0).is_err());
        assert!(parse_h2load("1700000000000000\t200\n", 2.0).is_err());
    }
}
