//! Skeleton of the mesh's programs: log, signals, owned tasks, servers with limits, drain, admin server, exit.
//!
//! [`program::main`] runs a whole program; [`serve::Server`] is the server of every port.
//!
//! ```text
//! use proxy_process::{Error, program::{self, Context, Program}};
//!
//! let program = Program { name: "mesh-example", threads: 0, grace: Duration::from_secs(10) };
//! program::main(program, |mut context: Context| async move {
//!     let listener = context.listen("0.0.0.0:9990".parse().expect("an address")).await?;
//!     context.serve_admin(listener, || "# metrics\n".to_owned(), axum::Router::new());
//!     context.ready.set();
//!     Ok::<_, Error>(context.tasks)
//! });
//! ```

pub mod admin;
pub mod files;
pub mod local;
pub mod log;
pub mod program;
pub mod rate;
pub mod serve;
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
