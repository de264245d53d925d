//! `internal supervisor`: process 1 of the mesh's namespaces.
//!
//! One thread and one loop: whenever a manifest, a pod or an order changes, the desired state is planned anew, compared
//! with the observed one, and the node executes the difference. Each pod is a task of the node.

mod report;
mod server;

use std::{
    collections::BTreeMap,
    io::Read as _,
    net::TcpListener,
    path::Path,
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result};
use destination_k8s::{Object, ObjectRef};
use destination_source::Update;
use k8s_openapi::api::apps::v1::Deployment;
use listenfd::ListenFd;
use nix::{
    mount::{MsFlags, mount},
    sys::signal::Signal,
};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::report::Reporter;
use crate::{
    cluster::{
        self, Action, Warning,
        status::{self, StartProgress},
    },
    control::{DeploymentQuery, Reply, Request},
    node::{
        Node, NodeConfig,
        credentials::{Credentials, ROTATION},
        process,
    },
    plan::{
        self, Desired, Inputs, Orders, RuntimeConfig,
        addresses::ClusterIps,
        builtin::{self, ControlPlaneConfig, Programs},
        lint,
        names::deployment_ref,
    },
    start::{MeshSpec, Progress, Report},
    state,
};

/// Time after which a start counts as complete although some pods are not ready.
const START: Duration = Duration::from_secs(60);
/// Interval of reaping orphans and limiting logs.
const CLEAN_UP: Duration = Duration::from_secs(1);
/// Lines of a log that explain a failed start.
const LOG_LINES: usize = 3;

/// Runs the mesh until a shutdown is requested.
pub(super) fn run(spec: &str) -> Result<ExitCode> {
    // The process that created the namespaces waits for this one; when it exits, this one must exit, too.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let spec: MeshSpec = serde_json::from_str(spec)?;
    mounts()?;
    log_to(&state::logs(&spec.dir).join("supervisor.log"))?;
    let viz = ListenFd::from_env()
        .take_tcp_listener(0)?
        .context("the listener of mesh-viz was not inherited")?;
    exit_with_stdin();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(supervise(&spec, viz))?;
    // Everything that is still running ends with process 1.
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
fn exit_with_stdin() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
}

async fn supervise(spec: &MeshSpec, viz: TcpListener) -> Result<()> {
    let mut manifests = destination_source::directory::watch(vec![spec.manifests.clone()])?;
    let mut supervisor = Supervisor::new(spec, viz).await?;
    let mut requests = server::listen(&state::control(&spec.dir))?;
    let mut clean_up = interval(CLEAN_UP);
    clean_up.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rotation = interval(ROTATION);
    let changed = supervisor.node.changed();
    supervisor.update(manifests.recv().await.context("cannot read the manifests")?);
    let begun = Instant::now();
    let mut starting = true;
    loop {
        let desired = supervisor.reconcile()?;
        if desired.shutting_down && supervisor.node.is_empty() {
            return Ok(());
        }
        if starting && !desired.shutting_down {
            starting = !supervisor.report_start(&desired, begun.elapsed());
        }
        tokio::select! {
            update = manifests.recv() => supervisor.update(update.context("the watch on the manifests has ended")?),
            () = changed.notified() => {}
            Some(call) = requests.recv() => {
                let _ = call.reply.send(supervisor.answer(call.request));
            }
            _ = clean_up.tick() => supervisor.node.clean_up(),
            _ = rotation.tick() => supervisor.node.rotate_tokens(),
        }
    }
}

/// State of the loop.
struct Supervisor {
    config: Arc<RuntimeConfig>,
    node: Node,
    reporter: Reporter,
    /// The user's objects.
    user: BTreeMap<ObjectRef, Object>,
    /// The control plane's objects.
    builtin: BTreeMap<ObjectRef, Object>,
    orders: Orders,
    cluster_ips: ClusterIps,
    /// Workloads that are not started, with the reason.
    refusals: BTreeMap<ObjectRef, String>,
    /// Once is enough: a pod that starts during an outage of the control plane waits for it by itself.
    control_plane_up: bool,
    shutting_down: bool,
}

impl Supervisor {
    async fn new(spec: &MeshSpec, viz: TcpListener) -> Result<Self> {
        let credentials = spec
            .mesh
            .then(|| Credentials::generate(&spec.dir.join("identity")))
            .transpose()?;
        let programs = Programs::beside(&spec.program);
        let builtin = credentials.as_ref().map(|credentials| {
            builtin::objects(&ControlPlaneConfig {
                manifests: &spec.manifests,
                generated: &state::generated(&spec.dir),
                viz_token: &state::viz_token(&spec.dir),
                programs: programs.clone(),
                identity: &credentials.files,
            })
        });
        let config = RuntimeConfig {
            dir: spec.dir.clone(),
            manifests: spec.manifests.clone(),
            cwd: spec.cwd.clone(),
            program: spec.program.clone(),
            programs,
            base_env: base_env(&spec.program),
            anchors: credentials.as_ref().map(|credentials| credentials.anchors.clone()),
        };
        let node = NodeConfig {
            dir: spec.dir.clone(),
            credentials,
            viz: Arc::new(viz),
        };
        Ok(Self {
            config: Arc::new(config),
            node: Node::open(node).await?,
            reporter: Reporter::start(),
            user: BTreeMap::new(),
            builtin: by_reference(builtin.into_iter().flatten()),
            orders: Orders::default(),
            cluster_ips: ClusterIps::default(),
            refusals: BTreeMap::new(),
            control_plane_up: !spec.mesh,
            shutting_down: false,
        })
    }

    /// Applies an update of the manifests.
    fn update(&mut self, update: Update) {
        match update {
            Update::Reset(objects) => {
                if objects.is_empty() {
                    let folder = self.config.manifests.display();
                    self.reporter.note(lint::nothing(&folder));
                }
                self.user = by_reference(objects);
            }
            Update::Changed { applied, deleted } => {
                for reference in deleted {
                    self.user.remove(&reference);
                }
                self.user.extend(by_reference(applied));
            }
            Update::Refused(refused) => {
                for refusal in refused {
                    let text = self.with_user_path(format!("refused: {refusal}"));
                    self.reporter.note(text);
                }
                return;
            }
            Update::Recovered(files) => {
                for path in files {
                    let file = self.with_user_path(path.display().to_string());
                    // Both messages may be due again.
                    self.reporter.forget(&file);
                    if path.exists() {
                        self.reporter.note(format!("accepted again: {file}"));
                        self.reporter.forget(&file);
                    }
                }
                return;
            }
        }
        for warning in lint::lint(self.user.values()) {
            self.reporter.note(warning);
        }
    }

    /// Replaces the folder of a linked manifest by the user's own.
    fn with_user_path(&self, text: String) -> String {
        let (linked, own) = (&self.config.manifests, &self.config.cwd);
        if linked == own {
            return text;
        }
        text.replace(&linked.display().to_string(), &own.display().to_string())
    }

    fn objects(&self) -> BTreeMap<ObjectRef, Object> {
        let mut objects = self.user.clone();
        objects.extend(self.builtin.clone());
        objects
    }

    /// Leads the node one step towards the desired state.
    fn reconcile(&mut self) -> Result<Desired> {
        let observed = self.node.observe();
        self.control_plane_up |= status::control_plane_ready(&observed);
        let desired = plan::plan(Inputs {
            config: &self.config,
            objects: &self.objects(),
            orders: &self.orders,
            cluster_ips: std::mem::take(&mut self.cluster_ips),
            control_plane_up: self.control_plane_up,
            shutting_down: self.shutting_down,
        });
        self.cluster_ips = desired.cluster_ips.clone();
        self.refusals.clear();
        for action in cluster::diff(&desired, &observed) {
            match action {
                Action::Warn { owner, warning } => self.warn(owner, warning),
                action => self.node.act(action)?,
            }
        }
        if !desired.shutting_down {
            for failure in status::failures(&self.node.observe()) {
                self.reporter.note(failure);
            }
        }
        Ok(desired)
    }

    fn warn(&mut self, owner: ObjectRef, warning: Warning) {
        let text = match &warning {
            Warning::NotStarted(reason) => format!("{owner}: {reason}; not started"),
            Warning::Ignored(fields) => format!("{owner}: ignored here: {}", fields.join(", ")),
        };
        if self.reporter.is_new(&text) {
            let file = self.with_user_path(file_prefix(&self.config.manifests, &owner));
            self.reporter.note_prefixed(&file, text);
        }
        if let Warning::NotStarted(reason) = warning {
            self.refusals.insert(owner, reason);
        }
    }

    /// Answers a request of a command.
    fn answer(&mut self, request: Request) -> Reply<Value> {
        let json = |value: serde_json::Result<Value>| value.map_err(|error| error.to_string());
        match request {
            Request::Status => json(serde_json::to_value(status::statuses(&self.node.observe()))),
            Request::Pod(text) => {
                let observed = self.node.observe();
                let details = status::details(&observed, &self.refusals, &self.config.dir, &text)?;
                json(serde_json::to_value(details))
            }
            Request::Scale { deployment, replicas } => {
                let found = self.find_deployment(&deployment)?;
                self.orders.scale(&found, replicas);
                json(serde_json::to_value(deployment_ref(&found.metadata)))
            }
            Request::Restart(deployment) => {
                let found = self.find_deployment(&deployment)?;
                self.orders.restart(&found);
                json(serde_json::to_value(deployment_ref(&found.metadata)))
            }
            Request::Shutdown => {
                self.shutting_down = true;
                Ok(Value::Null)
            }
        }
    }

    fn find_deployment(&self, query: &DeploymentQuery) -> Result<Arc<Deployment>, String> {
        let objects = self.objects();
        let mut found = objects.iter().filter_map(|(reference, object)| match object {
            Object::Deployment(deployment) if query.matches(&reference.namespace, &reference.name) => {
                Some((reference, deployment))
            }
            _ => None,
        });
        match (found.next(), found.next()) {
            (Some((_, deployment)), None) => Ok(deployment.clone()),
            (Some((one, _)), Some((other, _))) => Err(format!(
                "{:?} is ambiguous: it matches {one} and {other}; choose one with -n",
                query.name
            )),
            (None, _) => {
                let place = query
                    .namespace
                    .as_ref()
                    .map(|namespace| format!(" in namespace {namespace}"));
                Err(format!(
                    "no Deployment matches {:?}{}",
                    query.name,
                    place.unwrap_or_default()
                ))
            }
        }
    }

    /// Reports the progress of the start; returns true when it is complete.
    fn report_start(&mut self, desired: &Desired, elapsed: Duration) -> bool {
        let report = match status::start_progress(desired, &self.node.observe(), self.control_plane_up) {
            StartProgress::Waiting { ready, total, waiting } if elapsed < START => {
                self.reporter.progress(Progress::Pods { ready, total, waiting });
                return false;
            }
            StartProgress::Waiting { waiting, .. } => {
                let names = waiting.join(", ");
                self.reporter
                    .note(format!("not ready after {} s: {names}", START.as_secs()));
                Report::Ready
            }
            StartProgress::Settled => Report::Ready,
            StartProgress::Failed { message, log: None } => Report::Failed(message),
            StartProgress::Failed {
                message,
                log: Some(((namespace, name), container)),
            } => {
                let log = state::log(&self.config.dir, &namespace, &name, &container);
                Report::Failed(format!("{message}; its log ends with: {}", tail(&log)))
            }
        };
        self.reporter.send(&report);
        true
    }
}

fn by_reference(objects: impl IntoIterator<Item = Object>) -> BTreeMap<ObjectRef, Object> {
    objects
        .into_iter()
        .map(|object| (object.object_ref(), object))
        .collect()
}

/// Finds the file of an object and returns it as the prefix of a message; empty if not found.
fn file_prefix(dir: &Path, object: &ObjectRef) -> String {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    files.sort();
    for path in files {
        if path.is_dir() {
            let inner = file_prefix(&path, object);
            if !inner.is_empty() {
                return inner;
            }
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let found = destination_source::manifest::parse(&path, &text).objects;
            if found.iter().any(|found| found.object_ref() == *object) {
                return format!("{}: ", path.display());
            }
        }
    }
    String::new()
}

/// Last lines of a log, joined.
fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(LOG_LINES).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
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
