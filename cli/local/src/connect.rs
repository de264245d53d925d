//! Connections of commands to ports of pods, as `kubectl port-forward` makes them in a cluster.
//!
//! A thread cannot enter another user's namespace while others run, so a child process connects: `internal connect`
//! carries its standard input and output to the port.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, Shutdown, TcpStream},
    os::fd::AsFd as _,
    pin::Pin,
    process::{ExitCode, Stdio},
    task::{Context as TaskContext, Poll},
};

use anyhow::{Context, Result};
use nix::sched::CloneFlags;
use tokio::{
    io::{AsyncRead, AsyncWrite, Join, ReadBuf},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{
    control::{self, PodDetails, Request},
    namespaces::{self, Children},
    state::State,
};

/// Arguments of the role.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the mesh.
    mesh: String,
    /// Pod, NAMESPACE/NAME or deploy/NAME.
    pod: String,
    /// Port on the pod's loopback.
    port: u16,
}

/// Connects, and copies both ways until the pod closes the connection.
pub(super) fn run(args: &Args) -> Result<ExitCode> {
    let state = State::find(Some(&args.mesh))?;
    let details: PodDetails = control::ask(&state.control(), &Request::Pod(args.pod.clone()))?;
    let pause_pid = details.pause_pid.with_context(|| details.not_started())?;
    namespaces::enter_mesh(state.supervisor.pid, Children::Outside)?;
    namespaces::enter_pod(pause_pid, &[("net", CloneFlags::CLONE_NEWNET)])?;
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, args.port))
        .with_context(|| format!("cannot connect to port {} of {}", args.port, details.name))?;
    let (mut from, mut to) = (stream.try_clone()?, stream);
    let upload = std::thread::spawn(move || {
        let copied = io::copy(&mut io::stdin().lock(), &mut to);
        to.shutdown(Shutdown::Write).and(copied)
    });
    // Not by `Stdout`, which keeps what follows the last line end.
    let mut out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let copied = io::copy(&mut from, &mut out);
    // One side has closed; what the other would still send has nowhere to go.
    drop(upload);
    match copied {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Connection to a port of a pod. Dropping it ends the process that carries it.
#[derive(Debug)]
pub struct Forwarded {
    io: Join<ChildStdout, ChildStdin>,
    _child: Child,
}

/// Connects to a port on the loopback of a pod: NAMESPACE/NAME or deploy/NAME.
pub fn forward(mesh: &State, pod: &str, port: u16) -> Result<Forwarded> {
    let program = std::env::current_exe().context("cannot find the program's own path")?;
    let mut command = Command::new(program);
    command.args(["local", "internal", "connect", &mesh.name, pod, &port.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("cannot start `mesh local internal connect`")?;
    let (stdout, stdin) = (child.stdout.take(), child.stdin.take());
    Ok(Forwarded {
        io: tokio::io::join(stdout.expect("piped"), stdin.expect("piped")),
        _child: child,
    })
}

impl AsyncRead for Forwarded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Forwarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
