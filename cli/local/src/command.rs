//! The `mesh local` commands.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{Command as Process, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use cli_check::stdout;
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};

use super::{
    control::{self, DeploymentQuery, DeploymentRef, PodDetails, PodStatus, Request},
    internal::{self, Internal},
    namespaces::{self, Children},
    state::{self, State},
    up,
};

/// Poll interval of a followed log.
const FOLLOW: Duration = Duration::from_millis(100);
/// Time that `down` waits for an orderly shutdown before it kills the mesh: longer than the default grace period.
const DOWN: Duration = Duration::from_secs(40);

/// Largest number of replicas: more processes than one machine runs.
const REPLICAS_MAX: i64 = 1000;

/// Arguments of `mesh local`.
#[derive(Debug, clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a folder of manifests with control plane and sidecars, until Ctrl-C or `down`.
    Up(up::Args),
    /// List pods.
    Status {
        #[command(flatten)]
        mesh: Name,
        /// Output format.
        #[arg(short, long, value_enum, default_value = "table")]
        output: Output,
    },
    /// Run a command in a pod's namespaces.
    Exec {
        #[command(flatten)]
        mesh: Name,
        #[command(flatten)]
        pod: Pod,
        /// Container whose environment and working directory the command gets [default: the first].
        #[arg(short, long)]
        container: Option<String>,
        /// Command to run.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Print the logs of a container.
    Logs {
        #[command(flatten)]
        mesh: Name,
        #[command(flatten)]
        pod: Pod,
        /// Container [default: the first]; the sidecar is `linkerd-proxy`.
        #[arg(short, long)]
        container: Option<String>,
        /// Follow the log.
        #[arg(short, long)]
        follow: bool,
    },
    /// Set the number of replicas of a Deployment.
    Scale {
        #[command(flatten)]
        mesh: Name,
        #[command(flatten)]
        deployment: Deployment,
        /// Number of pods.
        #[arg(long, value_parser = clap::value_parser!(u32).range(..=REPLICAS_MAX))]
        replicas: u32,
    },
    /// Replace the pods of a Deployment, one by one.
    Restart {
        #[command(flatten)]
        mesh: Name,
        #[command(flatten)]
        deployment: Deployment,
    },
    /// Stop the mesh, or clean up after one that crashed.
    Down {
        #[command(flatten)]
        mesh: Name,
    },
    /// Roles in which the program starts itself.
    #[command(subcommand, hide = true)]
    Internal(Internal),
}

/// Selects a mesh.
#[derive(Debug, clap::Args)]
pub(crate) struct Name {
    /// Name of the mesh; optional while only one runs.
    #[arg(long)]
    name: Option<String>,
}

/// Selects a pod.
#[derive(Debug, clap::Args)]
struct Pod {
    /// Pod: its name or a prefix of it, NAMESPACE/NAME, or deploy/NAME.
    pod: String,
    /// Namespace of the pod; optional while the name is unambiguous.
    #[arg(short, long)]
    namespace: Option<String>,
}

impl Pod {
    fn reference(self) -> String {
        self.namespace
            .map_or(self.pod.clone(), |namespace| format!("{namespace}/{}", self.pod))
    }
}

/// Selects a Deployment.
#[derive(Debug, clap::Args)]
struct Deployment {
    /// Deployment: NAME or deploy/NAME.
    #[arg(value_parser = deployment_name)]
    deployment: String,
    /// Namespace of the Deployment; optional while the name is unambiguous.
    #[arg(short, long)]
    namespace: Option<String>,
}

impl Deployment {
    fn query(self) -> DeploymentQuery {
        DeploymentQuery {
            namespace: self.namespace,
            name: self.deployment,
        }
    }
}

/// Parses `NAME` or `deploy/NAME`; other kinds are rejected.
fn deployment_name(text: &str) -> Result<String, String> {
    const KINDS: [&str; 5] = [
        "deploy",
        "deployment",
        "deployments",
        "deployment.apps",
        "deployments.apps",
    ];
    match text.split_once('/') {
        None if !text.is_empty() => Ok(text.to_owned()),
        Some((kind, name)) if KINDS.contains(&kind) && !name.is_empty() && !name.contains('/') => Ok(name.to_owned()),
        _ => Err("expected NAME or deploy/NAME".to_owned()),
    }
}

/// Output format.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns.
    Table,
    /// JSON.
    Json,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    match args.command {
        Command::Up(options) => up::run(options),
        Command::Status { mesh, output } => status(&mesh, output),
        Command::Exec {
            mesh,
            pod,
            container,
            command,
        } => exec(&mesh, &pod.reference(), container.as_deref(), &command),
        Command::Logs {
            mesh,
            pod,
            container,
            follow,
        } => logs(&mesh, &pod.reference(), container.as_deref(), follow),
        Command::Scale {
            mesh,
            deployment,
            replicas,
        } => {
            let request = Request::Scale {
                deployment: deployment.query(),
                replicas,
            };
            let DeploymentRef { namespace, name } = control::ask(&find(&mesh)?.control(), &request)?;
            stdout::print(&format!("Deployment {namespace}/{name} scaled to {replicas}\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Restart { mesh, deployment } => {
            let request = Request::Restart(deployment.query());
            let DeploymentRef { namespace, name } = control::ask(&find(&mesh)?.control(), &request)?;
            stdout::print(&format!("Deployment {namespace}/{name} restarting\n"))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Down { mesh } => down(&mesh),
        Command::Internal(role) => internal::run(role),
    }
}

fn find(mesh: &Name) -> Result<State> {
    State::find(mesh.name.as_deref())
}

fn status(mesh: &Name, output: Output) -> Result<ExitCode> {
    let pods: Vec<PodStatus> = control::ask(&find(mesh)?.control(), &Request::Status)?;
    let text = match output {
        Output::Json => serde_json::to_string_pretty(&pods)?,
        Output::Table => table(&pods).trim_fmt(),
    };
    stdout::print(&format!("{text}\n"))?;
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
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
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
    let pause_pid = details.pause_pid.with_context(|| details.not_started())?;
    let container = details.containers.into_iter().nth(at).expect("chosen among them");
    let program = std::env::current_exe().context("cannot find the program's own path")?;
    namespaces::enter_mesh(state.supervisor.pid, Children::Inside)?;
    let mut command = Process::new(program);
    command.args([
        "local",
        "internal",
        "container",
        "--pause-pid",
        &pause_pid.to_string(),
        "--cwd",
        &container.cwd,
    ]);
    command.arg("--").args(argv).env_clear().envs(container.env);
    for inherited in ["TERM", "COLUMNS", "LINES"] {
        command.envs(std::env::var_os(inherited).map(|value| (inherited, value)));
    }
    // Ctrl-C is for the command alone, which unblocks these signals itself.
    let keyboard: SigSet = [Signal::SIGINT, Signal::SIGQUIT].into_iter().collect();
    keyboard.thread_block()?;
    let status = command.status().context("cannot start the command")?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(ExitCode::from(code as u8))
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
    let container = &details.containers[choose(&details, container)?];
    let path = &container.log;
    if std::fs::metadata(path).is_ok_and(|log| log.len() == 0)
        && let Some(failure) = &container.failure
    {
        bail!(
            "container {} of pod {} has not started: {failure}",
            container.name,
            details.name
        );
    }
    if !path.exists() {
        bail!(details.not_started());
    }
    let mut out = std::io::stdout().lock();
    // A full log continues in an emptied file, with the older half beside it.
    if let Ok(older) = std::fs::read(state::older_log(path))
        && !stdout::write(&mut out, &older)?
    {
        return Ok(ExitCode::SUCCESS);
    }
    copy_log(path, &mut out, follow.then_some(&state))?;
    Ok(ExitCode::SUCCESS)
}

fn copy_log(path: &Path, out: &mut impl std::io::Write, follow: Option<&State>) -> Result<()> {
    let open = || File::open(path).with_context(|| format!("cannot read {}", path.display()));
    let mut file = open()?;
    loop {
        let mut chunk = Vec::new();
        let read = (&mut file).take(1 << 20).read_to_end(&mut chunk)?;
        if read > 0 {
            if !stdout::write(out, &chunk)? {
                return Ok(());
            }
            continue;
        }
        if !follow.is_some_and(|state| state.supervisor.is_alive()) {
            return Ok(());
        }
        std::thread::sleep(FOLLOW);
        // Rotated: the path names another file, or the same file, truncated.
        let Ok(named) = std::fs::metadata(path) else { continue };
        if named.ino() != file.metadata()?.ino() {
            file = open()?;
        } else if named.len() < file.stream_position()? {
            file.seek(SeekFrom::Start(0))?;
        }
    }
}

fn down(mesh: &Name) -> Result<ExitCode> {
    let name = match &mesh.name {
        Some(name) => name.clone(),
        None => only_mesh()?,
    };
    state::check_name(&name)?;
    let dir = state::dir(&name);
    if !dir.exists() {
        bail!("no mesh named {name:?} is running, and none has left anything behind");
    }
    if let Ok(state) = State::read(&dir) {
        shut_down(&state);
        kill_supervisor(&state);
    }
    // The outer process removes its state if it is still alive; otherwise this process does.
    let deadline = Instant::now() + Duration::from_secs(5);
    while dir.exists() {
        let outer = State::read(&dir).is_ok_and(|state| state.outer.is_alive());
        if !outer && let Some(lock) = state::try_lock(&dir)? {
            state::clean(&dir)?;
            state::remove(&dir, lock);
        } else if Instant::now() > deadline {
            bail!("mesh {name:?} has stopped, but the process that started it is still running");
        } else {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The only running mesh, else the only one that left something behind.
fn only_mesh() -> Result<String> {
    if !State::running().is_empty() {
        return Ok(State::find(None)?.name);
    }
    let mut left = state::leftovers();
    match left.len() {
        0 => bail!("no mesh is running, and none has left anything behind"),
        1 => Ok(left.remove(0)),
        _ => bail!(
            "several meshes have left something behind: {}; choose one with --name",
            left.join(", ")
        ),
    }
}

fn shut_down(state: &State) {
    if control::ask::<()>(&state.control(), &Request::Shutdown).is_err() {
        return;
    }
    let deadline = Instant::now() + DOWN;
    while state.supervisor.is_alive() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn kill_supervisor(state: &State) {
    if state.supervisor.is_alive() {
        let _ = kill(Pid::from_raw(state.supervisor.pid), Signal::SIGKILL);
    }
    while state.supervisor.is_alive() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(std::io::ErrorKind);

    impl std::io::Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn logs_end_at_a_closed_pipe_and_report_a_full_disk() {
        let log = std::env::current_exe().expect("a file");
        copy_log(&log, &mut Broken(std::io::ErrorKind::BrokenPipe), None).expect("no error");
        let error = copy_log(&log, &mut Broken(std::io::ErrorKind::StorageFull), None).expect_err("lost");
        assert_eq!(error.to_string(), "cannot write to standard output");
    }

    #[test]
    fn rejects_other_kinds_as_deployments() {
        for good in ["web", "deploy/web", "deployment/web", "deployments.apps/web"] {
            assert_eq!(deployment_name(good).as_deref(), Ok("web"), "{good}");
        }
        for bad in ["", "pod/web", "deploy/", "deploy/a/b", "/web"] {
            deployment_name(bad).expect_err(bad);
        }
    }
}
