//! The part of a kubelet: the life of one pod, from its namespaces to its last process.
//!
//! ```text
//!   pause process → sidecar → (ready) → init containers, one by one → application, restarted when it exits
//!   termination: SIGTERM to the application, then to the sidecar; SIGKILL after the grace period
//! ```

use std::{
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    sync::{Notify, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    network::Network,
    probe::Prober,
    process::{Child, Children, InPod, command, describe_exit, open_log, sweep},
};
use crate::{
    cluster::observed::{ContainerState, Runtime, Stage},
    plan::model::{ContainerPlan, PodPlan},
    pod, state,
};

/// First delay before a container that exited is restarted; doubles each time.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Longest delay before a restart.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Uptime after which the backoff is reset.
const STEADY: Duration = Duration::from_secs(30);
/// Longest time for the creation of a pod's namespaces.
const NAMESPACES_TIMEOUT: Duration = Duration::from_secs(10);
/// Grace period of a sidecar when the whole mesh shuts down: no client is left.
const QUIT: Duration = Duration::from_millis(500);
/// Time that a pod's network outlives its last process, so that its last packets and resets arrive.
const LINGER: Duration = Duration::from_millis(300);

/// Resources of a pod's task.
pub(crate) struct PodTask {
    pub(crate) plan: Arc<PodPlan>,
    /// Name of its interface on the supervisor's side.
    pub(crate) peer: String,
    /// The pod's folder in the state directory.
    pub(crate) dir: PathBuf,
    /// State directory.
    pub(crate) state: PathBuf,
    pub(crate) network: Network,
    pub(crate) children: Children,
    /// A listener for the container of this name.
    pub(crate) listener: Option<(String, Arc<TcpListener>)>,
    /// Published state.
    pub(crate) runtime: Arc<watch::Sender<Runtime>>,
    /// Notified after each change.
    pub(crate) changed: Arc<Notify>,
}

/// Runs a pod until `stage` ends it, and terminates it.
pub(crate) async fn run_pod(pod: PodTask, mut stage: watch::Receiver<Stage>) {
    let pod = Arc::new(pod);
    let mut life = Life::new(pod.clone());
    let mut backoff = BACKOFF_MIN;
    loop {
        let outcome = tokio::select! {
            biased;
            () = reached(&mut stage, Stage::Terminate) => break,
            outcome = life.start() => outcome,
        };
        let Err(failure) = outcome else { break };
        // The namespaces could not be created: drop what exists of them and retry.
        life.pause = None;
        pod.update(|runtime| runtime.failure = Some(failure));
        tokio::select! {
            () = reached(&mut stage, Stage::Terminate) => break,
            () = sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    reached(&mut stage, Stage::Terminate).await;
    life.end(stage).await;
    pod.update(|runtime| runtime.terminated = true);
}

/// Waits until the stage is at least `least`; also returns when its sender is gone.
async fn reached(stage: &mut watch::Receiver<Stage>, least: Stage) {
    let _ = stage.wait_for(|now| *now >= least).await;
}

impl PodTask {
    fn log(&self, container: &str) -> PathBuf {
        state::log(&self.state, &self.plan.namespace, &self.plan.name, container)
    }

    fn update(&self, change: impl FnOnce(&mut Runtime)) {
        self.runtime.send_modify(change);
        self.changed.notify_one();
    }

    fn update_container(&self, at: usize, change: impl FnOnce(&mut ContainerState)) {
        self.update(|runtime| change(&mut runtime.containers[at]));
    }
}

/// The processes of a pod.
struct Life {
    pod: Arc<PodTask>,
    pause: Option<Child>,
    lifeline: Option<tokio::process::ChildStdin>,
    application: JoinSet<()>,
    application_stage: watch::Sender<Stage>,
    sidecar: JoinSet<()>,
    sidecar_stage: watch::Sender<Stage>,
}

impl Life {
    fn new(pod: Arc<PodTask>) -> Self {
        Self {
            pod,
            pause: None,
            lifeline: None,
            application: JoinSet::new(),
            application_stage: watch::channel(Stage::Run).0,
            sidecar: JoinSet::new(),
            sidecar_stage: watch::channel(Stage::Run).0,
        }
    }

    async fn start(&mut self) -> Result<(), String> {
        let pod = self.pod.clone();
        let pause_pid = match timeout(NAMESPACES_TIMEOUT, self.create_namespaces()).await {
            Ok(made) => made?,
            Err(_) => {
                return Err(format!(
                    "timed out creating its namespaces after {NAMESPACES_TIMEOUT:?}"
                ));
            }
        };
        let attached = pod.network.attach(&pod.peer, pod.plan.address).await;
        attached.map_err(|error| format!("{error:#}"))?;
        pod.update(|runtime| {
            runtime.pause_pid = Some(pause_pid);
            runtime.failure = None;
        });
        if let Some(sidecar) = &pod.plan.sidecar {
            let at = pod.plan.containers.len();
            self.sidecar.spawn(run_container(
                pod.clone(),
                sidecar.container.clone(),
                at,
                self.sidecar_stage.subscribe(),
            ));
            if sidecar.first {
                let mut runtime = pod.runtime.subscribe();
                let _ = runtime.wait_for(|runtime| runtime.containers[at].ready).await;
            }
        }
        for init in &pod.plan.init {
            run_once(&pod, pause_pid, init).await;
        }
        for (at, container) in pod.plan.containers.iter().enumerate() {
            let stage = self.application_stage.subscribe();
            self.application
                .spawn(run_container(pod.clone(), container.clone(), at, stage));
        }
        Ok(())
    }

    /// Starts the pause process and returns its PID.
    async fn create_namespaces(&mut self) -> Result<u32, String> {
        let pod = &self.pod;
        let sidecar = pod.plan.sidecar.as_ref();
        let spec = pod::Spec {
            name: pod.plan.name.chars().take(63).collect(),
            address: pod.plan.address,
            peer: pod.peer.clone(),
            hosts: pod.dir.join("hosts"),
            resolv: pod.dir.join("resolv.conf"),
            redirect: sidecar.map(|sidecar| pod::Redirect::from_rules(&sidecar.rules)),
        };
        let log = pod.log("pod");
        let errors = open_log(&log).map_err(|error| format!("cannot open {}: {error}", log.display()))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("mesh").args([
            "local",
            "internal",
            "pod",
            &serde_json::to_string(&spec).expect("plain values"),
        ]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors);
        let child = pod
            .children
            .spawn(command)
            .map_err(|error| format!("cannot start: {error}"))?;
        let pid = child.pid();
        let child = self.pause.insert(child);
        let (stdin, stdout) = child.streams();
        self.lifeline = stdin;
        let mut line = String::new();
        let read = BufReader::new(stdout.ok_or("no pipe")?).read_line(&mut line).await;
        if read.is_err() || line.trim() != "ready" {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let text = text
                .lines()
                .last()
                .unwrap_or("cannot create its namespaces")
                .trim_start_matches("mesh: ");
            return Err(text.to_owned());
        }
        Ok(pid)
    }

    async fn end(mut self, mut stage: watch::Receiver<Stage>) {
        let begun = Instant::now();
        let deadline = begun + self.pod.plan.grace;
        self.application_stage.send_replace(Stage::Terminate);
        finish(&mut self.application, &self.application_stage, &mut stage, deadline).await;
        if let Some(sidecar) = &self.pod.plan.sidecar {
            let until = (begun + sidecar.pre_stop_sleep).min(deadline);
            tokio::select! {
                () = sleep_until(until) => {}
                () = reached(&mut stage, Stage::Quit) => {}
            }
        }
        self.sidecar_stage.send_replace(Stage::Terminate);
        let deadline = if *stage.borrow() >= Stage::Quit {
            deadline.min(Instant::now() + QUIT)
        } else {
            deadline
        };
        finish(&mut self.sidecar, &self.sidecar_stage, &mut stage, deadline).await;
        if let Some(mut pause) = self.pause.take() {
            if *stage.borrow() < Stage::Quit {
                sleep(LINGER).await;
            }
            sweep(pause.pid());
            pause.stop(Duration::ZERO).await;
        }
    }
}

/// Waits for terminating containers; kills them at the deadline or at the stage `Kill`.
async fn finish(
    containers: &mut JoinSet<()>,
    container_stage: &watch::Sender<Stage>,
    stage: &mut watch::Receiver<Stage>,
    deadline: Instant,
) {
    let all = async { while containers.join_next().await.is_some() {} };
    tokio::pin!(all);
    tokio::select! {
        () = &mut all => return,
        () = sleep_until(deadline) => {}
        () = reached(stage, Stage::Kill) => {}
    }
    container_stage.send_replace(Stage::Kill);
    all.await;
}

/// Runs an init container until it succeeds.
async fn run_once(pod: &Arc<PodTask>, pause_pid: u32, container: &ContainerPlan) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let ended = match start(pod, pause_pid, container) {
            Ok(mut child) => match child.wait().await {
                Ok(status) if status.success() => break,
                Ok(status) => describe_exit(status),
                Err(error) => error.to_string(),
            },
            Err(failure) => failure,
        };
        pod.update(|runtime| runtime.failure = Some(format!("init container {}: {ended}", container.name)));
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    pod.update(|runtime| runtime.failure = None);
}

fn start(pod: &PodTask, pause_pid: u32, container: &ContainerPlan) -> Result<Child, String> {
    let log = pod.log(&container.name);
    let output = open_log(&log).map_err(|error| format!("cannot open {}: {error}", log.display()))?;
    let listener = pod.listener.as_ref().filter(|(name, _)| *name == container.name);
    let listener = listener
        .map(|(_, listener)| listener.try_clone())
        .transpose()
        .map_err(|error| error.to_string())?;
    let in_pod = InPod {
        pause_pid,
        container,
        argv: &container.argv,
        output: Some(output),
        listener,
    };
    pod.children
        .spawn(command(in_pod)?)
        .map_err(|error| format!("cannot start: {error}"))
}

/// Keeps a container running until the stage ends it.
async fn run_container(pod: Arc<PodTask>, container: ContainerPlan, at: usize, mut stage: watch::Receiver<Stage>) {
    let Some(pause_pid) = pod.runtime.borrow().pause_pid else {
        return;
    };
    let prober = Prober {
        address: pod.plan.address,
        pause_pid,
        children: pod.children.clone(),
    };
    let mut backoff = BACKOFF_MIN;
    loop {
        let begun = Instant::now();
        let failure = match start(&pod, pause_pid, &container) {
            Ok(mut child) => {
                pod.update_container(at, |state| {
                    state.running = true;
                    state.ready = container.readiness.is_none() && container.startup.is_none();
                    state.unready = None;
                });
                tokio::select! {
                    biased;
                    () = reached(&mut stage, Stage::Terminate) => return stop(&pod, at, child, stage).await,
                    status = child.wait() => status.map_or_else(|error| error.to_string(), describe_exit),
                    failure = watch_health(&pod, &container, at, &prober) => {
                        child.stop(pod.plan.grace).await;
                        failure
                    }
                }
            }
            Err(failure) => failure,
        };
        if begun.elapsed() > STEADY {
            backoff = BACKOFF_MIN;
        }
        pod.update_container(at, |state| {
            state.running = false;
            state.ready = false;
            state.failure = Some(failure);
        });
        tokio::select! {
            () = reached(&mut stage, Stage::Terminate) => return,
            () = sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
        pod.update_container(at, |state| state.restarts += 1);
    }
}

/// Probes a container; returns only with a reason to restart it.
async fn watch_health(pod: &PodTask, container: &ContainerPlan, at: usize, prober: &Prober) -> String {
    if let Some(startup) = &container.startup {
        if let Err(failure) = prober.until_passed(container, startup).await {
            return format!("startup probe failed: {failure}");
        }
        pod.update_container(at, |state| state.ready = container.readiness.is_none());
    }
    let report = |result: Result<(), String>| {
        pod.update_container(at, |state| {
            state.ready = result.is_ok();
            state.unready = result.err();
        });
    };
    let readiness = async {
        if let Some(readiness) = &container.readiness {
            prober.watch(container, readiness, report).await;
        }
        std::future::pending::<()>().await;
    };
    let liveness = async {
        match &container.liveness {
            Some(liveness) => prober.until_failed(container, liveness).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = readiness => String::new(),
        failure = liveness => format!("liveness probe failed: {failure}"),
    }
}

async fn stop(pod: &PodTask, at: usize, mut child: Child, mut stage: watch::Receiver<Stage>) {
    child.signal(Signal::SIGTERM);
    tokio::select! {
        biased;
        _ = child.wait() => {}
        () = reached(&mut stage, Stage::Kill) => {
            child.signal(Signal::SIGKILL);
            let _ = child.wait().await;
        }
    }
    pod.update_container(at, |state| {
        state.running = false;
        state.ready = false;
    });
}
