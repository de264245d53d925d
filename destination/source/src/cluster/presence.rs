//! Detection of an existing mesh on a cluster, before an installation.

use k8s_openapi::{
    api::core::v1::ConfigMap, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, api::ListParams};

use super::Client;
use crate::Error;

/// ConfigMap of every Linkerd-compatible control plane.
const CONFIG: &str = "linkerd-config";
/// Custom resource of every control plane.
const RESOURCE: &str = "servers.policy.linkerd.io";

/// Parts of a mesh found on a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Namespaces with a control plane, of this mesh or of Linkerd.
    pub control_planes: Vec<String>,
    /// The custom resources are installed.
    pub resources: bool,
}

/// Inspects the cluster.
pub async fn presence(client: &Client) -> Result<Presence, Error> {
    let configs: Api<ConfigMap> = Api::all(client.raw().clone());
    let params = ListParams::default().fields(&format!("metadata.name={CONFIG}"));
    let found = client
        .call("list configmaps in all namespaces", configs.list(&params))
        .await?;
    let resources: Api<CustomResourceDefinition> = Api::all(client.raw().clone());
    let resource = client
        .call("get customresourcedefinitions", resources.get_opt(RESOURCE))
        .await?;
    let namespaces = found.items.into_iter().filter_map(|config| config.metadata.namespace);
    Ok(Presence {
        control_planes: namespaces.collect(),
        resources: resource.is_some(),
    })
}
