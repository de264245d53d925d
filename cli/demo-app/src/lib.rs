//! Demo application: one hidden subcommand with several roles, so that the demo needs nothing but this program.
//!
//! A crate of its own because it is a different program that only shares the binary: it speaks gRPC with protobuf
//! messages of its own, which the commands of `mesh` must not, and it knows neither Kubernetes nor the mesh.
//!
//! ```text
//! traffic, load ──HTTP/1──▶ web ──gRPC──▶ emoji
//!                            ├───gRPC──▶ voting (split: voting-v1, voting-v2)
//!                            └──HTTP/1─▶ voting
//! ```

mod capture;
mod emoji;
mod load;
mod proto;
mod server;
mod traffic;
mod voting;
mod web;

pub use capture::{CaptureReport, Captured};
pub use load::{LoadReport, now_ms};

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;

/// Header with the version of `voting` that answered.
const VERSION_HEADER: &str = "x-version";

/// Roles of the application.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Web frontend.
    Web(web::WebArgs),
    /// Emoji to vote for.
    Emoji(emoji::EmojiArgs),
    /// Vote counter.
    Voting(voting::VotingArgs),
    /// Traffic generator.
    Traffic(traffic::TrafficArgs),
    /// Send a fixed number of requests and print the counts as JSON.
    Load(load::LoadArgs),
    /// Capture packets in this network namespace, search them for a marker, and print the counts as JSON.
    Capture(capture::CaptureArgs),
}

/// Runs a role.
pub fn run(command: Command) -> Result<ExitCode> {
    if let Command::Capture(args) = command {
        return capture::run(&args).map(|()| ExitCode::SUCCESS);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Web(args) => web::run(args).await,
            Command::Emoji(args) => emoji::run(args).await,
            Command::Voting(args) => voting::run(args).await,
            Command::Traffic(args) => traffic::run(args).await,
            Command::Load(args) => load::run(args).await,
            Command::Capture(_) => Ok(()),
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a report as JSON on one line.
fn print(report: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(report)?)?;
    Ok(out.flush()?)
}
