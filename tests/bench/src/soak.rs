//! Mixed load over the mesh while every answer of the control plane changes each second. Leaks, and growth with every
//! update, show in the memory of the sidecars.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use proxy_model::env;

use crate::{
    lab::{self, Lab, Pair, Wanted},
    namespaces,
    orders::{Load, Order, What},
    proxy,
    report::median,
    usage,
};

/// Run mixed load and check that memory does not grow.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Minutes after the warm-up
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Path of mesh-proxy; defaults to the one beside this program
    #[arg(long, value_name = "PATH")]
    proxy: Option<PathBuf>,
}

/// Warm-up: every kind of update has been sent several times, and every buffer has been used.
const WARM_UP_SECONDS: u64 = 40;
/// Time between samples of memory.
const LOOK: Duration = Duration::from_millis(500);
/// Fewest samples of the start, and of the end: 45 s, because 1 MiB answers and churn move memory by a few MiB from
/// one second to the next.
const LOOKS: usize = 90;
/// Share of a long run, if that is more: while others use the machine, answers pile up for half a minute at a time.
const PART: usize = 10;
/// Allowed difference of the end from the start, as a share of it.
const MOST: f64 = 0.1;

/// Runs the soak.
#[expect(clippy::print_stdout, reason = "it is what this command is for")]
pub(crate) fn run(args: &Args) -> Result<()> {
    namespaces::private()?;
    let mut wanted = Wanted::new(args.proxy.clone().map_or_else(lab::beside_myself, Ok)?);
    // Certificates change with everything else.
    let often = ["1s", "2s"].map(str::to_owned);
    wanted.variables = [env::IDENTITY_MIN_REFRESH, env::IDENTITY_MAX_REFRESH]
        .into_iter()
        .zip(often)
        .collect();
    let mut lab = Lab::start(true)?;
    let pair = lab.mesh(&wanted)?;
    let seconds = args.minutes * 60;
    for side in [&mut lab.client, &mut lab.server] {
        side.order(&Order::Update(WARM_UP_SECONDS + seconds))?;
    }
    exchange(&mut lab, WARM_UP_SECONDS)?;
    let watch = Watch::start(pair);
    let answered = exchange(&mut lab, seconds)?;
    lab.check()?;
    println!("{answered} exchanges in {} minutes, all of them right", args.minutes);
    for (name, looks) in ["outbound", "inbound"].into_iter().zip(watch.end()?) {
        ensure!(looks.len() >= 2 * LOOKS, "too short to tell");
        let part = LOOKS.max(looks.len() / PART);
        let (begin, end) = (
            median(looks[..part].to_vec()),
            median(looks[looks.len() - part..].to_vec()),
        );
        let change = end / begin - 1.0;
        println!(
            "{name}: {:.1} MiB at the beginning, {:.1} MiB at the end, {:.1} MiB at most ({:+.1} %)",
            begin / 1_048_576.0,
            end / 1_048_576.0,
            looks.iter().copied().fold(0.0, f64::max) / 1_048_576.0,
            change * 100.0
        );
        ensure!(
            change.abs() <= MOST,
            "{name}: memory changed by {:.0} %, which is more than {:.0} %",
            change * 100.0,
            MOST * 100.0
        );
    }
    Ok(())
}

/// Runs every kind of load for a number of seconds; returns the number of exchanges.
fn exchange(lab: &mut Lab, seconds: u64) -> Result<u64> {
    let load = |addr, connections, what, pause_ms| Load {
        addr,
        connections,
        ms: seconds * 1000,
        what,
        pause_ms,
    };
    let (http, tcp) = (proxy::service_addr(), proxy::tcp_addr());
    let loads = vec![
        load(http, 16, What::Open { rate: 400 }, 0),
        load(http, 2, What::Http2 { streams: 8 }, 20),
        load(http, 4, What::Churn, 5),
        load(http, 1, What::Large, 100),
        load(tcp, 4, What::Tcp, 50),
    ];
    let loaded = lab.client.order(&Order::Load(loads))?.loaded()?;
    Ok(loaded.iter().map(|load| load.requests).sum())
}

/// Samples the memory of both sidecars periodically.
struct Watch {
    is_over: Arc<AtomicBool>,
    looks: Arc<Mutex<[Vec<f64>; 2]>>,
    thread: thread::JoinHandle<Result<()>>,
}

impl Watch {
    fn start(pair: Pair) -> Self {
        let (is_over, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::default()));
        let (over, noted): (_, Arc<Mutex<[Vec<f64>; 2]>>) = (is_over.clone(), looks.clone());
        let thread = thread::spawn(move || {
            while !over.load(Relaxed) {
                let now = [usage::memory(pair.outbound)?, usage::memory(pair.inbound)?];
                let mut looks = noted.lock().ok().context("a look failed")?;
                for (all, one) in looks.iter_mut().zip(now) {
                    all.push(one);
                }
                drop(looks);
                thread::sleep(LOOK);
            }
            Ok(())
        });
        Self { is_over, looks, thread }
    }

    /// Samples, outbound first.
    fn end(self) -> Result<[Vec<f64>; 2]> {
        self.is_over.store(true, Relaxed);
        self.thread.join().ok().context("a look failed")??;
        let looks = self.looks.lock().ok().context("a look failed")?;
        Ok(looks.clone())
    }
}
