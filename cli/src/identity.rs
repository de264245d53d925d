//! `mesh identity`: the certificates that sidecars present, as text.

use std::{
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, anyhow, bail};
use cli_check::view_pod;
use destination_source::cluster::{Client, Filter, PodPort, Resource};
use proxy_model::ports;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::{
    check::admin_port,
    kube::{self, ClusterFlags, NamespaceFlag, pods},
    local::State,
    output,
    target::{MeshFlag, Target},
};

/// Variable of a sidecar that has the name it requests.
const LOCAL_NAME: &str = "LINKERD2_PROXY_IDENTITY_LOCAL_NAME";

/// Arguments of `mesh identity`.
#[derive(Debug, clap::Args)]
pub(crate) struct IdentityArgs {
    /// Pods to query.
    #[arg(value_name = "POD", required_unless_present = "selector")]
    pods: Vec<String>,

    /// Label selector of the pods to query.
    #[arg(long, short = 'l', value_name = "LABELS", conflicts_with = "pods")]
    selector: Option<String>,

    #[command(flatten)]
    namespace: NamespaceFlag,

    #[command(flatten)]
    mesh: MeshFlag,

    #[command(flatten)]
    cluster: ClusterFlags,
}

/// `mesh identity`
pub(crate) fn identity(args: &IdentityArgs) -> Result<ExitCode> {
    kube::block_on(async {
        let target = Target::open(&args.cluster, &args.mesh).await?;
        let namespace = args.namespace.namespace.as_deref().unwrap_or(target.namespace());
        let sidecars = match &target {
            Target::Cluster(client) => find(args, client, namespace).await?.iter().map(sidecar).collect(),
            Target::Local(mesh) => find_local(args, mesh, namespace)?,
        };
        let mut failed = false;
        for (i, (name, sidecar)) in sidecars.iter().enumerate() {
            output::print(&format!("\nPOD {name} ({} of {})\n\n", i + 1, sidecars.len()))?;
            let chain = async {
                let Sidecar { identity, admin } = sidecar.as_ref().map_err(|error| anyhow!("{error:#}"))?;
                presented_chain(target.pod(admin).await?, identity).await
            };
            match output::patiently(&format!("querying {name}"), chain).await {
                Ok(chain) => output::print(&render(&chain)?)?,
                Err(error) => {
                    eprintln!("mesh: {namespace}/{name}: {error:#}");
                    failed = true;
                }
            }
        }
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    })
}

/// Sidecar to query.
struct Sidecar {
    /// Name that it requests.
    identity: String,
    /// Its admin port, which presents the certificate.
    admin: PodPort,
}

/// Name of a pod, and its sidecar or the reason that it cannot be queried.
type NamedSidecar = (String, Result<Sidecar>);

fn sidecar(pod: &Value) -> NamedSidecar {
    let found = || {
        let identity = local_name(pod).ok_or_else(|| anyhow!("the pod has no sidecar with an identity"))?;
        let admin = admin_port(pod).ok_or_else(|| anyhow!("the sidecar is not running"))?;
        Ok(Sidecar { identity, admin })
    };
    (pods::object_name(pod).to_owned(), found())
}

/// Finds the named pods in a mesh on this machine, whose pods cannot be selected by labels.
fn find_local(args: &IdentityArgs, mesh: &State, namespace: &str) -> Result<Vec<NamedSidecar>> {
    if args.selector.is_some() {
        bail!("-l: a mesh on this machine has no label selectors: name its pods");
    }
    let named = args.pods.iter().map(|name| {
        let name = name.trim_start_matches("pod/").trim_start_matches("po/");
        let identity = mesh.sidecar_variable(&format!("{namespace}/{name}"), LOCAL_NAME)?;
        let sidecar = identity.map(|identity| Sidecar {
            identity,
            admin: PodPort {
                namespace: namespace.to_owned(),
                pod: name.to_owned(),
                port: ports::ADMIN,
            },
        });
        Ok((
            name.to_owned(),
            sidecar.ok_or_else(|| anyhow!("the pod has no sidecar with an identity")),
        ))
    });
    named.collect()
}

async fn find(args: &IdentityArgs, client: &Client, namespace: &str) -> Result<Vec<Value>> {
    let all = Resource::new("v1", "pods").within(namespace);
    let Some(labels) = &args.selector else {
        let mut found = Vec::new();
        for name in &args.pods {
            let name = name.trim_start_matches("pod/").trim_start_matches("po/");
            found.push(all.get(client, name).await?);
        }
        return Ok(found);
    };
    let found = all.list(client, Filter { labels, fields: "" }).await?;
    if found.is_empty() {
        bail!("no pod in the namespace {namespace} matches {labels}");
    }
    Ok(found)
}

/// Identity that the sidecar requests: its environment variable, with references expanded.
fn local_name(pod: &Value) -> Option<String> {
    view_pod(pod, |pod| {
        let env = pod.sidecar()?.env.as_ref()?;
        let field = |path: &str| match path {
            "metadata.name" => Some(pod.name()),
            "metadata.namespace" => Some(pod.namespace()),
            "spec.serviceAccountName" => Some(pod.service_account()),
            _ => None,
        };
        let value = |name: &str| {
            let variable = env.iter().find(|variable| variable.name == name)?;
            let reference = || field(&variable.value_from.as_ref()?.field_ref.as_ref()?.field_path);
            variable.value.as_deref().or_else(reference)
        };
        expand(value(LOCAL_NAME)?, value)
    })
}

/// Expands references such as `$(_pod_ns)` in the value of an environment variable.
fn expand<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>) -> Option<String> {
    let mut text = text.to_owned();
    while let Some((begin, rest)) = text.split_once("$(") {
        let (name, end) = rest.split_once(')')?;
        text = format!("{begin}{}{end}", value(name)?);
    }
    (!text.is_empty()).then_some(text)
}

/// Verifier that accepts any certificate and records the chain: an invalid one is the most interesting.
#[derive(Debug)]
struct RecordingVerifier {
    provider: Arc<CryptoProvider>,
    seen: Arc<Mutex<Vec<CertificateDer<'static>>>>,
}

impl ServerCertVerifier for RecordingVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(leaf).chain(between).map(|der| der.clone().into_owned());
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = chain.collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Returns the chain that a server presents for this name.
async fn presented_chain(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    name: &str,
) -> Result<Vec<CertificateDer<'static>>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let verifier = RecordingVerifier {
        provider: provider.clone(),
        seen: seen.clone(),
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let server = ServerName::try_from(name.to_owned()).with_context(|| format!("invalid server name {name:?}"))?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(server, stream).await;
    // A server that requires a client certificate aborts the handshake, but has presented its own by then.
    let chain = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
    if chain.is_empty() {
        handshake.with_context(|| format!("the sidecar presents no certificate for {name}"))?;
        bail!("the sidecar presents no certificate for {name}");
    }
    Ok(chain)
}

fn render(chain: &[CertificateDer<'_>]) -> Result<String> {
    let mut text = String::new();
    for der in chain {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| anyhow!("invalid certificate: {error}"))?;
        text.push_str(&as_text(&certificate));
    }
    Ok(text)
}

fn as_text(certificate: &X509Certificate<'_>) -> String {
    let mut text = "Certificate:\n    Data:\n".to_owned();
    let mut line = |indent: usize, what: &str| text.push_str(&format!("{:indent$}{what}\n", ""));
    line(8, &format!("Version: {}", certificate.version()));
    line(8, &format!("Serial Number: {}", certificate.raw_serial_as_string()));
    line(
        8,
        &format!(
            "Signature Algorithm: {}",
            algorithm(&certificate.signature_algorithm.algorithm.to_id_string())
        ),
    );
    line(8, &format!("Issuer: {}", certificate.issuer()));
    line(8, "Validity");
    line(12, &format!("Not Before: {}", certificate.validity().not_before));
    line(12, &format!("Not After : {}", certificate.validity().not_after));
    line(8, &format!("Subject: {}", certificate.subject()));
    let key = &certificate.public_key().algorithm.algorithm.to_id_string();
    line(8, &format!("Public Key Algorithm: {}", algorithm(key)));
    line(8, &format!("Is a CA: {}", certificate.is_ca()));
    if let Ok(Some(names)) = certificate.subject_alternative_name() {
        line(8, "X509v3 Subject Alternative Name:");
        for name in &names.value.general_names {
            line(
                12,
                &match name {
                    GeneralName::DNSName(name) => format!("DNS:{name}"),
                    GeneralName::URI(uri) => format!("URI:{uri}"),
                    other => format!("{other:?}"),
                },
            );
        }
    }
    text
}

fn algorithm(oid: &str) -> String {
    let name = match oid {
        "1.2.840.10045.4.3.2" => "ECDSA-SHA256",
        "1.2.840.10045.2.1" => "ECDSA",
        "1.2.840.113549.1.1.11" => "SHA256-RSA",
        "1.2.840.113549.1.1.1" => "RSA",
        other => other,
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use identity_x509::{Anchor, Csr, Issuer, LeafTimes, make_key_and_csr};
    use rustls::{ServerConfig, pki_types::PrivateKeyDer};
    use serde_json::json;

    use super::*;

    const NAME: &str = "web.vote.serviceaccount.identity.linkerd.cluster.local";

    #[test]
    fn expands_the_local_name_from_pod_fields() {
        let env = json!([
            {"name": "_pod_ns", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "_pod_sa", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
            {"name": "LINKERD2_PROXY_IDENTITY_LOCAL_NAME",
                "value": "$(_pod_sa).$(_pod_ns).serviceaccount.identity.linkerd.cluster.local"}]);
        let pod = json!({"metadata": {"name": "web-1", "namespace": "vote"}, "spec": {"serviceAccountName": "web",
            "initContainers": [{"name": "linkerd-proxy", "restartPolicy": "Always", "env": env}], "containers": []}});
        assert_eq!(local_name(&pod).as_deref(), Some(NAME));
    }

    #[tokio::test]
    async fn prints_the_presented_chain() {
        let year = std::time::Duration::from_secs(365 * 24 * 60 * 60);
        let anchor = Anchor::generate("root", year).expect("an anchor");
        let issuer = Issuer::generate(&anchor, "issuer", year).expect("an issuer");
        let made = make_key_and_csr(NAME).expect("a request");
        let csr = Csr::from_der(&made.csr_der).expect("ours");
        let leaf = issuer
            .sign(&csr, NAME, LeafTimes::DEFAULT, SystemTime::now())
            .expect("signed");
        let mut chain = vec![CertificateDer::from(leaf.der)];
        chain.extend(issuer.chain().iter().cloned());
        let key = PrivateKeyDer::Pkcs8(made.key_pkcs8_der.into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a chain");
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        // May fail: the client hangs up once it has seen the chain.
        tokio::spawn(async move { acceptor.accept(theirs).await.is_ok() });
        let text = render(&presented_chain(ours, NAME).await.expect("a chain")).expect("certificates");
        assert_eq!(text.matches("Certificate:").count(), 2, "{text}");
        assert!(
            text.contains(&format!("DNS:{NAME}")) && text.contains("ECDSA-SHA256"),
            "{text}"
        );
    }
}
