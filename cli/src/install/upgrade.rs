//! `mesh upgrade`: the charts of this version with the values that the mesh was installed with, and the trust anchors and the
//! issuer that it has. Nothing here replaces a credential.

use std::{collections::BTreeMap, process::ExitCode, time::SystemTime};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use destination_source::cluster::{Client, Resource};
use identity_x509::{Anchors, Issuer};
use mesh_charts::Chart;
use serde_json::Value;

use super::{
    Found, credentials,
    given::{NamedArgs, ValueArgs},
    manifests::{self, Manifest, Output},
    present::{self, CONFIG, ControlPlane},
    remember,
};
use crate::{kube, output};

/// The ConfigMap of the trust anchors.
const TRUST_ROOTS: &str = "linkerd-identity-trust-roots";
/// The Secret of the issuer.
const ISSUER: &str = "linkerd-identity-issuer";

/// What `mesh upgrade` understands.
#[derive(Debug, clap::Args)]
pub(crate) struct UpgradeArgs {
    /// Only the custom resources; they are upgraded first.
    #[arg(long)]
    crds: bool,

    /// How manifests are written.
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,

    #[command(flatten)]
    values: ValueArgs,

    #[command(flatten)]
    named: NamedArgs,

    #[command(flatten)]
    cluster: kube::Flags,
}

/// `mesh upgrade`
pub(crate) fn upgrade(args: &UpgradeArgs) -> anyhow::Result<ExitCode> {
    let namespace = &args.cluster.linkerd_namespace;
    let manifests = kube::block_on(output::patiently("looking at the cluster", async {
        let client = args.cluster.connect().await?;
        let installed = Installed::read(&client, namespace).await?;
        if args.crds {
            return manifests::render(Chart::Crds, namespace, &mesh_charts::parse("")?);
        }
        present::resources(&client, namespace).await?;
        let found = Found {
            api_server_ports: present::api_server_ports(&client).await,
        };
        let mut values = installed.given.clone();
        args.named.over(&mut values)?;
        args.values.over(&mut values)?;
        installed.render(namespace, values, &found)
    }))?;
    manifests::write(&manifests::text(&manifests, args.output))?;
    Ok(ExitCode::SUCCESS)
}

/// What a cluster says of its mesh.
pub(crate) struct Installed {
    /// What it was installed with.
    pub(crate) given: Value,
    anchors: Option<String>,
    /// The issuer's certificate and key.
    issuer: Option<(String, String)>,
}

impl Installed {
    /// Reads it. Helm's and another Linkerd's are refused, with the way out.
    pub(crate) async fn read(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        let maps = Resource::new("v1", "configmaps").within(namespace);
        let Some(config) = maps.find(client, CONFIG).await? else {
            bail!(
                "there is no mesh in the namespace {namespace}: install one by mesh install, or name its namespace by -L"
            );
        };
        let there = ControlPlane::of(&config);
        if let Some(release) = &there.release {
            bail!(
                "the mesh in the namespace {namespace} was installed by Helm: upgrade it with helm upgrade {release}"
            );
        }
        if !there.is_ours() {
            bail!(
                "the control plane in the namespace {namespace} was made by {:?}, not by this program: upgrade it with what made it",
                there.created_by
            );
        }
        let given = config["data"]["given"].as_str().unwrap_or_default();
        let given = mesh_charts::parse(given).with_context(|| format!("the ConfigMap {namespace}/{CONFIG}, given"))?;
        let anchors = maps.find(client, TRUST_ROOTS).await?;
        let secrets = Resource::new("v1", "secrets").within(namespace);
        let issuer = secrets.find(client, ISSUER).await?;
        Ok(Self {
            given,
            anchors: anchors.and_then(|map| Some(map["data"]["ca-bundle.crt"].as_str()?.to_owned())),
            issuer: issuer.and_then(|secret| Some((decoded(&secret, "crt.pem")?, decoded(&secret, "key.pem")?))),
        })
    }

    /// The manifests of this version for it.
    pub(crate) fn render(&self, namespace: &str, mut values: Value, found: &Found) -> anyhow::Result<Vec<Manifest>> {
        let mut without = values.clone();
        credentials::take(&mut without);
        if without != values {
            bail!(
                "mesh upgrade keeps the trust anchors and the issuer that the cluster has, so the values must have none: to change them, \
                 change the ConfigMap {namespace}/{TRUST_ROOTS} and the Secret {namespace}/{ISSUER}, which are followed while all runs"
            );
        }
        remember(&mut values)?;
        found.under(&mut values)?;
        self.keep(namespace, &mut values)?;
        manifests::render(Chart::ControlPlane, namespace, &values)
    }

    /// Puts the credentials of the cluster into values.
    fn keep(&self, namespace: &str, values: &mut Value) -> anyhow::Result<()> {
        if values.pointer("/identity/externalCA") == Some(&Value::Bool(true)) {
            return Ok(());
        }
        let missing = |what: &str| {
            format!("the namespace {namespace} has no {what}, which must not be made anew for a mesh that runs")
        };
        let anchors = self.anchors.as_ref().with_context(|| missing("trust anchors"))?;
        credentials::put(values, credentials::ANCHORS, anchors.clone());
        if credentials::is_external(values) {
            return Ok(());
        }
        let (certificate, key) = self.issuer.as_ref().with_context(|| missing("issuer"))?;
        let usable = Issuer::from_pem(certificate, key)
            .and_then(|issuer| issuer.check(&Anchors::from_pem(anchors)?, SystemTime::now()));
        if let Err(error) = usable {
            eprintln!("mesh: {error}: the upgrade keeps it, but replace it soon");
        }
        credentials::put(values, credentials::ISSUER_CERTIFICATE, certificate.clone());
        credentials::put(values, credentials::ISSUER_KEY, key.clone());
        Ok(())
    }
}

fn decoded(secret: &Value, key: &str) -> Option<String> {
    let data: BTreeMap<String, String> = serde_json::from_value(secret["data"].clone()).ok()?;
    let bytes = BASE64_STANDARD.decode(data.get(key)?).ok()?;
    String::from_utf8(bytes).ok()
}
