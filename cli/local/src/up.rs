//! `mesh local up`, and what `mesh demo` shares with it: a start that shows how it goes on, Ctrl-C, the end.

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
    start::{self, Progress, Running, StartOptions},
    state,
};

/// Time for an orderly end before force is used; the longest grace period and some.
const DOWN: Duration = Duration::from_secs(40);

/// How `up` runs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
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

pub(super) fn run(options: Args) -> Result<ExitCode> {
    let interrupts = interrupts()?;
    let Args {
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
    match watch(&running, &interrupts) {
        // Somebody else ended it, or it failed.
        Ended::ByItself => running.outcome().map(|()| ExitCode::SUCCESS),
        Ended::Interrupted => {
            end(running, &interrupts);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What ends the wait for the end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The person before the terminal.
    Interrupted,
    /// Somebody else ended it, or it failed: see [`Running::outcome`].
    ByItself,
}

/// Starts a mesh, and shows how that goes on; an interrupt ends it.
pub fn begin(options: StartOptions<()>, interrupts: &mpsc::Receiver<()>) -> Result<Running> {
    let (sender, started) = mpsc::sync_channel(1);
    let line = StatusLine::new();
    let StartOptions {
        name,
        dir,
        viz_port,
        mesh,
        progress: (),
    } = options;
    let abandoned = name.clone();
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
            Err(mpsc::RecvTimeoutError::Timeout) if interrupts.try_recv().is_ok() => {
                abandon(&abandoned);
                bail!("interrupted");
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the start ended without a word"),
        }
    }
}

/// Takes away what a start that is not finished has made; the lock is this process's own.
fn abandon(name: &str) {
    let dir = state::dir(name);
    let _ = state::clean(&dir).and_then(|()| Ok(std::fs::remove_dir_all(&dir)?));
    state::remove_base();
}

/// Tells a person something. Nobody has to listen: a terminal that was closed, or a `| head`, ends no mesh.
pub fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn announce(running: &Running) {
    let state = running.state();
    let name = if state.name == state::DEFAULT_NAME {
        String::new()
    } else {
        format!(" --name {}", state.name)
    };
    tell(&format!(
        "The mesh runs. Its viz API is at {}; Ctrl-C ends it.",
        state.viz_url()
    ));
    tell(&format!(
        "In another terminal: `mesh local status{name}`, `mesh local logs{name} POD`, `mesh local down{name}`"
    ));
}

fn watch(running: &Running, interrupts: &mpsc::Receiver<()>) -> Ended {
    loop {
        if interrupts.try_recv().is_ok() {
            return Ended::Interrupted;
        }
        match running.next(Duration::from_millis(100)) {
            Ok(Some(Progress::Note(text))) => tell(&text),
            Ok(_) => {}
            Err(_) => return Ended::ByItself,
        }
    }
}

/// The orderly end; a second Ctrl-C makes it short.
pub fn end(mut running: Running, interrupts: &mpsc::Receiver<()>) {
    tell("Ending; Ctrl-C again ends it at once.");
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

/// Ctrl-C, SIGTERM and the end of the terminal, each as a message.
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
                    None => tell(text),
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
            None if self.said.borrow_mut().insert(text.clone()) => tell(&text),
            None => {}
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
