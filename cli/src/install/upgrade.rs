//! `mesh upgrade`: the charts of this version, with the values the mesh was installed with and its existing trust
//! anchors and issuer. Nothing here replaces a credential.

use std::{collections::BTreeMap, process::ExitCode, time::SystemTime};

use anyhow::{Context as _, bail};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use destination_source::cluster::{Client, Resource};
use identity_x509::{Anchors, Issuer};
use mesh_charts::Chart;
use serde_json::Value;

use super::{
    ClusterFacts, credentials,
    given::{NamedArgs, ValueArgs},
    manifests::{self, Manifest},
    present::{self, CONFIG, ControlPlane},
    record_given,
};
use crate::{
    kube,
    output::{self, DocumentFormat},
};

/// ConfigMap of the trust anchors.
const TRUST_ROOTS: &str = "linkerd-identity-trust-roots";
/// Secret of the issuer.
const ISSUER: &str = "linkerd-identity-issuer";

/// Arguments of `mesh upgrade`.
#[derive(Debug, clap::Args)]
pub(crate) struct UpgradeArgs {
    /// Print only the custom resources; upgrade them first.
    #[arg(long)]
    crds: bool,

    /// Output format.
    #[arg(long, short, value_enum, default_value_t)]
    output: DocumentFormat,

    #[command(flatten)]
    values: ValueArgs,

    #[command(flatten)]
    named: NamedArgs,

    #[command(flatten)]
    cluster: kube::ClusterFlags,
}

/// `mesh upgrade`
pub(crate) fn upgrade(args: &UpgradeArgs) -> anyhow::Result<ExitCode> {
    let namespace = &args.cluster.linkerd_namespace;
    let manifests = kube::block_on(output::patiently("reading the cluster", async {
        let client = args.cluster.connect().await?;
        let installed = Installed::read(&client, namespace).await?;
        if args.crds {
            return manifests::render(Chart::Crds, namespace, &mesh_charts::parse("")?);
        }
        present::check_resources(&client, namespace).await?;
        let found = ClusterFacts {
            api_server_ports: present::api_server_ports(&client).await,
        };
        let mut values = installed.given.clone();
        args.named.apply_to(&mut values)?;
        args.values.apply_to(&mut values)?;
        installed.render(namespace, values, &found)
    }))?;
    output::print_manifests(&manifests::text(&manifests, args.output))?;
    Ok(ExitCode::SUCCESS)
}

/// Mesh installed on a cluster.
pub(crate) struct Installed {
    /// Values it was installed with.
    pub(crate) given: Value,
    anchors: Option<String>,
    /// Certificate and key of the issuer.
    issuer: Option<(String, String)>,
}

impl Installed {
    /// Reads the installation. Rejects those of Helm and of other programs, with a hint.
    pub(crate) async fn read(client: &Client, namespace: &str) -> anyhow::Result<Self> {
        let maps = Resource::new("v1", "configmaps").within(namespace);
        let Some(config) = maps.find(client, CONFIG).await? else {
            bail!("no mesh is installed in the namespace {namespace}: run `mesh install`, or select another with -L");
        };
        let there = ControlPlane::from_config(&config);
        if let Some(release) = &there.release {
            bail!(
                "the mesh in the namespace {namespace} was installed by Helm: upgrade it with `helm upgrade {release}`"
            );
        }
        if !there.is_ours() {
            bail!(
                "the control plane in the namespace {namespace} was installed by {:?}: use that program to upgrade it",
                there.created_by
            );
        }
        let given = config["data"]["given"].as_str().unwrap_or_default();
        let given = mesh_charts::parse(given)
            .with_context(|| format!("invalid field given in the ConfigMap {namespace}/{CONFIG}"))?;
        let anchors = maps.find(client, TRUST_ROOTS).await?;
        let secrets = Resource::new("v1", "secrets").within(namespace);
        let issuer = secrets.find(client, ISSUER).await?;
        Ok(Self {
            given,
            anchors: anchors.and_then(|map| Some(map["data"]["ca-bundle.crt"].as_str()?.to_owned())),
            issuer: issuer.and_then(|secret| Some((decoded(&secret, "crt.pem")?, decoded(&secret, "key.pem")?))),
        })
    }

    /// Renders the manifests of this version for it.
    pub(crate) fn render(
        &self,
        namespace: &str,
        mut values: Value,
        found: &ClusterFacts,
    ) -> anyhow::Result<Vec<Manifest>> {
        let mut without = values.clone();
        credentials::take(&mut without);
        if without != values {
            bail!(
                "mesh upgrade keeps the existing trust anchors and issuer, so the values must not set them: to change them, edit the \
                ConfigMap {namespace}/{TRUST_ROOTS} and the Secret {namespace}/{ISSUER}, which are reloaded at run time"
            );
        }
        record_given(&mut values)?;
        found.fill(&mut values)?;
        self.keep_credentials(namespace, &mut values)?;
        manifests::render(Chart::ControlPlane, namespace, &values)
    }

    /// Copies the existing credentials into the values.
    fn keep_credentials(&self, namespace: &str, values: &mut Value) -> anyhow::Result<()> {
        if values.pointer("/identity/externalCA") == Some(&Value::Bool(true)) {
            return Ok(());
        }
        let missing = |what: &str| {
            format!("the namespace {namespace} has no {what}, which must not be replaced while the mesh runs")
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
            eprintln!("mesh: {error}: kept by the upgrade, but replace it soon");
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
