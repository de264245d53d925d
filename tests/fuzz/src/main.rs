//! `tests-fuzz --minutes 60 [TARGET]`: runs fuzz targets, each for so many minutes, as many at once as there are CPUs.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

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

/// Packages that have targets of this name: those whose tests use the engine, and have such a function.
fn packages(target: &str) -> anyhow::Result<Vec<String>> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("cannot read the workspace")?;
    let is_engine = |dependency: &cargo_metadata::Dependency| {
        dependency.name == env!("CARGO_PKG_NAME") && dependency.kind == DependencyKind::Development
    };
    let with_engine = metadata
        .packages
        .into_iter()
        .filter(|package| package.dependencies.iter().any(is_engine));
    let mut names = Vec::new();
    for package in with_engine {
        let dir = package
            .manifest_path
            .parent()
            .context("a manifest lies in a directory")?;
        if has_target(dir.as_std_path(), target)? {
            names.push(package.name.to_string());
        }
    }
    anyhow::ensure!(!names.is_empty(), "no target's name contains {target:?}");
    Ok(names)
}

/// Returns true if a source file in `dir` has a target whose name contains `target`.
fn has_target(dir: &Path, target: &str) -> anyhow::Result<bool> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let found = if path.is_dir() {
            // A package inside another has its own entry.
            !path.join("Cargo.toml").exists() && has_target(&path, target)?
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let is_target = |line: &str| line.trim_start().starts_with("fn fuzz_") && line.contains(target);
            text.lines().any(is_target)
        } else {
            false
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let mut is_good = true;
    for package in packages(&args.target)? {
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
