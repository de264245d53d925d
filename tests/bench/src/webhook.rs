//! Time that the admission webhook adds to the creation of a pod: mesh-injector over TLS on one HTTP/2 connection, like
//! that of an API server, with one review after the other.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use clap::Parser as _;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::sleep};
use tokio_rustls::TlsConnector;

use crate::{child::Silent, usage::Cpu};

/// Name in the certificate.
const NAME: &str = "injector.bench";
/// Reviews of the warm-up.
const WARM: usize = 50;
/// Timeout of the first answer.
const START: Duration = Duration::from_secs(10);
/// Targets: median, p99 and CPU time of a review, in milliseconds.
pub(crate) const PROMISED: [f64; 3] = [4.0, 15.0, 1.0];

/// Measure mesh-injector, one review after the other.
#[derive(Debug, clap::Parser)]
pub(crate) struct Args {
    /// Number of reviews
    #[arg(long, default_value_t = 3_000)]
    reviews: usize,
    /// Path of mesh-injector; defaults to the one beside this program
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a figure misses its target
    #[arg(long)]
    check: bool,
}

/// Cost of a review, in milliseconds.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    reviews: usize,
    pub(crate) median_ms: f64,
    pub(crate) p99_ms: f64,
    max_ms: f64,
    pub(crate) cpu_ms: f64,
    rss_mib: f64,
}

/// Runs the measurement.
pub(crate) fn run(args: &Args) -> Result<()> {
    let measured = measured(args)?;
    println(&measured.line());
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&measured)?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let figures = [measured.median_ms, measured.p99_ms, measured.cpu_ms];
    let kept = figures.iter().zip(PROMISED).all(|(figure, most)| *figure <= most);
    ensure!(!args.check || kept, "a review costs more than promised");
    Ok(())
}

/// Default options.
pub(crate) fn standard() -> Result<Measured> {
    measured(&Args::parse_from(["webhook"]))
}

fn measured(args: &Args) -> Result<Measured> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(args))
}

#[expect(clippy::print_stdout, reason = "the result of the program")]
fn println(text: &str) {
    println!("{text}");
}

impl Measured {
    fn line(&self) -> String {
        let [median, p99, cpu] = PROMISED;
        format!(
            "webhook, {} pods: median {:.2} ms (≤ {median}), p99 {:.2} ms (≤ {p99}), max {:.2} ms, CPU {:.2} ms (≤ {cpu}), \
             RSS {:.1} MiB",
            self.reviews, self.median_ms, self.p99_ms, self.max_ms, self.cpu_ms, self.rss_mib
        )
    }
}

async fn measure(args: &Args) -> Result<Measured> {
    let path = match &args.program {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("mesh-injector"),
    };
    let dir = tempfile::tempdir()?;
    let certificate = write(dir.path())?;
    let (addr, admin) = (free()?, free()?);
    let file = |name: &str| dir.path().join(name);
    let mut command = Command::new(&path);
    command.env("MESH_LOG", "warn");
    command.args(["--addr", &addr.to_string(), "--admin-addr", &admin.to_string()]);
    for (flag, name) in [
        ("--manifests", "manifests"),
        ("--tls-cert", "tls.crt"),
        ("--tls-key", "tls.key"),
        ("--values", "values"),
        ("--trust-anchors", "anchors"),
    ] {
        command.arg(flag).arg(file(name));
    }
    let program = Silent::start(&path.display().to_string(), &mut command)?;
    let mut send = connect(addr, certificate).await?;
    let review = Bytes::from(serde_json::to_vec(&review())?);
    for _ in 0..WARM {
        ask(&mut send, review.clone()).await?;
    }
    let mut latencies = hdrhistogram::Histogram::<u64>::new(3)?;
    let before = Cpu::read(program.pid())?;
    for _ in 0..args.reviews {
        let began = Instant::now();
        ask(&mut send, review.clone()).await?;
        latencies.record(began.elapsed().as_micros() as u64)?;
    }
    let cpu = Cpu::read(program.pid())?.each(before, args.reviews as u64);
    let at = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Measured {
        reviews: args.reviews,
        median_ms: at(0.5),
        p99_ms: at(0.99),
        max_ms: at(1.0),
        cpu_ms: cpu.total_us() / 1e3,
        rss_mib: resident_mib(program.pid())?,
    })
}

/// Writes the files of the program; returns its certificate.
fn write(dir: &Path) -> Result<CertificateDer<'static>> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    std::fs::write(dir.join("tls.crt"), made.cert.pem())?;
    std::fs::write(dir.join("tls.key"), made.signing_key.serialize_pem())?;
    std::fs::write(dir.join("anchors"), made.cert.pem())?;
    std::fs::write(dir.join("values"), "{}\n")?;
    std::fs::create_dir(dir.join("manifests"))?;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "shop", "annotations": {"linkerd.io/inject": "enabled"}}});
    std::fs::write(dir.join("manifests/shop.yaml"), namespace.to_string())?;
    Ok(made.cert.der().clone())
}

/// Returns a port that was free a moment ago.
fn free() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

type Send = SendRequest<Full<Bytes>>;

async fn connect(addr: SocketAddr, certificate: CertificateDer<'static>) -> Result<Send> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let began = Instant::now();
    loop {
        let tried = async {
            let socket = TcpStream::connect(addr).await?;
            socket.set_nodelay(true)?;
            connector
                .connect(NAME.try_into()?, socket)
                .await
                .map_err(anyhow::Error::new)
        };
        match tried.await {
            Ok(stream) => {
                let (send, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
                tokio::spawn(connection);
                return Ok(send);
            }
            Err(error) if began.elapsed() > START => return Err(error.context("mesh-injector does not answer")),
            Err(_) => sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Sends a review and checks that the answer is a patch.
async fn ask(send: &mut Send, review: Bytes) -> Result<()> {
    let request = Request::post(format!("https://{NAME}/?timeout=10s"))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(review))?;
    let response = send.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    if status != StatusCode::OK || !body.windows(9).any(|part| part == b"JSONPatch") {
        bail!("no patch: {status} {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}

/// Pod as an API server sends it for review, with defaults, a token and managed fields.
fn review() -> Value {
    let container = |name: &str, port: u16| {
        json!({"name": name, "image": format!("registry.example.org/shop/{name}:1.2.3"), "imagePullPolicy": "IfNotPresent",
            "ports": [{"name": "http", "containerPort": port, "protocol": "TCP"}],
            "env": (0..12).map(|i| json!({"name": format!("SETTING_{i}"), "value": "something of usual length"}))
                .collect::<Vec<_>>(),
            "readinessProbe": {"httpGet": {"path": "/ready", "port": port, "scheme": "HTTP"}, "periodSeconds": 10,
                "timeoutSeconds": 1, "successThreshold": 1, "failureThreshold": 3},
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "volumeMounts": [{"name": "token", "readOnly": true,
                "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}]})
    };
    let fields: serde_json::Map<_, _> = (0..40)
        .map(|i| (format!("f:field-{i}"), json!({".": {}, "f:value": {}})))
        .collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "web-5d4f8c7b9-", "namespace": "shop",
            "labels": {"app": "web", "pod-template-hash": "5d4f8c7b9"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d4f8c7b9", "controller": true,
                "uid": "0b1f8f1e-58a5-4d3a-9f2d-8f0f6f6f7a11", "blockOwnerDeletion": true}],
            "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields}}]},
        "spec": {"containers": [container("web", 8080), container("worker", 8081)], "restartPolicy": "Always",
            "serviceAccountName": "web", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
            "volumes": [{"name": "token", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken":
                {"expirationSeconds": 3607, "path": "token"}}]}}]},
        "status": {}});
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "d6e5a1c4-6f3f-4a43-8d34-1d6f8f0f6f7a", "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"}, "namespace": "shop", "operation": "CREATE",
        "userInfo": {"username": "system:serviceaccount:kube-system:replicaset-controller"},
        "object": pod, "oldObject": null, "dryRun": false}})
}

/// Resident memory of a process.
fn resident_mib(pid: u32) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = text.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?
            .trim()
            .strip_suffix(" kB")?
            .parse::<f64>()
            .ok()
    });
    Ok(kib.context("/proc/PID/status has no VmRSS")? / 1_024.0)
}
