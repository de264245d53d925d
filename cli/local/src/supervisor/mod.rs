//! `internal supervisor`: process 1 of the mesh's namespaces.
//!
//! It does the work of a cluster's programs: controllers (Deployments to Pods, Services to EndpointSlices), kubelet
//! (processes, probes), kube-proxy (address translation), injector (sidecars). One thread, one loop, one state
//! ([`cluster::Cluster`]); each pod is a task ([`lifecycle`]) that only tells what it sees.

mod builtin;
mod cluster;
mod credentials;
mod lifecycle;
mod lint;
mod naming;
mod network;
mod objects;
mod output;
mod plan;
mod probe;
mod process;
mod publish;
mod report;
mod rollout;
mod server;
mod services;
mod sidecar;
mod status;

use std::{
    hash::{DefaultHasher, Hash, Hasher as _},
    io::Read as _,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result};
use listenfd::ListenFd;
use nix::{
    mount::{MsFlags, mount},
    sys::signal::Signal,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::{
    cluster::{Cluster, RuntimeConfig},
    status::Start,
};
use super::{
    start::{Report, Spec},
    state,
};

/// Time after which a start counts as done although some pods are not ready.
const START: Duration = Duration::from_secs(60);
/// Time between two looks at orphans and logs.
const CHORES: Duration = Duration::from_secs(1);

/// Runs the mesh until a shutdown is requested.
pub(super) fn run(spec: &str) -> Result<ExitCode> {
    // The process that made the namespaces waits for this one; when it is gone, so must this one be.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let spec: Spec = serde_json::from_str(spec)?;
    mounts()?;
    log_to(&state::logs(&spec.dir).join("supervisor.log"))?;
    let viz = ListenFd::from_env()
        .take_tcp_listener(0)?
        .context("the listener of mesh-viz was not inherited")?;
    end_with_stdin();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(&spec, viz))?;
    // Everything that still runs ends with process 1.
    std::process::exit(0)
}

fn mounts() -> Result<()> {
    let none = None::<&Path>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).context("cannot make mounts private")?;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), quiet, none)
        .context("cannot mount /proc in the private namespaces (in a container: run it with an unmasked /proc)")
}

fn log_to(path: &Path) -> Result<()> {
    let file = process::open_log(path).with_context(|| format!("cannot open {}", path.display()))?;
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(Mutex::new(file));
    subscriber.try_init().map_err(|error| anyhow::anyhow!("{error}"))
}

/// Exits when standard input closes: the outer process, which holds the other end, is gone.
fn end_with_stdin() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

async fn supervise(spec: &Spec, viz: std::net::TcpListener) -> Result<()> {
    let reporter = report::Reporter::start();
    let credentials = spec
        .mesh
        .then(|| credentials::Credentials::generate(&spec.dir.join("identity")))
        .transpose()?;
    let config = RuntimeConfig {
        dir: spec.dir.clone(),
        manifests: spec.manifests.clone(),
        programs: builtin::Programs::beside(&spec.program),
        program: spec.program.clone(),
        base_env: base_env(&spec.program),
        credentials,
        viz: Arc::new(viz),
    };
    let children = process::Children::default();
    let network = network::Network::open().await?;
    let mut cluster = Cluster::new(config, network, children.clone(), reporter);
    let mut manifests = destination_source::directory::watch(vec![spec.manifests.clone()])?;
    let mut requests = server::listen(&state::control(&spec.dir))?;
    let mut chores = interval(CHORES);
    chores.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rotation = interval(credentials::ROTATION);
    let wake = cluster.wake.clone();
    let first = manifests.recv().await.context("cannot read the manifests")?;
    cluster.update(first);
    let mut started = None;
    let begun = Instant::now();
    loop {
        cluster.reconcile()?;
        if cluster.ending.is_some() && cluster.pods.is_empty() {
            return Ok(());
        }
        if started.is_none() && begun.elapsed() > Duration::ZERO {
            started = look_at_start(&mut cluster, begun);
        }
        tokio::select! {
            update = manifests.recv() => cluster.update(update.context("the watch on the manifests has ended")?),
            () = wake.notified() => {}
            Some(asked) = requests.recv() => {
                let answer = cluster.answer(asked.request);
                let _ = asked.reply.send(answer);
            }
            _ = chores.tick() => {
                children.reap();
                process::limit_logs(&state::logs(&spec.dir));
            }
            _ = rotation.tick() => cluster.rotate_tokens(),
        }
    }
}

/// Tells how far the start is; returns something when it is over.
fn look_at_start(cluster: &mut Cluster, begun: Instant) -> Option<()> {
    match cluster.start_progress() {
        Start::Waiting(progress) if begun.elapsed() < START => {
            cluster.reporter.progress(progress);
            return None;
        }
        Start::Waiting(super::start::Progress::Pods { waiting, .. }) => {
            let names = waiting.join(", ");
            cluster
                .reporter
                .note(format!("not ready after {} s: {names}", START.as_secs()));
            cluster.reporter.send(&Report::Ready);
        }
        Start::Waiting(_) | Start::Settled => cluster.reporter.send(&Report::Ready),
        Start::Hopeless(sentence) => cluster.reporter.send(&Report::Failed(sentence)),
    }
    Some(())
}

/// Variables that containers inherit: enough to find programs and to use the user's locale.
fn base_env(program: &Path) -> Vec<(String, String)> {
    let names = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];
    let mut env: Vec<_> = names
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect();
    env.push(("MESH".to_owned(), program.display().to_string()));
    env
}

/// A hash that is the same in every run.
fn stable_hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
