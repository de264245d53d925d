//! What is on a cluster already, before a mesh is installed there.

use k8s_openapi::{
    api::core::v1::ConfigMap, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, api::ListParams};

use super::Client;
use crate::Error;

/// The ConfigMap that every Linkerd-compatible control plane has.
const CONFIG: &str = "linkerd-config";
/// A custom resource that no control plane does without.
const RESOURCE: &str = "servers.policy.linkerd.io";

/// What of a mesh is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The namespaces with a control plane, ours or another Linkerd's.
    pub control_planes: Vec<String>,
    /// Whether the custom resources are installed.
    pub resources: bool,
}

/// Asks the cluster.
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
