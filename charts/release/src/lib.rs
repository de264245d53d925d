//! Everything that a version consists of, made by one command from the tree.
//!
//! ```text
//! cargo dist ─▶ static programs ─[program]─▶ checked, crates noted inside ─┬─[images]──▶ one OCI archive per image
//! cargo tree ─[linked]─┬──────────────▲                                    └─[archive]─▶ program, man pages
//!                      └─[sbom]─▶ a CycloneDX document per program
//! charts/ ─[archive]─▶ chart packages;    all of them ─▶ SHA256SUMS, krew manifest
//! ```
//!
//! The same commit makes the same bytes: entries have no time and no owner. Signing and publishing belong to the
//! workflow that calls this (`.github/workflows/release.yml`).

pub mod archive;
pub mod images;
mod krew;
mod linked;
mod oci;
mod program;
pub mod release;
mod sbom;

use std::io::Write as _;

use aws_lc_rs::digest;

/// Version of the workspace: tag of every image, version of every chart.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints a line to standard output; a closed pipe is not an error.
pub fn print(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// SHA-256 of `data`, in lower-case hexadecimal digits.
fn sha256(data: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, data))
}

/// Name of this machine's architecture in images and archives.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    }
}
