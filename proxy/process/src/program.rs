//! The skeleton of a program: runtime, log, signals, tasks, admin server, and one line on stderr if it fails.

use std::{fmt::Display, future::Future, io, net::SocketAddr, process::ExitCode, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, runtime::Runtime};
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    admin::{self, Admin, Readiness},
    log,
    serve::{Refusals, Server},
    signals,
    tasks::Tasks,
};

/// Variable with the log filter of all programs but the proxy, which has upstream's `LINKERD2_PROXY_LOG`.
///
/// A filter is a list such as `warn,mesh=debug,proxy_=info`; without it, everything from `info` upwards is logged.
pub const LOG_VARIABLE: &str = "MESH_LOG";

const DEFAULT_LOG: &str = "info";

/// Properties of a program.
#[derive(Copy, Clone, Debug)]
pub struct Program {
    /// Name, which precedes an error on stderr.
    pub name: &'static str,
    /// Threads beside the main one that carry tasks; none means that the main thread does.
    pub threads: usize,
    /// Time for tasks to end after the stop.
    pub grace: Duration,
}

/// Parts that every program is made of.
#[derive(Debug)]
pub struct Context {
    /// Cancelled by the first signal.
    pub stop: CancellationToken,
    /// Tasks of the program; the first that ends early stops it.
    pub tasks: Tasks,
    /// Answer to `/ready`.
    pub ready: Readiness,
    /// Refusals of the program's servers, for `/metrics`.
    pub refusals: Refusals,
    /// Log filter in force.
    pub log: log::Handle,
}

impl Context {
    /// Listens on an address.
    pub async fn listen(&self, addr: SocketAddr) -> Result<TcpListener, Error> {
        admin::listen(addr).await
    }

    /// A server whose refusals are counted.
    pub fn server(&self, name: &'static str) -> Server {
        let refusals = self.refusals.clone();
        Server::new(name, move |limit| refusals.count(limit))
    }

    /// Starts the admin server: readiness, `metrics` in Prometheus' text format, and the program's own endpoints.
    pub fn serve_admin(
        &mut self,
        listener: TcpListener,
        metrics: impl Fn() -> String + Send + Sync + 'static,
        more: Router,
    ) {
        let admin = Admin::new(self.ready.clone(), metrics)
            .with(more)
            .with_refusals(self.refusals.clone());
        self.tasks
            .spawn("admin", admin::serve(listener, admin, self.stop.clone()));
    }
}

/// Runs a program: `start` starts its tasks, which run until a signal, or until one of them ends early.
pub fn main<E, F>(program: Program, start: impl FnOnce(Context) -> F) -> ExitCode
where
    E: Display + From<Error>,
    F: Future<Output = Result<Tasks, E>>,
{
    run(program.name, runtime(program.threads), async move {
        let filter = std::env::var(LOG_VARIABLE).unwrap_or_else(|_| DEFAULT_LOG.to_owned());
        let log = log::init(&filter, log::Format::Plain)?;
        let stop = signals::stop_token()?;
        let context = Context {
            tasks: Tasks::new(stop.clone()),
            stop,
            ready: Readiness::default(),
            refusals: Refusals::default(),
            log,
        };
        Ok::<_, E>(start(context).await?.finish(program.grace).await?)
    })
}

fn runtime(threads: usize) -> io::Result<Runtime> {
    let mut builder = match threads {
        0 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.worker_threads(threads.max(1)).enable_all().build()
}

/// Runs `program` on `runtime` to its end. An error is printed with its causes, after the program's name.
pub fn run<E: Display>(
    name: &str,
    runtime: io::Result<Runtime>,
    program: impl Future<Output = Result<(), E>>,
) -> ExitCode {
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(program).map_err(|error| format!("{error:#}")),
        Err(error) => Err(format!("cannot start the runtime: {error}")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_follows_the_result() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build();
        let ended = |result: Result<(), &'static str>| run("test", runtime(), async move { result });
        assert_eq!(ended(Ok(())), ExitCode::SUCCESS);
        assert_eq!(ended(Err("broken")), ExitCode::FAILURE);
        let none = Err(io::Error::other("no threads"));
        assert_eq!(run("test", none, async { Ok::<_, String>(()) }), ExitCode::FAILURE);
    }
}
