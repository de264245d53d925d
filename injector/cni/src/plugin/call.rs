//! Calls and answers of the CNI specification (versions 0.3.0 to 1.1.0).

use std::path::PathBuf;

use serde_json::{Value, json};

/// Supported versions of the specification; results are passed through unchanged.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// Version of answers to calls without one.
const DEFAULT_VERSION: &str = "1.0.0";

/// CNI's codes; the plugin's own start at 100.
const CODE_ENVIRONMENT: u32 = 4;
const CODE_IO: u32 = 5;
const CODE_DECODE: u32 = 6;
const CODE_CONFIG: u32 = 7;
const CODE_AGAIN: u32 = 11;
const CODE_POD: u32 = 100;
const CODE_RULES: u32 = 101;

/// Error of a call; the runtime shows it in the pod's Events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {details}")]
pub(super) struct Failure {
    pub(super) code: u32,
    pub(super) message: &'static str,
    pub(super) details: String,
}

macro_rules! failures {
    ($($(#[$doc:meta])* $name:ident = $code:ident $message:literal;)*) => {
        impl Failure {
            $($(#[$doc])* pub(super) fn $name(details: impl Into<String>) -> Self {
                Self { code: $code, message: $message, details: details.into() }
            })*
        }
    };
}

failures! {
    /// An environment that is not a runtime's.
    environment = CODE_ENVIRONMENT "mesh-cni: invalid environment";
    /// A failed read.
    io = CODE_IO "mesh-cni: I/O error";
    /// A network configuration that is not JSON.
    decode = CODE_DECODE "mesh-cni: cannot parse the network configuration";
    /// An invalid network configuration.
    config = CODE_CONFIG "mesh-cni: invalid network configuration";
    /// A failure that a retry may resolve.
    again = CODE_AGAIN "mesh-cni: waiting until it is known whether the pod is meshed";
    /// Invalid settings of the pod.
    pod = CODE_POD "mesh-cni: invalid redirection settings of the pod";
    /// Rules that the kernel rejects.
    rules = CODE_RULES "mesh-cni: cannot install the redirection rules";
}

impl Failure {
    /// Returns the output of the call.
    pub(super) fn to_json(&self, version: Option<String>) -> String {
        let version = version.unwrap_or_else(|| DEFAULT_VERSION.to_owned());
        let error = json!({"cniVersion": version, "code": self.code, "msg": self.message, "details": self.details});
        format!("{error}\n")
    }
}

/// Command of a call.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

/// Name of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodName {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Distinguishes it from an earlier pod of the same name, as in a StatefulSet.
    pub(super) uid: Option<String>,
}

/// Environment of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) command: Command,
    pub(super) netns: PathBuf,
    pub(super) pod: Option<PodName>,
}

impl Call {
    /// Parses the environment.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let given = |name: &str| variable(name).filter(|text| !text.is_empty());
        let command = match given("CNI_COMMAND").as_deref() {
            Some("ADD") => Command::Add,
            Some("DEL") => Command::Del,
            Some("CHECK") => Command::Check,
            Some("STATUS") => Command::Status,
            Some("GC") => Command::Gc,
            Some("VERSION") => Command::Version,
            other => {
                let other = other.unwrap_or_default();
                return Err(Failure::environment(format!("CNI_COMMAND is {other:?}")));
            }
        };
        let netns = given("CNI_NETNS").unwrap_or_default();
        if command == Command::Add && netns.is_empty() {
            return Err(Failure::environment("CNI_NETNS is missing"));
        }
        Ok(Self {
            command,
            netns: netns.into(),
            pod: pod_of(&given("CNI_ARGS").unwrap_or_default()),
        })
    }
}

/// Returns the pod named in `K=V;K=V`.
fn pod_of(args: &str) -> Option<PodName> {
    let value = |key: &str| {
        let mut pairs = args.split(';').filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(name, _)| *name == key);
        found
            .map(|(_, value)| value.to_owned())
            .filter(|value| !value.is_empty())
    };
    Some(PodName {
        namespace: value("K8S_POD_NAMESPACE")?,
        name: value("K8S_POD_NAME")?,
        uid: value("K8S_POD_UID"),
    })
}

/// Returns the version that a configuration requests.
pub(super) fn version_of(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    value["cniVersion"].as_str().map(str::to_owned)
}

/// Returns the answer to VERSION.
pub(super) fn versions(text: &str) -> String {
    let version = version_of(text).unwrap_or_else(|| DEFAULT_VERSION.to_owned());
    format!("{}\n", json!({"cniVersion": version, "supportedVersions": VERSIONS}))
}
