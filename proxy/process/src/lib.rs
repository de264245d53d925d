//! Skeleton of the mesh's programs: log, signals, owned tasks, servers with limits, drain, admin server, exit.
//!
//! [`program::main`] runs a whole program; [`serve::Server`] is the server of every port.
//!
//! ```no_run
//! # async fn program() -> Result<(), proxy_process::Error> {
//! use proxy_process::{admin, admin::{Admin, Readiness}, log, signals, tasks::Tasks};
//!
//! let log = log::init("warn,mesh=info", log::Format::Plain)?;
//! let stop = signals::stop_token()?;
//! let ready = Readiness::default();
//! let mut tasks = Tasks::new(stop.clone());
//! let listener = admin::listen("0.0.0.0:9990".parse().expect("an address")).await?;
//! let admin = Admin::new(ready.clone(), || "# metrics\n".to_owned());
//! tasks.spawn("admin", admin::serve(listener, admin, stop.clone()));
//! ready.set();
//! tasks.finish(std::time::Duration::from_secs(10)).await
//! # }
//! ```

pub mod admin;
pub mod log;
pub mod program;
pub mod signals;
pub mod tasks;

use std::{io, net::SocketAddr, time::Duration};

/// Error of a process as such.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter does not parse.
    #[error("invalid log filter {filter:?}: {reason}")]
    LogFilter {
        /// The filter.
        filter: String,
        /// Error of the parser.
        reason: String,
    },
    /// The log format is unknown.
    #[error("invalid log format {0:?}: must be plain or json")]
    LogFormat(String),
    /// The log is set up twice.
    #[error("the log is already set up")]
    LogTwice,
    /// Signals are not available.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// Error of the system.
        source: io::Error,
    },
    /// A server stopped serving.
    #[error("serving failed: {0}")]
    Serve(io::Error),
    /// A task that should run as long as the process ended.
    #[error("task {name:?} ended: {reason}")]
    TaskEnded {
        /// Name of the task.
        name: &'static str,
        /// Error of the task.
        reason: String,
    },
    /// Tasks did not end in time.
    #[error("{count} tasks still running {grace:?} after the stop: {names}")]
    Undrained {
        /// Number of tasks.
        count: usize,
        /// Names of the tasks.
        names: String,
        /// Time that they had.
        grace: Duration,
    },
}
