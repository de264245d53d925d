//! `mesh viz top`: live traffic by path, most frequent first, counted from a tap.

mod rows;

use std::{
    io::{IsTerminal as _, stdout},
    time::{Duration, Instant},
};

use anyhow::Result;

use self::rows::{Grouping, Rows};
use super::tap::TapFlags;
use crate::output::{self, keys::Keys, terminal};

/// Interval between redraws.
const REDRAW: Duration = Duration::from_millis(500);
/// Time counted when standard output is not a terminal: the table is then printed once.
const ONCE: Duration = Duration::from_secs(5);

/// Arguments of `mesh viz top`.
#[derive(Debug, clap::Args)]
pub(crate) struct TopArgs {
    /// Do not distinguish sources.
    #[arg(long)]
    hide_sources: bool,
    /// Group by route instead of path.
    #[arg(long)]
    routes: bool,
    #[command(flatten)]
    tap: TapFlags,
}

/// `mesh viz top`: redraws until `q`, Ctrl-C, or until the reader closes standard output.
pub(super) async fn run(args: TopArgs) -> Result<()> {
    let mut rows = Rows::new(Grouping {
        sources: !args.hide_sources,
        routes: args.routes,
    });
    let mut lines = args.tap.open(None).await?;
    let is_watched = stdout().is_terminal();
    let mut keys = if is_watched { Keys::open() } else { None };
    let began = Instant::now();
    let mut redraw = tokio::time::interval(REDRAW);
    loop {
        tokio::select! {
            line = lines.next() => match line? {
                Some(line) => rows.add(&line)?,
                None => break,
            },
            () = quit(keys.as_mut()) => return Ok(()),
            _ = redraw.tick() => {
                if !is_watched && began.elapsed() >= ONCE {
                    break;
                }
                // Cursor home and clear below, so that the table replaces the previous one.
                if is_watched && !output::try_print(&format!("\x1b[H\x1b[J{}", rows.render(height())))? {
                    return Ok(());
                }
            }
        }
    }
    output::print(&rows.render(usize::MAX))
}

/// Waits for `q` or Ctrl-C; without keys, Ctrl-C ends the program as usual.
async fn quit(keys: Option<&mut Keys>) {
    match keys {
        Some(keys) => keys.wait_for(b'q').await,
        None => std::future::pending().await,
    }
}

/// Number of rows that fit on the terminal, below the heading.
fn height() -> usize {
    terminal::rows().unwrap_or(40).saturating_sub(2)
}
