//! `tests-fuzz --minutes 60 [TARGET]`: runs fuzz targets, each for so many minutes, as many at once as there are CPUs.

use std::process::{Command, ExitCode};

use anyhow::Context as _;
use cargo_metadata::{DependencyKind, MetadataCommand};
use clap::Parser;

/// Run the fuzz targets for long.
#[derive(Parser)]
struct Args {
    /// Minutes of each target.
    #[arg(long, default_value_t = 60.0)]
    minutes: f64,
    /// Part of the names of targets; all without one.
    #[arg(default_value = "fuzz_")]
    target: String,
}

/// Packages that have targets: those whose tests use the engine.
fn packages() -> anyhow::Result<Vec<String>> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("cannot read the workspace")?;
    let is_engine = |dependency: &cargo_metadata::Dependency| {
        dependency.name == env!("CARGO_PKG_NAME") && dependency.kind == DependencyKind::Development
    };
    let with_targets = metadata
        .packages
        .into_iter()
        .filter(|package| package.dependencies.iter().any(is_engine));
    Ok(with_targets.map(|package| package.name.to_string()).collect())
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let mut is_good = true;
    for package in packages()? {
        // One package after the other: an error of one does not keep the others from running.
        let status = Command::new("cargo")
            .args([
                "test",
                "--quiet",
                "--release",
                "-p",
                &package,
                &args.target,
                "--",
                "--nocapture",
            ])
            .env(tests_fuzz::MINUTES, args.minutes.to_string())
            .status()
            .context("cannot run cargo")?;
        is_good &= status.success();
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
