//! Requests of the commands to a running mesh, over the Unix socket in its state directory: one line of JSON each way.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest request line in bytes; a request is a few names and a number.
pub(super) const REQUEST_BYTES: u64 = 64 * 1024;

/// A request to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Request {
    /// Lists all pods; answered with [`Vec<PodStatus>`].
    Status,
    /// Describes a pod for `exec` and `logs`; answered with [`PodDetails`].
    Pod(String),
    /// Sets the replicas of a Deployment; answered with its [`DeploymentRef`].
    Scale { deployment: DeploymentQuery, replicas: u32 },
    /// Replaces the pods of a Deployment; answered with its [`DeploymentRef`].
    Restart(DeploymentQuery),
    /// Starts an orderly shutdown; answered at once.
    Shutdown,
}

/// Namespace and name of a Deployment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct DeploymentRef {
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// A Deployment as users name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DeploymentQuery {
    /// Any namespace if absent.
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

impl DeploymentQuery {
    /// Returns true for the Deployment of this namespace and name.
    pub(super) fn matches(&self, namespace: &str, name: &str) -> bool {
        self.name == name && self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}

/// A pod as `status` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    pub namespace: String,
    pub name: String,
    /// Owning Deployment; empty for a bare pod.
    pub deployment: String,
    /// `Starting`, `Running`, `Terminating`, or the failure.
    pub status: String,
    pub ready: bool,
    /// Ready containers and all containers.
    pub containers: (usize, usize),
    /// Restarts of its containers.
    pub restarts: u32,
    pub address: String,
    /// It has a sidecar.
    pub meshed: bool,
    /// Age in seconds.
    pub age: u64,
}

/// A pod as `exec` and `logs` need it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodDetails {
    pub(super) namespace: String,
    pub(super) name: String,
    /// PID of its pause process in the supervisor's namespace, once its namespaces exist.
    pub(super) pause_pid: Option<u32>,
    /// Reason that it does not start.
    pub(super) failure: Option<String>,
    /// Containers, the application's first.
    pub(super) containers: Vec<ContainerDetails>,
}

impl PodDetails {
    /// Sentence that it has not started, and why.
    pub(super) fn not_started(&self) -> String {
        let reason = self.failure.as_deref().unwrap_or("it is still starting");
        format!("pod {} has not started: {reason}", self.name)
    }
}

/// Environment of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerDetails {
    pub(super) name: String,
    pub(super) cwd: String,
    pub(super) env: Vec<(String, String)>,
    /// Log file.
    pub(super) log: PathBuf,
    /// Reason of its last exit or failed start.
    pub(super) failure: Option<String>,
}

/// An answer, or an error message.
pub(super) type Reply<T> = std::result::Result<T, String>;

/// Sends a request and waits for the answer.
pub(super) fn ask<T: DeserializeOwned>(socket: &Path, request: &Request) -> Result<T> {
    let gone = || format!("the mesh does not answer on {}", socket.display());
    let mut stream = UnixStream::connect(socket).with_context(gone)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut line = serde_json::to_string(request).expect("plain values");
    line.push('\n');
    stream.write_all(line.as_bytes()).with_context(gone)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).with_context(gone)?;
    match serde_json::from_str::<Reply<T>>(&answer).with_context(gone)? {
        Ok(value) => Ok(value),
        Err(sentence) => bail!(sentence),
    }
}
