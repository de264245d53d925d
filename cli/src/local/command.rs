//! The commands of `mesh local`, as a person types them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, ExitCode};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::control::{self, DeploymentRef, PodDetails, PodStatus, Request};
use super::internal::{self, Internal};
use super::start::{self, Progress, Running, StartOptions};
use super::state::{self, State};

/// Time between two looks at a followed log.
const FOLLOW: Duration = Duration::from_millis(100);
/// Time that `down` waits for an orderly end before it uses force; the longest grace period and some.
const DOWN: Duration = Duration::from_secs(40);

/// What to do with the mesh on this machine.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the manifests in a folder, with control plane and sidecars, until Ctrl-C or `down`.
    Up(Up),
    /// List the pods.
    Status {
        #[command(flatten)]
        mesh: Name,
        /// A table for people, or JSON for programs.
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Run a command in a pod's namespaces.
    Exec {
        #[command(flatten)]
        mesh: Name,
        /// The pod: its name, its beginning, NAMESPACE/NAME, or deploy/NAME.
        pod: String,
        /// The container whose environment and working directory the command gets; the first one if not given.
        #[arg(short, long)]
        container: Option<String>,
        /// The command.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Print what a container wrote.
    Logs {
        #[command(flatten)]
        mesh: Name,
        /// The pod: its name, its beginning, NAMESPACE/NAME, or deploy/NAME.
        pod: String,
        /// The container; the first one if not given. The sidecar is `linkerd-proxy`.
        #[arg(short, long)]
        container: Option<String>,
        /// Goes on as the container writes.
        #[arg(short, long)]
        follow: bool,
    },
    /// Change the number of a Deployment's pods.
    Scale {
        #[command(flatten)]
        mesh: Name,
        #[command(flatten)]
        deployment: Deployment,
        /// How many pods.
        #[arg(long)]
        replicas: u32,
    },
    /// Replace the pods of a Deployment, one after the other.
    Restart {
        #[command(flatten)]
        mesh: Name,
        #[command(flatten)]
        deployment: Deployment,
    },
    /// End the mesh, or clean up what a crashed one left.
    Down {
        #[command(flatten)]
        mesh: Name,
    },
    /// How the program starts itself in other roles.
    #[command(subcommand, hide = true)]
    Internal(Internal),
}

/// Which mesh.
#[derive(Debug, clap::Args)]
pub(crate) struct Name {
    /// Name of the mesh; not needed while only one runs.
    #[arg(long)]
    name: Option<String>,
}

/// Which Deployment.
#[derive(Debug, clap::Args)]
pub(crate) struct Deployment {
    /// Name of the Deployment.
    deployment: String,
    /// Its namespace.
    #[arg(short, long, default_value = "default")]
    namespace: String,
}

impl Deployment {
    fn reference(self) -> DeploymentRef {
        let name = self
            .deployment
            .rsplit_once('/')
            .map_or(self.deployment.as_str(), |(_, name)| name)
            .to_owned();
        DeploymentRef {
            namespace: self.namespace,
            name,
        }
    }
}

/// How `up` runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    /// Folder of Kubernetes manifests; changes in it take effect at once.
    #[arg(short = 'f', long = "filename", value_name = "DIR")]
    dir: PathBuf,
    /// Name of the mesh; another one can run beside it under another name.
    #[arg(long, default_value = state::DEFAULT_NAME)]
    name: String,
    /// Port on this machine's loopback where the viz API answers; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    viz_port: u16,
    /// Run the pods alone: no control plane, no sidecars.
    #[arg(long)]
    no_mesh: bool,
}

/// How to print.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Does it.
pub(crate) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Up(options) => up(options),
        Command::Status { mesh, output } => status(&mesh, output),
        Command::Exec {
            mesh,
            pod,
            container,
            command,
        } => exec(&mesh, &pod, container.as_deref(), &command),
        Command::Logs {
            mesh,
            pod,
            container,
            follow,
        } => logs(&mesh, &pod, container.as_deref(), follow),
        Command::Scale {
            mesh,
            deployment,
            replicas,
        } => {
            let request = Request::Scale {
                deployment: deployment.reference(),
                replicas,
            };
            control::ask::<()>(&find(&mesh)?.control(), &request)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Restart { mesh, deployment } => {
            control::ask::<()>(&find(&mesh)?.control(), &Request::Restart(deployment.reference()))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Down { mesh } => down(&mesh),
        Command::Internal(role) => internal::run(role),
    }
}

fn find(mesh: &Name) -> Result<State> {
    State::find(mesh.name.as_deref())
}

/// What ends the wait in `up`.
enum Event {
    Interrupt,
    Ended,
}

fn up(options: Up) -> Result<ExitCode> {
    let interrupts = interrupts()?;
    let Up {
        dir,
        name,
        viz_port,
        no_mesh,
    } = options;
    let running = begin(
        StartOptions {
            name,
            dir,
            viz_port,
            mesh: !no_mesh,
            progress: (),
        },
        &interrupts,
    )?;
    announce(&running);
    let (running, event) = watch(running, &interrupts);
    match event {
        Event::Interrupt => end(running, &interrupts),
        Event::Ended => drop(running),
    }
    Ok(ExitCode::SUCCESS)
}

/// Starts a mesh, and shows how that goes on; an interrupt ends it.
pub(crate) fn begin(options: StartOptions<()>, interrupts: &mpsc::Receiver<()>) -> Result<Running> {
    let (sender, started) = mpsc::sync_channel(1);
    let line = StatusLine::new();
    let StartOptions {
        name,
        dir,
        viz_port,
        mesh,
        progress: (),
    } = options;
    // The start runs beside, so that Ctrl-C counts from the first moment; the thread lives as long as the mesh.
    std::thread::spawn(move || {
        let progress = |step| line.show(&step);
        let _ = sender.send(start::start(StartOptions {
            name,
            dir,
            viz_port,
            mesh,
            progress,
        }));
        line.clear();
        // Held, so that whatever the supervisor hangs on to this thread stays.
        std::thread::park();
    });
    loop {
        match started.recv_timeout(Duration::from_millis(50)) {
            Ok(result) => return result,
            Err(mpsc::RecvTimeoutError::Timeout) if interrupts.try_recv().is_ok() => bail!("interrupted"),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the start ended without a word"),
        }
    }
}

fn announce(running: &Running) {
    let state = running.state();
    let name = if state.name == state::DEFAULT_NAME {
        String::new()
    } else {
        format!(" --name {}", state.name)
    };
    eprintln!("The mesh runs. Its viz API is at {}; Ctrl-C ends it.", state.viz_url());
    eprintln!("In another terminal: `mesh local status{name}`, `mesh local logs{name} POD`, `mesh local down{name}`");
}

fn watch(running: Running, interrupts: &mpsc::Receiver<()>) -> (Running, Event) {
    loop {
        if interrupts.try_recv().is_ok() {
            return (running, Event::Interrupt);
        }
        match running.next(Duration::from_millis(100)) {
            Ok(Some(Progress::Note(text))) => eprintln!("{text}"),
            Ok(_) => {}
            Err(_) => return (running, Event::Ended),
        }
    }
}

/// The orderly end; a second Ctrl-C makes it short.
pub(crate) fn end(mut running: Running, interrupts: &mpsc::Receiver<()>) {
    eprintln!("Ending; Ctrl-C again ends it at once.");
    let deadline = Instant::now() + DOWN;
    if running.ask_to_end().is_ok() {
        while running.next(Duration::from_millis(50)).is_ok() {
            if interrupts.try_recv().is_ok() || Instant::now() > deadline {
                break;
            }
        }
    }
    running.kill();
}

/// Ctrl-C and SIGTERM, each as a message.
pub(crate) fn interrupts() -> Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::sync_channel(4);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
                return;
            };
            loop {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                }
                let _ = sender.try_send(());
            }
        });
    });
    Ok(receiver)
}

/// One line that changes on a terminal; lines of their own elsewhere.
struct StatusLine {
    bar: Option<indicatif::ProgressBar>,
    said: std::cell::RefCell<HashSet<String>>,
}

impl StatusLine {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = indicatif::ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self {
            bar,
            said: Default::default(),
        }
    }

    fn show(&self, progress: &Progress) {
        let text = match progress {
            Progress::Note(text) => {
                match &self.bar {
                    Some(bar) => bar.println(text),
                    None => eprintln!("{text}"),
                }
                return;
            }
            Progress::Pods { ready, total, waiting } => {
                let names: Vec<_> = waiting.iter().take(3).map(String::as_str).collect();
                let more = if waiting.len() > names.len() { ", …" } else { "" };
                format!("{ready} of {total} pods ready; waiting for {}{more}", names.join(", "))
            }
        };
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None if self.said.borrow_mut().insert(text.clone()) => eprintln!("{text}"),
            None => {}
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn status(mesh: &Name, output: Output) -> Result<ExitCode> {
    let pods: Vec<PodStatus> = control::ask(&find(mesh)?.control(), &Request::Status)?;
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => writeln!(out, "{}", serde_json::to_string_pretty(&pods)?)?,
        Output::Table => writeln!(out, "{}", table(&pods))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn table(pods: &[PodStatus]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_header([
        "NAMESPACE",
        "NAME",
        "READY",
        "STATUS",
        "RESTARTS",
        "ADDRESS",
        "MESHED",
        "AGE",
    ]);
    for pod in pods {
        let (ready, all) = pod.containers;
        let meshed = if pod.meshed { "yes" } else { "no" };
        table.add_row([
            pod.namespace.clone(),
            pod.name.clone(),
            format!("{ready}/{all}"),
            pod.status.clone(),
            pod.restarts.to_string(),
            pod.address.clone(),
            meshed.to_owned(),
            age(pod.age),
        ]);
    }
    table
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3600),
    }
}

fn exec(mesh: &Name, pod: &str, container: Option<&str>, argv: &[String]) -> Result<ExitCode> {
    let state = find(mesh)?;
    let details: PodDetails = control::ask(&state.control(), &Request::Pod(pod.to_owned()))?;
    let at = choose(&details, container)?;
    let container = details.containers.into_iter().nth(at).expect("chosen among them");
    let program = std::env::current_exe().context("cannot find the program's own path")?;
    enter(state.supervisor.pid)?;
    let mut command = Process::new(program);
    command.args([
        "local",
        "internal",
        "container",
        "--holder",
        &details.holder.to_string(),
        "--cwd",
        &container.cwd,
    ]);
    command.arg("--").args(argv).env_clear().envs(container.env);
    for inherited in ["TERM", "COLUMNS", "LINES"] {
        command.envs(std::env::var_os(inherited).map(|value| (inherited, value)));
    }
    let status = command.status().context("cannot start the command")?;
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(code as u8))
}

/// Enters the namespaces of a process, given by its number on the host. Children are in its process namespace too.
fn enter(pid: i32) -> Result<()> {
    let path = |kind: &str| PathBuf::from(format!("/proc/{pid}/ns/{kind}"));
    let own = |kind: &str| PathBuf::from(format!("/proc/self/ns/{kind}"));
    let mut open = Vec::new();
    for (kind, flag) in [
        ("user", CloneFlags::CLONE_NEWUSER),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("net", CloneFlags::CLONE_NEWNET),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ] {
        let path = path(kind);
        let file = File::open(&path).with_context(|| format!("the mesh has ended: {}", path.display()))?;
        // One's own user namespace cannot be entered again: as root there is none besides.
        if kind != "user" || file.metadata()?.ino() != std::fs::metadata(own(kind))?.ino() {
            open.push((file, flag));
        }
    }
    for (file, flag) in open {
        setns(file, flag).context("cannot enter the mesh's namespaces: it belongs to another user")?;
    }
    Ok(())
}

fn choose(details: &PodDetails, container: Option<&str>) -> Result<usize> {
    let Some(name) = container else { return Ok(0) };
    let at = details.containers.iter().position(|container| container.name == name);
    at.with_context(|| {
        let names: Vec<_> = details
            .containers
            .iter()
            .map(|container| container.name.as_str())
            .collect();
        format!(
            "-c {name}: pod {} has no such container; it has {}",
            details.name,
            names.join(", ")
        )
    })
}

fn logs(mesh: &Name, pod: &str, container: Option<&str>, follow: bool) -> Result<ExitCode> {
    let state = find(mesh)?;
    let details: PodDetails = control::ask(&state.control(), &Request::Pod(pod.to_owned()))?;
    let path = PathBuf::from(&details.containers[choose(&details, container)?].log);
    let mut out = std::io::stdout().lock();
    // A log that was full goes on in a new file, the older half beside it.
    if let Ok(older) = std::fs::read(state::older_log(&path)) {
        out.write_all(&older)?;
    }
    copy_log(&path, &mut out, follow.then_some(&state))?;
    Ok(ExitCode::SUCCESS)
}

fn copy_log(path: &Path, out: &mut impl std::io::Write, follow: Option<&State>) -> Result<()> {
    let open = || File::open(path).with_context(|| format!("cannot read {}", path.display()));
    let mut file = open()?;
    loop {
        let mut chunk = Vec::new();
        let read = (&mut file).take(1 << 20).read_to_end(&mut chunk)?;
        if read > 0 {
            out.write_all(&chunk)?;
            out.flush()?;
            continue;
        }
        if !follow.is_some_and(|state| state.supervisor.is_alive()) {
            return Ok(());
        }
        std::thread::sleep(FOLLOW);
        // Begun anew: the name is another file, or the same one that is shorter.
        let Ok(named) = std::fs::metadata(path) else { continue };
        if named.ino() != file.metadata()?.ino() {
            file = open()?;
        } else if named.len() < file.stream_position()? {
            file.seek(SeekFrom::Start(0))?;
        }
    }
}

fn down(mesh: &Name) -> Result<ExitCode> {
    let name = match (&mesh.name, State::find(None)) {
        (Some(name), _) => name.clone(),
        (None, Ok(state)) => state.name,
        (None, Err(_)) => state::DEFAULT_NAME.to_owned(),
    };
    state::check_name(&name)?;
    let dir = state::dir(&name);
    if !dir.exists() {
        bail!("no mesh named {name:?} runs here, and none left anything behind");
    }
    if let Ok(state) = State::read(&dir) {
        orderly(&state);
        force(&state);
    }
    // Whoever made it removes its state, if it still lives; if not, it is ours to do.
    let deadline = Instant::now() + Duration::from_secs(5);
    while dir.exists() {
        if let Some(lock) = state::try_lock(&dir)? {
            state::clean(&dir)?;
            state::remove(&dir, lock);
        } else if Instant::now() > deadline {
            bail!("mesh {name:?} has ended, but the process that started it has not");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(ExitCode::SUCCESS)
}

fn orderly(state: &State) {
    if control::ask::<()>(&state.control(), &Request::Shutdown).is_err() {
        return;
    }
    let deadline = Instant::now() + DOWN;
    while state.supervisor.is_alive() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn force(state: &State) {
    if state.supervisor.is_alive() {
        let _ = kill(Pid::from_raw(state.supervisor.pid), Signal::SIGKILL);
    }
    while state.supervisor.is_alive() {
        std::thread::sleep(Duration::from_millis(20));
    }
}
