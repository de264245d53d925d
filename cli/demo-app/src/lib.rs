//! The demo's application: one hidden subcommand with several roles, so that the demo needs nothing but the program itself.
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

pub use capture::{Captured, Report as CaptureReport};
pub use load::{Report as LoadReport, now_ms};

use std::{io::Write as _, process::ExitCode};

use anyhow::Result;

/// Header that tells which version of `voting` answered.
const VERSION_HEADER: &str = "x-version";

/// Which role.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// The front.
    Web(web::Args),
    /// The emoji that can be voted for.
    Emoji(emoji::Args),
    /// The votes.
    Voting(voting::Args),
    /// Somebody who votes all the time.
    Traffic(traffic::Args),
    /// A counted number of requests; prints the counts as JSON.
    Load(load::Args),
    /// Looks for a text in what passes on this network namespace's interfaces; prints the counts as JSON.
    Capture(capture::Args),
}

/// Plays the role.
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

/// Prints what was counted, as JSON on one line.
fn print(report: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(report)?)?;
    Ok(out.flush()?)
}
