//! Checks of a mesh on this machine: its supervisor, its pods and the API of viz.

use std::time::{Duration, Instant};

use cli_check::{Category, Check, FactSource, Facts, Outcome};

use crate::local::{PodStatus, State};

/// Time between two looks at a pending check.
const PAUSE: Duration = Duration::from_millis(500);

/// Source that has no facts of a cluster, and waits until the time is up.
pub(super) struct Clock {
    until: Instant,
}

impl Clock {
    pub(super) fn new(wait: Duration) -> Self {
        let now = Instant::now();
        Self {
            until: now.checked_add(wait).unwrap_or(now),
        }
    }
}

impl FactSource for Clock {
    async fn load(&mut self) -> Facts {
        Facts::default()
    }

    async fn pause(&mut self) -> bool {
        tokio::time::sleep(PAUSE).await;
        Instant::now() < self.until
    }
}

/// Returns the checks of a mesh.
pub(super) fn category(mesh: State) -> Category {
    let own = env!("CARGO_PKG_VERSION");
    let (version, viz, name) = (mesh.version.clone(), mesh.viz_url(), mesh.name.clone());
    let pods = std::sync::Arc::new(move || mesh.pods().map_err(|error| format!("{error:#}")));
    let asks = std::sync::Arc::clone(&pods);
    let checks = vec![
        Check::new("supervisor answers", move |_| match asks() {
            Ok(_) => Outcome::Pass,
            Err(error) => Outcome::Fail(error),
        })
        .hint(format!(
            "end it with `mesh local down --name {name}`, and start it again"
        ))
        .fatal(),
        Check::new("pods are ready", move |_| match pods() {
            Ok(pods) => Outcome::fail_if_any(&unready(&pods), |names| format!("not ready: {names}")),
            Err(error) => Outcome::Fail(error),
        })
        .hint("see `mesh local status` and `mesh local logs POD`")
        .retried(),
        Check::new("mesh and CLI have the same version", move |_| {
            if version == own {
                return Outcome::Pass;
            }
            Outcome::Fail(format!("the mesh was started by version {version}, this is {own}"))
        })
        .hint("start the mesh again")
        .warning(),
        Check::new("viz answers", move |_| {
            let addr = viz.trim_start_matches("http://").parse();
            let addr = addr.map_err(|_| format!("invalid address {viz}"));
            let answers = addr.and_then(|addr| {
                let stream = std::net::TcpStream::connect_timeout(&addr, PAUSE);
                stream.map_err(|error| format!("cannot connect to {addr}: {error}"))
            });
            answers.map_or_else(Outcome::Fail, |_| Outcome::Pass)
        })
        .hint("see `mesh local logs -n linkerd-viz deploy/mesh-viz`")
        .retried(),
    ];
    Category::new("local-mesh", checks)
}

/// Describes the pods that are not ready.
fn unready(pods: &[PodStatus]) -> Vec<String> {
    let pending = pods.iter().filter(|pod| !pod.ready);
    pending
        .map(|pod| format!("{}/{} ({})", pod.namespace, pod.name, pod.status))
        .collect()
}
