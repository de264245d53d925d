//! Terminal output: tables without borders, figures in Linkerd's formats, a standard output that may close early.

mod figures;
#[cfg_attr(not(unix), path = "output/no_keys.rs")]
pub(crate) mod keys;
mod spinner;
mod table;
pub(crate) mod terminal;

pub(crate) use cli_check::stdout::{print, try_print};
pub(crate) use figures::{bytes_per_second, milliseconds, percent, requests_per_second};
pub(crate) use spinner::patiently;
pub(crate) use table::{Align, Table};

use std::io::Write as _;

use anyhow::Context as _;

/// Output format of manifests and other documents.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DocumentFormat {
    /// YAML
    #[default]
    Yaml,
    /// JSON
    Json,
}

/// Prints manifests. The text is complete before the first byte is written: `kubectl apply` never reads half of it.
pub(crate) fn print_manifests(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("cannot write the manifests")
}
