//! What a container runtime says and hears, as CNI's specification has it (versions 0.3.0 to 1.1.0).

use std::path::PathBuf;

use serde_json::{Value, json};

/// The versions of the specification that we speak; a result is passed through in the form in which it came.
const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// What we answer in where nobody says a version.
const DEFAULT_VERSION: &str = "1.0.0";

/// CNI's codes, and our own from 100 on.
const CODE_ENVIRONMENT: u32 = 4;
const CODE_IO: u32 = 5;
const CODE_DECODE: u32 = 6;
const CODE_CONFIG: u32 = 7;
const CODE_AGAIN: u32 = 11;
const CODE_POD: u32 = 100;
const CODE_RULES: u32 = 101;

/// Why a call fails; the runtime shows it in the pod's events.
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
    /// The environment is not a runtime's.
    environment = CODE_ENVIRONMENT "mesh-cni: the environment of the call is wrong";
    /// Something could not be read.
    io = CODE_IO "mesh-cni: reading failed";
    /// The network configuration is no JSON.
    decode = CODE_DECODE "mesh-cni: the network configuration cannot be read";
    /// The network configuration is wrong.
    config = CODE_CONFIG "mesh-cni: the network configuration is wrong";
    /// It may be better the next time.
    again = CODE_AGAIN "mesh-cni: it is not known yet whether this pod is in the mesh, so it waits";
    /// What the pod says of itself is wrong.
    pod = CODE_POD "mesh-cni: the pod cannot be redirected as it asks";
    /// The kernel does not take the rules.
    rules = CODE_RULES "mesh-cni: the traffic rules are not in place";
}

impl Failure {
    /// For stdout.
    pub(super) fn to_json(&self, version: Option<String>) -> String {
        let version = version.unwrap_or_else(|| DEFAULT_VERSION.to_owned());
        let error = json!({"cniVersion": version, "code": self.code, "msg": self.message, "details": self.details});
        format!("{error}\n")
    }
}

/// What is wanted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
    Check,
    Status,
    Gc,
    Version,
}

/// A pod's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodName {
    pub(super) namespace: String,
    pub(super) name: String,
    /// Tells it from a pod of the same name before it, as a StatefulSet makes them.
    pub(super) uid: Option<String>,
}

/// The environment of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) command: Command,
    pub(super) netns: PathBuf,
    pub(super) pod: Option<PodName>,
}

impl Call {
    /// Reads the environment.
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

/// The pod of `K=V;K=V`; none if it names none.
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

/// The version that a configuration asks for.
pub(super) fn version_of(text: &str) -> Option<String> {
    let value: Value = serde_json::from_str(text).ok()?;
    value["cniVersion"].as_str().map(str::to_owned)
}

/// The answer to VERSION.
pub(super) fn versions(text: &str) -> String {
    let version = version_of(text).unwrap_or_else(|| DEFAULT_VERSION.to_owned());
    format!("{}\n", json!({"cniVersion": version, "supportedVersions": VERSIONS}))
}
