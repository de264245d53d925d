//! A kubelet's part: the life of one pod, from its namespaces to its last process.
//!
//! ```text
//!   holder → sidecar → (ready) → init containers, one by one → application, restarted when it ends
//!   end: SIGTERM to the application, then to the sidecar; SIGKILL to what is left when the grace period is over
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
    plan::{ContainerPlan, PodPlan},
    probe::Prober,
    process::{Child, Children, InPod, command, open_log, sweep},
};
use crate::pod;

/// Time before a container that ended is started again; doubles each time.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
/// Longest time before it is started again.
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A container that ran for this long starts its next backoff from the beginning.
const STEADY: Duration = Duration::from_secs(30);
/// Time for a pod's namespaces to be made.
const HOLDER: Duration = Duration::from_secs(10);
/// Time that a sidecar gets when the whole mesh ends: nobody is left that it could serve.
const QUIT: Duration = Duration::from_millis(500);
/// Time that a pod's network outlives its last process, so that its last packets (and resets) arrive.
const LINGER: Duration = Duration::from_millis(300);

/// How far on its way out a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It runs.
    Run,
    /// It ends in order.
    End,
    /// It ends in order, with the whole mesh.
    Quit,
    /// It ends now.
    Kill,
}

/// What is known of a running pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Runtime {
    /// The process that holds its namespaces, once they are wired.
    pub(super) holder: Option<u32>,
    /// Its containers: the application's, then the sidecar.
    pub(super) containers: Vec<ContainerState>,
    /// What keeps it from starting.
    pub(super) failure: Option<String>,
    /// Nothing of it is left.
    pub(super) gone: bool,
}

/// What is known of a container.
#[derive(Clone, Debug)]
pub(super) struct ContainerState {
    /// Its name.
    pub(super) name: String,
    /// Whether it runs.
    pub(super) running: bool,
    /// Whether it is ready.
    pub(super) ready: bool,
    /// How often it was started again.
    pub(super) restarts: u32,
    /// Why it does not run, or why it ended the last time.
    pub(super) failure: Option<String>,
}

impl Runtime {
    /// Whether all containers are ready.
    pub(super) fn ready(&self) -> bool {
        self.holder.is_some() && self.containers.iter().all(|container| container.ready)
    }

    /// The first thing that is wrong.
    pub(super) fn broken(&self) -> Option<&str> {
        let mut stopped = self.containers.iter().filter(|container| !container.running);
        self.failure
            .as_deref()
            .or_else(|| stopped.find_map(|container| container.failure.as_deref()))
    }
}

/// What a pod's task works with.
pub(super) struct Pod {
    /// What to run.
    pub(super) plan: Arc<PodPlan>,
    /// Name of its interface on the supervisor's side.
    pub(super) peer: String,
    /// Its own folder in the state directory.
    pub(super) dir: PathBuf,
    /// Where logs go.
    pub(super) logs: PathBuf,
    /// The supervisor's network.
    pub(super) network: Network,
    /// The supervisor's children.
    pub(super) children: Children,
    /// A listener for the container of this name.
    pub(super) listener: Option<(String, Arc<TcpListener>)>,
    /// Where its state is told.
    pub(super) runtime: Arc<watch::Sender<Runtime>>,
    /// Rung after each change of it.
    pub(super) wake: Arc<Notify>,
}

/// Log file of a container.
pub(super) fn log_path(logs: &std::path::Path, plan: &PodPlan, container: &str) -> PathBuf {
    logs.join(format!("{}_{}_{container}.log", plan.namespace, plan.name))
}

/// A fresh state for a pod's containers.
pub(super) fn initial(plan: &PodPlan) -> Runtime {
    let sidecar = plan.sidecar.as_ref().map(|sidecar| &sidecar.container);
    let state = |container: &ContainerPlan| ContainerState {
        name: container.name.clone(),
        running: false,
        ready: false,
        restarts: 0,
        failure: None,
    };
    Runtime {
        containers: plan.containers.iter().chain(sidecar).map(state).collect(),
        ..Runtime::default()
    }
}

/// Lives a pod's life until `stage` says that it ends, and ends it.
pub(super) async fn live(pod: Pod, mut stage: watch::Receiver<Stage>) {
    let pod = Arc::new(pod);
    let mut life = Life::new(pod.clone());
    let mut backoff = BACKOFF_MIN;
    loop {
        let outcome = tokio::select! {
            biased;
            () = reached(&mut stage, Stage::End) => break,
            outcome = life.start() => outcome,
        };
        let Err(failure) = outcome else { break };
        // Its namespaces could not be made; what there is of them goes, and it is tried again.
        life.holder = None;
        pod.tell(|runtime| runtime.failure = Some(failure));
        tokio::select! {
            () = reached(&mut stage, Stage::End) => break,
            () = sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    reached(&mut stage, Stage::End).await;
    life.end(stage).await;
    pod.tell(|runtime| runtime.gone = true);
}

/// Waits until the stage is at least that far; also if whoever sets it is gone.
async fn reached(stage: &mut watch::Receiver<Stage>, least: Stage) {
    let _ = stage.wait_for(|now| *now >= least).await;
}

impl Pod {
    fn tell(&self, change: impl FnOnce(&mut Runtime)) {
        self.runtime.send_modify(change);
        self.wake.notify_one();
    }

    fn tell_container(&self, at: usize, change: impl FnOnce(&mut ContainerState)) {
        self.tell(|runtime| change(&mut runtime.containers[at]));
    }
}

/// The processes of a pod.
struct Life {
    pod: Arc<Pod>,
    holder: Option<Child>,
    lifeline: Option<tokio::process::ChildStdin>,
    application: JoinSet<()>,
    application_stage: watch::Sender<Stage>,
    sidecar: JoinSet<()>,
    sidecar_stage: watch::Sender<Stage>,
}

impl Life {
    fn new(pod: Arc<Pod>) -> Self {
        Self {
            pod,
            holder: None,
            lifeline: None,
            application: JoinSet::new(),
            application_stage: watch::channel(Stage::Run).0,
            sidecar: JoinSet::new(),
            sidecar_stage: watch::channel(Stage::Run).0,
        }
    }

    async fn start(&mut self) -> Result<(), String> {
        let pod = self.pod.clone();
        let holder = match timeout(HOLDER, self.make_namespaces()).await {
            Ok(made) => made?,
            Err(_) => return Err(format!("its namespaces were not made within {HOLDER:?}")),
        };
        let attached = pod.network.attach(&pod.peer, pod.plan.address).await;
        attached.map_err(|error| format!("{error:#}"))?;
        pod.tell(|runtime| {
            runtime.holder = Some(holder);
            runtime.failure = None;
        });
        if let Some(sidecar) = &pod.plan.sidecar {
            let at = pod.plan.containers.len();
            self.sidecar.spawn(contain(
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
            run_once(&pod, holder, init).await;
        }
        for (at, container) in pod.plan.containers.iter().enumerate() {
            let stage = self.application_stage.subscribe();
            self.application
                .spawn(contain(pod.clone(), container.clone(), at, stage));
        }
        Ok(())
    }

    /// Starts the process that holds the pod's namespaces, and returns its number.
    async fn make_namespaces(&mut self) -> Result<u32, String> {
        let pod = &self.pod;
        let sidecar = pod.plan.sidecar.as_ref();
        let spec = pod::Spec {
            name: pod.plan.name.chars().take(63).collect(),
            address: pod.plan.address,
            peer: pod.peer.clone(),
            hosts: pod.dir.join("hosts"),
            resolv: pod.dir.join("resolv.conf"),
            redirect: sidecar.map(|sidecar| pod::Redirect {
                mark: super::sidecar::MARK,
                inbound_skip: sidecar.inbound_skip.clone(),
                outbound_skip: sidecar.outbound_skip.clone(),
            }),
        };
        let log = log_path(&pod.logs, &pod.plan, "pod");
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
        let child = self.holder.insert(child);
        let (stdin, stdout) = child.streams();
        self.lifeline = stdin;
        let mut line = String::new();
        let read = BufReader::new(stdout.ok_or("no pipe")?).read_line(&mut line).await;
        if read.is_err() || line.trim() != "ready" {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let text = text
                .lines()
                .last()
                .unwrap_or("its namespaces could not be made")
                .trim_start_matches("mesh: ");
            return Err(text.to_owned());
        }
        Ok(pid)
    }

    async fn end(mut self, mut stage: watch::Receiver<Stage>) {
        let deadline = Instant::now() + self.pod.plan.grace;
        self.application_stage.send_replace(Stage::End);
        finish(&mut self.application, &self.application_stage, &mut stage, deadline).await;
        self.sidecar_stage.send_replace(Stage::End);
        let deadline = if *stage.borrow() >= Stage::Quit {
            deadline.min(Instant::now() + QUIT)
        } else {
            deadline
        };
        finish(&mut self.sidecar, &self.sidecar_stage, &mut stage, deadline).await;
        if let Some(mut holder) = self.holder.take() {
            if *stage.borrow() < Stage::Quit {
                sleep(LINGER).await;
            }
            sweep(holder.pid());
            holder.stop(Duration::ZERO).await;
        }
    }
}

/// Waits for containers that are ending; at the deadline, or when the stage says so, they are killed.
async fn finish(
    containers: &mut JoinSet<()>,
    tell: &watch::Sender<Stage>,
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
    tell.send_replace(Stage::Kill);
    all.await;
}

/// Runs an init container until it succeeds.
async fn run_once(pod: &Arc<Pod>, holder: u32, container: &ContainerPlan) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let ended = match start(pod, holder, container) {
            Ok(mut child) => match child.wait().await {
                Ok(status) if status.success() => break,
                Ok(status) => describe_end(status),
                Err(error) => error.to_string(),
            },
            Err(failure) => failure,
        };
        pod.tell(|runtime| runtime.failure = Some(format!("init container {}: {ended}", container.name)));
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    pod.tell(|runtime| runtime.failure = None);
}

fn start(pod: &Pod, holder: u32, container: &ContainerPlan) -> Result<Child, String> {
    let log = log_path(&pod.logs, &pod.plan, &container.name);
    let output = open_log(&log).map_err(|error| format!("cannot open {}: {error}", log.display()))?;
    let listener = pod.listener.as_ref().filter(|(name, _)| *name == container.name);
    let listener = listener
        .map(|(_, listener)| listener.try_clone())
        .transpose()
        .map_err(|error| error.to_string())?;
    let in_pod = InPod {
        holder,
        container,
        argv: &container.argv,
        output: Some(output),
        listener,
    };
    pod.children
        .spawn(command(in_pod)?)
        .map_err(|error| format!("cannot start: {error}"))
}

/// Keeps a container running until the stage says that it ends.
async fn contain(pod: Arc<Pod>, container: ContainerPlan, at: usize, mut stage: watch::Receiver<Stage>) {
    let Some(holder) = pod.runtime.borrow().holder else {
        return;
    };
    let prober = Prober {
        address: pod.plan.address,
        holder,
        children: pod.children.clone(),
    };
    let mut backoff = BACKOFF_MIN;
    loop {
        let begun = Instant::now();
        let failure = match start(&pod, holder, &container) {
            Ok(mut child) => {
                pod.tell_container(at, |state| {
                    state.running = true;
                    state.ready = container.readiness.is_none() && container.startup.is_none();
                });
                tokio::select! {
                    biased;
                    () = reached(&mut stage, Stage::End) => return stop(&pod, at, child, stage).await,
                    status = child.wait() => status.map_or_else(|error| error.to_string(), describe_end),
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
        pod.tell_container(at, |state| {
            state.running = false;
            state.ready = false;
            state.failure = Some(failure);
        });
        tokio::select! {
            () = reached(&mut stage, Stage::End) => return,
            () = sleep(backoff) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
        pod.tell_container(at, |state| state.restarts += 1);
    }
}

/// Probes a container; returns only with a reason to start it again.
async fn watch_health(pod: &Pod, container: &ContainerPlan, at: usize, prober: &Prober) -> String {
    let tell = |ready: bool| pod.tell_container(at, |state| state.ready = ready);
    if let Some(startup) = &container.startup {
        if !prober.until_passed(container, startup).await {
            return "its startup probe failed".to_owned();
        }
        tell(container.readiness.is_none());
    }
    let readiness = async {
        if let Some(readiness) = &container.readiness {
            prober.watch(container, readiness, tell).await;
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
        () = liveness => "its liveness probe failed".to_owned(),
    }
}

async fn stop(pod: &Pod, at: usize, mut child: Child, mut stage: watch::Receiver<Stage>) {
    child.signal(Signal::SIGTERM);
    tokio::select! {
        biased;
        _ = child.wait() => {}
        () = reached(&mut stage, Stage::Kill) => {
            child.signal(Signal::SIGKILL);
            let _ = child.wait().await;
        }
    }
    pod.tell_container(at, |state| {
        state.running = false;
        state.ready = false;
    });
}

fn describe_end(status: std::process::ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}
