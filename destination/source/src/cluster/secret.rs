//! Secrets of the mesh itself: the issuer, webhook certificates.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::Client;
use crate::Error;

/// Data of a Secret, by key.
pub type SecretData = BTreeMap<String, Vec<u8>>;

fn secrets(client: &Client, namespace: &str) -> Api<Secret> {
    Api::namespaced(client.raw().clone(), namespace)
}

/// Reads a Secret; none if it does not exist.
pub async fn read_secret(client: &Client, namespace: &str, name: &str) -> Result<Option<SecretData>, Error> {
    let secrets = secrets(client, namespace);
    let what = format!("get the Secret {namespace}/{name}");
    let found = client.call(&what, secrets.get_opt(name)).await?;
    Ok(found.map(|secret| plain(secret.data)))
}

/// A Secret with its metadata.
#[derive(Clone)]
pub(super) struct FoundSecret {
    pub(super) data: SecretData,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) version: String,
}

impl fmt::Debug for FoundSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FoundSecret({})", self.version)
    }
}

/// Reads a Secret with its metadata; none if it does not exist.
pub(super) async fn find_secret(client: &Client, namespace: &str, name: &str) -> Result<Option<FoundSecret>, Error> {
    let secrets = secrets(client, namespace);
    let what = format!("get the Secret {namespace}/{name}");
    let found = client.call(&what, secrets.get_opt(name)).await?;
    Ok(found.map(|secret| FoundSecret {
        data: plain(secret.data),
        labels: secret.metadata.labels.unwrap_or_default(),
        annotations: secret.metadata.annotations.unwrap_or_default(),
        version: secret.metadata.resource_version.unwrap_or_default(),
    }))
}

fn plain(data: Option<BTreeMap<String, ByteString>>) -> SecretData {
    let data = data.unwrap_or_default().into_iter();
    data.map(|(key, ByteString(bytes))| (key, bytes)).collect()
}

/// Secret to create.
#[derive(Clone)]
pub struct NewSecret {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Type, such as `kubernetes.io/tls`.
    pub kind: String,
    /// Data.
    pub data: SecretData,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

impl fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewSecret({}/{})", self.namespace, self.name)
    }
}

/// Creates a Secret. Fails with [`Error::Conflict`] if it exists, so that of two creators one wins and the other reads.
pub async fn create_secret(client: &Client, new: NewSecret) -> Result<(), Error> {
    let what = format!("create the Secret {}/{}", new.namespace, new.name);
    let secrets = secrets(client, &new.namespace);
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(new.name),
            labels: Some(new.labels).filter(|labels| !labels.is_empty()),
            ..ObjectMeta::default()
        },
        type_: Some(new.kind),
        data: Some(
            new.data
                .into_iter()
                .map(|(key, bytes)| (key, ByteString(bytes)))
                .collect(),
        ),
        ..Secret::default()
    };
    let params = PostParams::default();
    client.call(&what, secrets.create(&params, &secret)).await.map(|_| ())
}

/// Writes keys of an existing Secret; other keys stay.
pub async fn write_secret(client: &Client, namespace: &str, name: &str, data: SecretData) -> Result<(), Error> {
    write(client, (namespace, name), data, json!({})).await
}

/// Writes keys if the Secret still has this version; fails with [`Error::Conflict`] otherwise.
pub(super) async fn write_secret_at(
    client: &Client,
    of: (&str, &str),
    data: SecretData,
    version: &str,
) -> Result<(), Error> {
    write(client, of, data, json!({ "resourceVersion": version })).await
}

async fn write(
    client: &Client,
    (namespace, name): (&str, &str),
    data: SecretData,
    metadata: Value,
) -> Result<(), Error> {
    let data: BTreeMap<_, _> = data.into_iter().map(|(key, bytes)| (key, ByteString(bytes))).collect();
    let what = format!("patch the Secret {namespace}/{name}");
    let patch = Patch::Merge(json!({ "metadata": metadata, "data": data }));
    let secrets = secrets(client, namespace);
    client
        .call(&what, secrets.patch(name, &PatchParams::default(), &patch))
        .await
        .map(|_| ())
}
