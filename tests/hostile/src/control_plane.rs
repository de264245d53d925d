//! Programs of the control plane under attack, each with a scripted API server and a good client.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use identity_x509::make_key_and_csr;
use prost::Message as _;
use proxy_api::{DestinationRequest, InboundRequest, encode, wire::identity::CertifyRequest};
use serde_json::json;
use tests_harness::{
    Pki,
    certificates::identity,
    cluster::{
        api::{Api, TOKEN},
        destination::{Program, ready},
        objects::{self, NAMESPACE},
        webhook::{self, NAME, Webhooks},
    },
    process::Silent,
};

use crate::{
    good::{Good, Question},
    place,
    programs::{Programs, World},
    raw::{From, tls::Keys},
    target::{Listener, Target},
};

/// Address of the attacker; that of the good client is another.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Time between the questions of the good client.
const EVERY: Duration = Duration::from_millis(100);
/// Name of the aggregated API.
const TAP_NAME: &str = "tap.viz.svc";
/// Endpoints of the scripted Service.
const ENDPOINTS: usize = 20;

/// Starts the program that has the listener.
pub(crate) async fn start(listener: Listener, programs: &Programs, files: Option<u64>) -> Result<World> {
    place::loopback().await?;
    match listener {
        Listener::Identity => certificates(programs, files).await,
        Listener::Injector => webhooks(programs, files).await,
        Listener::TapApi => tap_api(programs, files).await,
        _ => discovery(listener, programs, files).await,
    }
}

async fn discovery(listener: Listener, programs: &Programs, files: Option<u64>) -> Result<World> {
    let api = Api::start(objects::all(ENDPOINTS)).await?;
    let (command, cage) = programs.limiter.command(&programs.path("mesh-destination"), files);
    let program = Program::start_with(command, &api).await?;
    let endpoints = DestinationRequest {
        path: format!("web.{NAMESPACE}.svc.cluster.local:80"),
        context: objects::token(0),
    };
    let port = InboundRequest {
        workload: format!(r#"{{"ns":"{NAMESPACE}","pod":"web-0"}}"#),
        port: 8080,
    };
    let get = "/io.linkerd.proxy.destination.Destination/Get";
    let watch = "/io.linkerd.proxy.inbound.InboundServerPolicies/WatchPort";
    let good = vec![
        client(
            "Get",
            program.destination,
            Question::Call(get, encode::get_destination(&endpoints).encode_to_vec()),
        ),
        client(
            "WatchPort",
            program.policy,
            Question::Call(watch, encode::port_spec(&port).encode_to_vec()),
        ),
    ];
    let to = match listener {
        Listener::Policy => program.policy,
        _ => program.destination,
    };
    Ok(World {
        target: target(listener, to, (None, program.pid())),
        pid: program.pid(),
        admin: program.admin,
        good,
        parts: Box::new((api, program, cage)),
    })
}

async fn certificates(programs: &Programs, files: Option<u64>) -> Result<World> {
    let (dir, pki) = (tempfile::tempdir()?, Pki::new());
    let api = Api::start(objects::all(1)).await?;
    pki.save(dir.path())?;
    std::fs::write(dir.path().join("anchors"), pki.anchors_pem())?;
    let (addr, admin) = (webhook::free()?, webhook::free()?);
    let (mut command, cage) = programs.limiter.command(&programs.path("mesh-identity"), files);
    command.env("MESH_LOG", "warn").arg("--kubernetes");
    command.arg("--kubeconfig").arg(api.kubeconfig(dir.path())?);
    command.args(["--addr", &addr.to_string(), "--admin-addr", &admin.to_string()]);
    for (flag, file) in [
        ("--issuer-cert", "issuer.pem"),
        ("--issuer-key", "issuer.pem"),
        ("--trust-anchors", "anchors"),
    ] {
        command.arg(flag).arg(dir.path().join(file));
    }
    let process = Silent::start("mesh-identity", &mut command)?;
    ready(admin).await?;
    let certify = "/io.linkerd.proxy.identity.Identity/Certify";
    let request = certify_request(TOKEN)?;
    let pid = process.pid();
    Ok(World {
        target: target(Listener::Identity, addr, (None, pid)),
        pid,
        admin,
        good: vec![client("Certify", addr, Question::Call(certify, request))],
        parts: Box::new((api, process, dir, cage)),
    })
}

/// Request of the harness's workload, encoded.
pub(crate) fn certify_request(token: &str) -> Result<Vec<u8>> {
    let name = identity(NAMESPACE, "client");
    let request = CertifyRequest {
        certificate_signing_request: make_key_and_csr(&name)?.csr_der,
        identity: name,
        token: token.into(),
    };
    Ok(request.encode_to_vec())
}

async fn webhooks(programs: &Programs, files: Option<u64>) -> Result<World> {
    let (command, cage) = programs.limiter.command(&programs.path("mesh-injector"), files);
    let program = Webhooks::start(command)?;
    ready(program.admin).await?;
    let keys = Keys {
        roots: program.certificate_pem.clone(),
        own: None,
        server: NAME.to_owned(),
    };
    let review = Question::Review(keys.clone(), serde_json::to_vec(&webhook::review())?);
    Ok(World {
        target: target(Listener::Injector, program.addr, (Some(keys), program.pid())),
        pid: program.pid(),
        admin: program.admin,
        good: vec![client("review", program.addr, review)],
        parts: Box::new((program, cage)),
    })
}

/// mesh-viz, and an API server that asks whether its aggregated API is there.
async fn tap_api(programs: &Programs, files: Option<u64>) -> Result<World> {
    let (dir, front) = (tempfile::tempdir()?, Pki::new());
    let served = rcgen::generate_simple_self_signed([TAP_NAME.to_owned()])?;
    let encode = |text: String| BASE64_STANDARD.encode(text);
    let secret = json!({"metadata": {"name": "tap-k8s-tls", "namespace": "viz"}, "type": "kubernetes.io/tls",
        "data": {"tls.crt": encode(served.cert.pem()), "tls.key": encode(served.signing_key.serialize_pem())}});
    let trusted = json!({"metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"}, "data": {
        "requestheader-client-ca-file": front.anchors_pem(), "requestheader-allowed-names": "[]"}});
    let mut objects = objects::all(1);
    objects.push(("/api/v1/namespaces/viz/secrets", vec![secret]));
    objects.push(("/api/v1/namespaces/kube-system/configmaps", vec![trusted]));
    let api = Api::start(objects).await?;
    let (addr, admin) = (webhook::free()?, webhook::free()?);
    let (mut command, cage) = programs.limiter.command(&programs.path("mesh-viz"), files);
    command
        .env("MESH_LOG", "error")
        .args(["--kubernetes", "--tap-external-secret", "--viz-namespace", "viz"]);
    command.arg("--kubeconfig").arg(api.kubeconfig(dir.path())?);
    for (flag, addr) in [
        ("--addr", webhook::free()?),
        ("--admin-addr", admin),
        ("--tap-addr", addr),
    ] {
        command.args([flag, &addr.to_string()]);
    }
    let process = Silent::start("mesh-viz", &mut command)?;
    ready(admin).await?;
    let pid = process.pid();
    let anonymous = Keys {
        roots: served.cert.pem(),
        own: None,
        server: TAP_NAME.to_owned(),
    };
    let server = Keys {
        own: Some(front.credentials("front-proxy-client")),
        ..anonymous.clone()
    };
    Ok(World {
        target: target(Listener::TapApi, addr, (Some(anonymous), pid)),
        pid,
        admin,
        good: vec![client("readyz", addr, Question::SecureGet(server, "/readyz"))],
        parts: Box::new((api, process, dir, cage)),
    })
}

fn target(listener: Listener, to: SocketAddr, (keys, pid): (Option<Keys>, u32)) -> Target {
    let none = || Keys {
        roots: String::new(),
        own: None,
        server: String::new(),
    };
    Target {
        listener,
        to,
        from: From {
            address: ATTACKER,
            mark: None,
        },
        keys: keys.unwrap_or_else(none),
        pid,
    }
}

fn client(name: &'static str, to: SocketAddr, question: Question) -> Good {
    Good {
        name,
        to,
        from: From {
            address: CLIENT,
            mark: None,
        },
        every: EVERY,
        question,
    }
}
