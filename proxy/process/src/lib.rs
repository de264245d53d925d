//! What every server program of the mesh does the same way: log, signals, owned tasks, drain, admin server, exit.
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

/// What goes wrong with a process as such.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The log filter does not parse.
    #[error("the log filter {filter:?} is invalid: {reason}")]
    LogFilter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such log format.
    #[error("{0:?} is no log format; it is plain or json")]
    LogFormat(String),
    /// The log was set up before.
    #[error("the log is already set up")]
    LogTwice,
    /// The system gives no signals.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A server stopped serving.
    #[error("serving failed: {0}")]
    Serve(io::Error),
    /// A task that should run as long as the process ended.
    #[error("the task {name:?} ended: {reason}")]
    TaskEnded {
        /// Its name.
        name: &'static str,
        /// Why.
        reason: String,
    },
    /// Tasks were still busy when the time was over.
    #[error("{count} tasks had not ended {grace:?} after the stop: {names}")]
    Undrained {
        /// How many.
        count: usize,
        /// Which.
        names: String,
        /// The time they had.
        grace: Duration,
    },
}
