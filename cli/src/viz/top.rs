//! `mesh viz top`: live traffic by path, most frequent first, counted from a tap.

mod rows;

use std::{
    io::{IsTerminal as _, stdout},
    time::{Duration, Instant},
};

use anyhow::Result;
use viz_api::{Resource, TapRequest};

use self::rows::{Rows, View};
use super::{ApiFlags, NamespaceFlags, resources, tap::Lines};
use crate::output;

/// Interval between redraws.
const REDRAW: Duration = Duration::from_millis(500);
/// Time counted when standard output is not a terminal: the table is then printed once.
const ONCE: Duration = Duration::from_secs(5);

/// Arguments of `mesh viz top`.
#[derive(Debug, clap::Args)]
pub(crate) struct TopArgs {
    /// KIND, KIND/NAME or KIND NAME; kinds: deploy, po, ns, sts, ds, rs, rc, job, cj.
    #[arg(required = true, value_name = "RESOURCE")]
    resource: Vec<String>,
    #[command(flatten)]
    namespace: NamespaceFlags,
    /// Restrict to requests to this resource, KIND/NAME.
    #[arg(long, value_name = "RESOURCE")]
    to: Option<Resource>,
    /// Namespace of --to.
    #[arg(long, value_name = "NAMESPACE", requires = "to")]
    to_namespace: Option<String>,
    /// Maximum requests per second, over all pods.
    #[arg(long, default_value_t = 100)]
    max_rps: u32,
    /// Restrict to this scheme.
    #[arg(long)]
    scheme: Option<String>,
    /// Restrict to this method.
    #[arg(long)]
    method: Option<String>,
    /// Restrict to this authority.
    #[arg(long)]
    authority: Option<String>,
    /// Restrict to paths with this prefix.
    #[arg(long, value_parser = super::tap::path_prefix)]
    path: Option<String>,
    /// Restrict to pods that match this label selector.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Do not distinguish sources.
    #[arg(long)]
    hide_sources: bool,
    /// Group by route instead of path.
    #[arg(long)]
    routes: bool,
    #[command(flatten)]
    source: ApiFlags,
}

/// `mesh viz top`: redraws until the reader closes standard output.
pub(super) async fn run(args: TopArgs) -> Result<()> {
    let view = View {
        sources: !args.hide_sources,
        routes: args.routes,
    };
    let api = args.source.api().await?;
    let request = TapRequest {
        namespace: args.namespace.get(&api),
        labels: args.selector,
        to: args.to,
        to_namespace: args.to_namespace,
        scheme: args.scheme,
        method: args.method,
        authority: args.authority,
        path: args.path,
        max_rps: Some(args.max_rps),
        ..TapRequest::of(resources::parse_one(&args.resource)?)
    };
    let mut lines = Lines::new(api.tap(&request).await?);
    let watched = stdout().is_terminal();
    let began = Instant::now();
    let mut rows = Rows::new(view);
    let mut redraw = tokio::time::interval(REDRAW);
    loop {
        tokio::select! {
            line = lines.next() => match line? {
                Some(line) => rows.add(&line)?,
                None => break,
            },
            _ = redraw.tick() => {
                let is_over = !watched && began.elapsed() >= ONCE;
                if is_over {
                    break;
                }
                // Cursor home and clear below, so that the table replaces the previous one.
                if watched && !output::try_print(&format!("\x1b[H\x1b[J{}", rows.render(window_height())))? {
                    return Ok(());
                }
            }
        }
    }
    output::print(&rows.render(usize::MAX))
}

/// Number of rows that fit on the terminal.
fn window_height() -> usize {
    let lines = std::env::var("LINES").ok().and_then(|lines| lines.parse().ok());
    lines.unwrap_or(40_usize).saturating_sub(2)
}
