//! `mesh local up`, and the parts shared with `mesh demo`: a start with progress, Ctrl-C, shutdown.

use std::{
    collections::HashSet,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

use super::{
    manifests::Manifests,
    start::{self, Progress, Running, StartOptions},
    state,
};

/// Time for an orderly shutdown before the mesh is killed: longer than the default grace period.
const DOWN: Duration = Duration::from_secs(40);

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kubernetes manifests: a folder or a file, whose changes apply while the mesh runs, or - for standard input.
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    path: PathBuf,
    /// Name of the mesh; meshes with different names run side by side.
    #[arg(long, default_value = state::DEFAULT_NAME)]
    name: String,
    /// Loopback port of the viz API; 0 picks a free one.
    #[arg(long, default_value_t = 0)]
    viz_port: u16,
    /// Run pods only, without control plane and sidecars.
    #[arg(long)]
    no_mesh: bool,
}

pub(super) fn run(options: Args) -> Result<ExitCode> {
    let interrupts = interrupts()?;
    let Args {
        path,
        name,
        viz_port,
        no_mesh,
    } = options;
    let running = begin(
        StartOptions {
            name,
            manifests: Manifests::from_flag(&path)?,
            viz_port,
            mesh: !no_mesh,
            progress: (),
        },
        &interrupts,
    )?;
    announce(&running);
    match watch(&running, &interrupts) {
        Ended::ByItself => {
            running.outcome()?;
            notify("The mesh was stopped by `mesh local down`.");
            Ok(ExitCode::SUCCESS)
        }
        Ended::Interrupted => {
            end(running, &interrupts);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Reason for the end of a wait.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Ctrl-C, SIGTERM or SIGHUP.
    Interrupted,
    /// Stopped by another process, or failed: see [`Running::outcome`].
    ByItself,
}

/// Starts a mesh and shows the progress; an interrupt aborts it.
pub fn begin(options: StartOptions<()>, interrupts: &mpsc::Receiver<()>) -> Result<Running> {
    let (sender, started) = mpsc::sync_channel(1);
    let line = StatusLine::new();
    let StartOptions {
        name,
        manifests,
        viz_port,
        mesh,
        progress: (),
    } = options;
    let abandoned = name.clone();
    // The start has its own thread, so that Ctrl-C works from the first moment; it lives as long as the mesh.
    std::thread::spawn(move || {
        let progress = |step| line.show(&step);
        let _ = sender.send(start::start(StartOptions {
            name,
            manifests,
            viz_port,
            mesh,
            progress,
        }));
        line.clear();
        // The supervisor's parent-death signal is tied to this thread, so it must stay.
        std::thread::park();
    });
    loop {
        match started.recv_timeout(Duration::from_millis(50)) {
            Ok(result) => return result,
            Err(mpsc::RecvTimeoutError::Timeout) if interrupts.try_recv().is_ok() => {
                abandon(&abandoned);
                bail!("interrupted");
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the start ended without an error message"),
        }
    }
}

/// Removes what an unfinished start has created; this process holds the lock.
fn abandon(name: &str) {
    let dir = state::dir(name);
    let _ = state::clean(&dir).and_then(|()| Ok(std::fs::remove_dir_all(&dir)?));
    state::remove_base();
}

/// Prints a message to stderr. Ignores errors: a closed terminal, or a `| head`, does not stop the mesh.
pub fn notify(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn announce(running: &Running) {
    let state = running.state();
    let name = if state.name == state::DEFAULT_NAME {
        String::new()
    } else {
        format!(" --name {}", state.name)
    };
    notify(&format!(
        "The mesh is up. Its viz API is at {}. Press Ctrl-C to stop.",
        state.viz_url()
    ));
    notify(&format!(
        "In another terminal: `mesh local status{name}`, `mesh local logs{name} POD`, `mesh local down{name}`"
    ));
}

fn watch(running: &Running, interrupts: &mpsc::Receiver<()>) -> Ended {
    loop {
        if interrupts.try_recv().is_ok() {
            return Ended::Interrupted;
        }
        match running.next(Duration::from_millis(100)) {
            Ok(Some(Progress::Note(text))) => notify(&text),
            Ok(_) => {}
            Err(_) => return Ended::ByItself,
        }
    }
}

/// Shuts down in order; a second interrupt kills the mesh.
pub fn end(mut running: Running, interrupts: &mpsc::Receiver<()>) {
    notify("Shutting down; press Ctrl-C again to force.");
    let deadline = Instant::now() + DOWN;
    if running.request_shutdown().is_ok() {
        while running.next(Duration::from_millis(50)).is_ok() {
            if interrupts.try_recv().is_ok() || Instant::now() > deadline {
                break;
            }
        }
    }
    running.kill();
}

/// Receives a message for each SIGINT, SIGTERM and SIGHUP.
pub fn interrupts() -> Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::sync_channel(4);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            use tokio::signal::unix::{SignalKind, signal};
            let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
            let [Ok(mut int), Ok(mut term), Ok(mut hup)] = kinds.map(signal) else {
                return;
            };
            loop {
                tokio::select! {
                    _ = int.recv() => {}
                    _ = term.recv() => {}
                    _ = hup.recv() => {}
                }
                let _ = sender.try_send(());
            }
        });
    });
    Ok(receiver)
}

/// A single changing line on a terminal; separate lines elsewhere.
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
                    None => notify(text),
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
            None if self.said.borrow_mut().insert(text.clone()) => notify(&text),
            None => {}
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
