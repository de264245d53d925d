//! What commands ask a running mesh, over the unix socket in its state directory: one line of JSON each way.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest request line, in bytes: names and a number.
pub(super) const REQUEST_BYTES: u64 = 64 * 1024;

/// A question or an order.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Request {
    /// All pods: [`Vec<PodStatus>`].
    Status,
    /// What `exec` and `logs` need to know about a pod: [`PodDetails`].
    Pod(String),
    /// Another number of replicas: nothing.
    Scale {
        /// Which Deployment.
        deployment: DeploymentRef,
        /// How many pods.
        replicas: u32,
    },
    /// New pods in the place of all: nothing.
    Restart(DeploymentRef),
    /// End, gracefully: nothing, at once.
    Shutdown,
}

/// Which Deployment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct DeploymentRef {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

/// One pod, as `status` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PodStatus {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The Deployment it belongs to; empty for a pod of its own.
    pub(crate) deployment: String,
    /// What it does: `Starting`, `Running`, `Terminating`, or what is wrong.
    pub(crate) status: String,
    /// Whether it is ready for traffic.
    pub(crate) ready: bool,
    /// Containers that are ready, and all.
    pub(crate) containers: (usize, usize),
    /// How often its containers were started again.
    pub(crate) restarts: u32,
    /// Its address.
    pub(crate) address: String,
    /// Whether it has a sidecar.
    pub(crate) meshed: bool,
    /// Since when, in seconds.
    pub(crate) age: u64,
}

/// What is needed to run something in a pod, or to read its logs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodDetails {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
    /// The process that holds its namespaces, by its number inside.
    pub(super) holder: u32,
    /// Its containers, the application's first.
    pub(super) containers: Vec<ContainerDetails>,
}

/// A container's surroundings.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContainerDetails {
    /// Its name.
    pub(super) name: String,
    /// Its working directory.
    pub(super) cwd: String,
    /// Its environment.
    pub(super) env: Vec<(String, String)>,
    /// Its log file.
    pub(super) log: String,
}

/// Answer: what was asked for, or a sentence.
pub(super) type Reply<T> = std::result::Result<T, String>;

/// Asks, and waits for the answer.
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
