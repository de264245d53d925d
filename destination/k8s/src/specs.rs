//! Traffic specifications of SMI (`specs.smi-spec.io`, v1alpha1 to v1alpha4), which TrafficTargets name:
//! HTTPRouteGroup, TCPRoute and UDPRoute. Early versions of a group have its matches at the top level; either place is
//! read in any version, as a stored object is handed out in all of them.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    Custom,
    check::{Check, Validation, port, regex},
    path::{Fault, Path},
};

/// Named conditions on HTTP requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "WrittenGroup")]
pub struct HttpRouteGroup {
    /// Group and version, as written.
    pub api_version: String,
    /// Kind, as written.
    pub kind: String,
    /// Metadata.
    pub metadata: ObjectMeta,
    /// Specification, from wherever it was written.
    pub spec: HttpRouteGroupSpec,
}

/// Specification of an [`HttpRouteGroup`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpRouteGroupSpec {
    /// Conditions, by name.
    #[serde(default)]
    pub matches: Vec<GroupMatch>,
}

/// Condition on a request; all that it sets must hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupMatch {
    /// Name, by which a target selects it.
    pub name: String,
    /// Regular expression for the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// Methods; none, or a `*` among them, means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Headers and a regular expression for the value of each. Written as a map, or as a list of maps.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "headers")]
    pub headers: BTreeMap<String, String>,
}

/// TCP connections, to some ports.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SmiTcpRoute {
    /// Group and version, as written.
    #[serde(default)]
    pub api_version: String,
    /// Kind, as written.
    #[serde(default)]
    pub kind: String,
    /// Metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// Specification; early versions have none.
    #[serde(default)]
    pub spec: PortsSpec,
}

/// UDP packets, which the mesh does not carry.
pub type UdpRoute = Custom<PortsSpec>;

/// Specification of an [`SmiTcpRoute`] or a [`UdpRoute`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortsSpec {
    /// Ports (v1alpha4).
    #[serde(default)]
    pub matches: PortsMatch,
}

/// Ports of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortsMatch {
    /// Name, which nothing refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Ports; none means all.
    #[serde(default)]
    pub ports: Vec<u16>,
}

/// A group as written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenGroup {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: ObjectMeta,
    spec: Option<HttpRouteGroupSpec>,
    matches: Option<Vec<GroupMatch>>,
}

impl TryFrom<WrittenGroup> for HttpRouteGroup {
    type Error = &'static str;

    fn try_from(written: WrittenGroup) -> Result<Self, Self::Error> {
        let spec = match (written.spec, written.matches) {
            (Some(spec), None) => spec,
            (None, Some(matches)) => HttpRouteGroupSpec { matches },
            (None, None) => return Err("the group has neither a spec nor, as in v1alpha1, matches"),
            (Some(_), Some(_)) => return Err("the group has matches both in its spec and, as in v1alpha1, beside it"),
        };
        Ok(Self {
            api_version: written.api_version,
            kind: written.kind,
            metadata: written.metadata,
            spec,
        })
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected headers as a map, or as a list of maps with one header each"
)]
enum Headers {
    Map(BTreeMap<String, String>),
    List(Vec<BTreeMap<String, String>>),
}

fn headers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let list = match Headers::deserialize(deserializer)? {
        Headers::Map(map) => return Ok(map),
        Headers::List(list) => list,
    };
    let mut all = BTreeMap::new();
    for (name, value) in list.into_iter().flatten() {
        // All must hold, and one name has one expression.
        if all.insert(name.clone(), value).is_some() {
            return Err(serde::de::Error::custom(format!("the header {name} is listed twice")));
        }
    }
    Ok(all)
}

/// Budgets and the content of expressions are checked by the index.
impl Check for HttpRouteGroup {
    fn check(&self) -> Validation {
        for (i, found) in self.spec.matches.iter().enumerate() {
            let at = || Path::keys(&["spec", "matches"]).index(i);
            if let Some(text) = &found.path_regex {
                regex(at().key("pathRegex"), text)?;
            }
            let mut headers = found.headers.iter();
            headers.try_for_each(|(name, text)| regex(at().key("headers").key(name), text))?;
        }
        Ok(())
    }
}

impl Check for SmiTcpRoute {
    fn check(&self) -> Validation {
        let at = Path::keys(&["spec", "matches", "ports"]);
        let mut ports = self.spec.matches.ports.iter().enumerate();
        ports.try_for_each(|(i, number)| port(at.clone().index(i), i32::from(*number)))
    }
}

impl Check for UdpRoute {
    fn check(&self) -> Validation {
        let reason = "the mesh carries no UDP, so the route cannot act";
        Err(Fault::new(Path::keys(&["kind"]), reason))
    }
}
