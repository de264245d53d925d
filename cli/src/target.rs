//! Mesh that a command queries: that of a cluster, or one on this machine. Both are reached by connections to ports of
//! pods, so the queries themselves are the same.

use anyhow::{Context as _, Result, anyhow};
use destination_k8s::{Kind, Object};
use destination_source::{
    cluster::{self, Client, PodPort, Resource},
    directory,
};
use proxy_model::defaults::CLUSTER_DOMAIN;

use crate::{
    kube::{self, ClusterFlags, http1},
    local::{self, State, Stream},
};

/// Upper bound on an answer of a pod; a busy proxy's metrics are a few hundred KiB, a hundred thousand streams 30 MiB.
const ANSWER_BYTES: usize = 32 * 1024 * 1024;

/// Flag that selects a mesh on this machine.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct MeshFlag {
    /// Query the mesh of this name on this machine.
    #[arg(long, value_name = "MESH")]
    pub(crate) name: Option<String>,
}

/// Mesh to query.
pub(crate) enum Target {
    /// That of a cluster.
    Cluster(Client),
    /// One on this machine.
    Local(State),
}

impl Target {
    /// Selects the mesh on this machine that the flags name, or the only one unless they select a cluster.
    pub(crate) async fn open(flags: &ClusterFlags, mesh: &MeshFlag) -> Result<Self> {
        if let Some(state) = flags.local(mesh.name.as_deref())? {
            kube::note_local(&state);
            return Ok(Self::Local(state));
        }
        Ok(Self::Cluster(flags.connect().await?))
    }

    /// Default namespace of resources.
    pub(crate) fn namespace(&self) -> &str {
        match self {
            Self::Cluster(client) => client.namespace(),
            Self::Local(_) => "default",
        }
    }

    /// Domain of Service names.
    pub(crate) async fn domain(&self, control_plane: &str) -> String {
        let domain = match self {
            Self::Cluster(client) => kube::cluster_domain(client, control_plane).await.ok(),
            Self::Local(_) => None,
        };
        domain.unwrap_or_else(|| CLUSTER_DOMAIN.to_owned())
    }

    /// Connects to a port of a ready pod of a Deployment.
    pub(crate) async fn deployment(&self, namespace: &str, name: &str, port: u16) -> Result<Stream> {
        match self {
            Self::Cluster(client) => Ok(Box::new(kube::deployment(client, namespace, name, port).await?)),
            Self::Local(state) => local::forward(state, &format!("{namespace}/deploy/{name}"), port),
        }
    }

    /// Connects to a port of a pod.
    pub(crate) async fn pod(&self, to: &PodPort) -> Result<Stream> {
        match self {
            Self::Cluster(client) => Ok(Box::new(cluster::forward(client, to).await?)),
            Self::Local(state) => local::forward(state, &format!("{}/{}", to.namespace, to.pod), to.port),
        }
    }

    /// Sends a GET request to a port of a pod, and reads the text of the answer.
    pub(crate) async fn get(&self, from: &PodPort, path: &str) -> Result<String> {
        http1::text(self.pod(from).await?, path, ANSWER_BYTES).await
    }

    /// Returns the cluster IP of a Service.
    pub(crate) async fn cluster_ip(&self, namespace: &str, name: &str) -> Result<std::net::IpAddr> {
        let ip = match self {
            Self::Cluster(client) => {
                let services = Resource::new("v1", "services").within(namespace);
                let service = services.get(client, name).await?;
                service["spec"]["clusterIP"].as_str().map(str::to_owned)
            }
            Self::Local(state) => {
                let objects = directory::load(&state.folders()).objects;
                let service = objects.iter().find(|object| is_service(object, namespace, name));
                let service = service.with_context(|| format!("there is no Service {namespace}/{name}"))?;
                let service = serde_json::to_value(service)?;
                service["spec"]["clusterIP"].as_str().map(str::to_owned)
            }
        };
        let ip = ip.and_then(|ip| ip.parse().ok());
        ip.ok_or_else(|| anyhow!("the Service {namespace}/{name} has no ClusterIP"))
    }
}

fn is_service(object: &Object, namespace: &str, name: &str) -> bool {
    let metadata = object.metadata();
    object.kind() == Kind::Service
        && metadata.namespace.as_deref() == Some(namespace)
        && metadata.name.as_deref() == Some(name)
}
