//! A sidecar under attack: the real mesh-proxy, a scripted control plane, the application, and three good clients.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::Result;
use proxy_model::{Endpoint, OutboundTarget, env, ports};
use tests_harness::{
    ControlPlane, Pki,
    certificates::identity,
    cluster::destination::ready,
    process::Silent,
    sidecar::{BACKEND_PORT, ECHO_PORT, Sidecar, admin_addr, control_addr, environment},
    values,
};
use tests_load::backend;

use crate::{
    good::{Good, Question},
    limited::Cage,
    place::{self, CLIENT, ELSEWHERE, KUBELET, OUTSIDE, POD, RECORDER_PORT, SERVICE},
    programs::{Programs, World},
    raw::{From, tls::Keys},
    target::{Listener, Target},
};

/// Account of the attacked pod.
const ACCOUNT: &str = "server";

/// Parts of the world that end with it.
#[derive(Debug)]
pub(crate) struct Parts {
    _process: Silent,
    _cage: Cage,
    _files: tempfile::TempDir,
}

/// Starts everything in the calling thread's namespace.
pub(crate) async fn start(listener: Listener, programs: &Programs, files: Option<u64>) -> Result<World> {
    place::up().await?;
    let control = ControlPlane::start_at(control_addr(), Pki::new()).await;
    for (port, application) in [(80, BACKEND_PORT), (RECORDER_PORT, RECORDER_PORT)] {
        let endpoint = Endpoint::bare((ELSEWHERE, application).into());
        let path = format!("server.bench.svc.cluster.local:{port}");
        control.set_endpoints(&path, Some(values::endpoints([endpoint])));
        let service = values::service("bench", "server", port);
        control.set_outbound(&OutboundTarget::Addr((SERVICE, port).into()), Some(service));
    }
    backend::start((Ipv4Addr::UNSPECIFIED, BACKEND_PORT).into())?;
    backend::echo((Ipv4Addr::UNSPECIFIED, ECHO_PORT).into())?;
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("token"), "token")?;
    std::fs::create_dir(dir.path().join(ACCOUNT))?;
    let sidecar = Sidecar {
        account: ACCOUNT,
        address: POD,
        workers: 1,
    };
    let (mut command, cage) = programs.limiter.command(&programs.proxy, files);
    command.env_clear();
    command.envs(environment(&sidecar, dir.path(), &control.pki().anchors_pem()));
    command.env(env::INBOUND_IPS, POD.to_string());
    let process = Silent::start("mesh-proxy", &mut command)?;
    ready(admin_addr()).await?;
    let keys = Keys {
        roots: control.pki().anchors_pem(),
        own: Some(control.pki().credentials(&identity("bench", "attacker"))),
        server: identity("bench", ACCOUNT),
    };
    let pid = process.pid();
    Ok(World {
        target: Target::in_sidecar(listener, keys, pid),
        pid,
        admin: admin_addr(),
        good: good().into(),
        parts: Box::new((
            control,
            Parts {
                _process: process,
                _cage: cage,
                _files: dir,
            },
        )),
    })
}

fn good() -> [Good; 3] {
    let client = |name, to: SocketAddr, from, every, path| Good {
        name,
        to,
        from,
        every: Duration::from_millis(every),
        question: Question::Get(path),
    };
    let from = |address, mark| From { address, mark };
    let outside = |address| from(address, Some(OUTSIDE));
    [
        client("inbound", (POD, BACKEND_PORT).into(), outside(CLIENT), 20, "/bench"),
        client("outbound", (SERVICE, 80).into(), from(POD, None), 20, "/bench"),
        client("ready", (POD, ports::ADMIN).into(), outside(KUBELET), 200, "/ready"),
    ]
}
