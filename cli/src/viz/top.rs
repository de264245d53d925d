//! `mesh viz top`: the paths that are asked for just now, by how often. It counts what a tap shows.

mod rows;

use std::{
    io::{IsTerminal as _, stdout},
    time::{Duration, Instant},
};

use anyhow::Result;
use viz_api::{Resource, TapRequest};

use self::rows::{Rows, View};
use super::{Namespace, Source, resources, tap::Lines};
use crate::output;

/// Between two pictures.
const REDRAW: Duration = Duration::from_millis(500);
/// How long is counted when nobody watches: the picture is printed once.
const ONCE: Duration = Duration::from_secs(5);

/// What to show.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// KIND, KIND/NAME or KIND NAME; kinds: deploy, po, ns, sts, ds, rs, rc, job, cj.
    #[arg(required = true, value_name = "RESOURCE")]
    resource: Vec<String>,
    #[command(flatten)]
    namespace: Namespace,
    /// Only what goes to this resource, KIND/NAME.
    #[arg(long, value_name = "RESOURCE")]
    to: Option<Resource>,
    /// Namespace of --to.
    #[arg(long, value_name = "NAMESPACE", requires = "to")]
    to_namespace: Option<String>,
    /// Requests a second, over all pods.
    #[arg(long, default_value_t = 100)]
    max_rps: u32,
    /// Only this scheme.
    #[arg(long)]
    scheme: Option<String>,
    /// Only this method.
    #[arg(long)]
    method: Option<String>,
    /// Only this authority.
    #[arg(long)]
    authority: Option<String>,
    /// Only paths that begin with this.
    #[arg(long, value_parser = super::tap::path_prefix)]
    path: Option<String>,
    /// Only pods that carry these labels.
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Count requests of all sources together.
    #[arg(long)]
    hide_sources: bool,
    /// Count by route instead of path.
    #[arg(long)]
    routes: bool,
    #[command(flatten)]
    source: Source,
}

/// Shows it until nobody watches any more.
pub(super) async fn run(args: Args) -> Result<()> {
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
    let mut lines = Lines::of(api.tap(&request).await?);
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
                // The cursor goes home and what is below it is cleared, so that a picture replaces the last one.
                if watched && !output::try_print(&format!("\x1b[H\x1b[J{}", rows.render(window_height())))? {
                    return Ok(());
                }
            }
        }
    }
    output::print(&rows.render(usize::MAX))
}

/// Rows that fit below each other.
fn window_height() -> usize {
    let lines = std::env::var("LINES").ok().and_then(|lines| lines.parse().ok());
    lines.unwrap_or(40_usize).saturating_sub(2)
}
