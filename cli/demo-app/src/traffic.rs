//! `traffic`: traffic generator that votes continuously.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    sync::Semaphore,
    time::{MissedTickBehavior, interval},
};

use super::server::stopped;

/// Limit of concurrent requests; the generator waits beyond it.
const CONCURRENCY: usize = 64;

/// Choices to vote for, in turn.
const CHOICES: [&str; 6] = [":crab:", ":doughnut:", ":rocket:", ":pizza:", ":octopus:", ":taco:"];

/// Arguments of `traffic`.
#[derive(Debug, clap::Args)]
pub struct TrafficArgs {
    /// URL of web.
    #[arg(long, default_value = "http://web")]
    url: String,
    /// Requests per second; 0 sends none.
    #[arg(long, default_value_t = 25.0)]
    rps: f64,
}

pub(super) async fn run(args: TrafficArgs) -> Result<()> {
    ensure!(
        args.rps >= 0.0 && args.rps <= 10_000.0,
        "invalid --rps {}: must be between 0 and 10000",
        args.rps
    );
    args.url
        .parse::<Uri>()
        .with_context(|| format!("invalid --url {:?}", args.url))?;
    tokio::select! {
        () = generate(&args) => Ok(()),
        result = stopped() => result,
    }
}

async fn generate(args: &TrafficArgs) {
    if args.rps == 0.0 {
        return std::future::pending().await;
    }
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let free = Arc::new(Semaphore::new(CONCURRENCY));
    let mut ticks = interval(Duration::from_secs_f64(1.0 / args.rps));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0_usize.. {
        ticks.tick().await;
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        let Ok(request) = Request::get(format!("{}{}", args.url, path(n))).body(Empty::new()) else {
            return;
        };
        let request = client.request(request);
        tokio::spawn(async move {
            // Failures are reported by the mesh.
            if let Ok(response) = request.await {
                drop(response.into_body().collect().await);
            }
            drop(permit);
        });
    }
}

/// Of ten requests, eight vote, one lists the emoji and one gets the results.
fn path(n: usize) -> String {
    match n % 10 {
        3 => "/api/list".to_owned(),
        7 => "/api/results".to_owned(),
        _ => format!("/api/vote?choice={}", CHOICES[n % CHOICES.len()]),
    }
}
