//! Plans of pods: everything that a node needs to run one.

use std::{collections::BTreeMap, net::Ipv4Addr, path::PathBuf, time::Duration};

use injector_redirect::Rules;

/// Plan of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodPlan {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) address: Ipv4Addr,
    pub(crate) service_account: String,
    /// Grace period.
    pub(crate) grace: Duration,
    /// Init containers, run one by one to completion before the others start.
    pub(crate) init: Vec<ContainerPlan>,
    /// Containers of the application.
    pub(crate) containers: Vec<ContainerPlan>,
    pub(crate) sidecar: Option<SidecarPlan>,
}

/// Plan of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerPlan {
    pub(crate) name: String,
    pub(crate) argv: Vec<String>,
    /// Complete environment.
    pub(crate) env: Vec<(String, String)>,
    /// Working directory.
    pub(crate) cwd: String,
    pub(crate) readiness: Option<ProbePlan>,
    pub(crate) liveness: Option<ProbePlan>,
    pub(crate) startup: Option<ProbePlan>,
}

/// Plan of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbePlan {
    pub(crate) check: Check,
    /// Time before the first check.
    pub(crate) delay: Duration,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    /// Failure threshold: consecutive failures.
    pub(crate) failures: u32,
}

/// Check of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// A GET is answered with a status from 200 to 399.
    Http {
        port: u16,
        path: String,
        /// Additional headers.
        headers: Vec<(String, String)>,
    },
    /// The port accepts a connection.
    Tcp(u16),
    /// The command exits with 0.
    Exec(Vec<String>),
}

/// Plan of a pod's sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SidecarPlan {
    pub(crate) container: ContainerPlan,
    /// The application starts only when the sidecar is ready.
    pub(crate) first: bool,
    /// Time that the sidecar keeps running after the pod starts to terminate.
    pub(crate) pre_stop_sleep: Duration,
    /// Redirection of the pod's traffic.
    pub(crate) rules: Rules,
    pub(crate) inbound_port: u16,
    pub(crate) admin_port: u16,
    /// Annotations of the namespace that the pod inherits.
    pub(crate) inherited: BTreeMap<String, String>,
    /// Folder of key and CSR.
    pub(crate) identity_dir: PathBuf,
    /// File of the workload token.
    pub(crate) token: PathBuf,
}

impl PodPlan {
    /// All long-running containers: the application's, then the sidecar.
    pub(crate) fn running(&self) -> impl Iterator<Item = &ContainerPlan> {
        let sidecar = self.sidecar.as_ref().map(|sidecar| &sidecar.container);
        self.containers.iter().chain(sidecar)
    }
}
