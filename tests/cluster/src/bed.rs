//! Shared state of the tests of the program `mesh`: one cluster, with the mesh installed once by the README's commands.
//!
//! ```text
//!   bed.test("traffic::split", Needs::Mesh, |bed| { bed.cluster().apply(..); .. })
//! ```
//!
//! Nothing is started before the first test needs it, so that listing and filtering cost nothing.

use std::{
    env,
    fmt::Write as _,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use libtest_mimic::{Failed, Trial};

use crate::{Cluster, readme, say};

/// Timeout for the pods of a namespace to become ready.
const PODS: Duration = Duration::from_secs(120);

/// Requirement of a test.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// Cluster.
    Cluster,
    /// Images loaded into its nodes.
    Images,
    /// Control plane.
    Mesh,
    /// Control plane and viz.
    Viz,
}

/// Step of the installation: its name in the README, and the namespace of its pods.
const STEPS: [(Needs, &str, Option<&str>); 3] = [
    (Needs::Mesh, "crds", None),
    (Needs::Mesh, "install", Some("linkerd")),
    (Needs::Viz, "viz", Some("linkerd-viz")),
];

/// Cluster with the state of its installation.
#[derive(Debug)]
pub struct Bed {
    cluster: OnceLock<Option<Cluster>>,
    /// Progress, or the error that stopped it.
    state: Mutex<Result<Needs, String>>,
}

impl Default for Bed {
    fn default() -> Self {
        Self {
            cluster: OnceLock::new(),
            state: Mutex::new(Ok(Needs::Cluster)),
        }
    }
}

impl Bed {
    /// Returns a test with its requirement. Without a cluster it is skipped, or fails if `CI` is `true`.
    pub fn test(self: &Arc<Self>, name: &str, needs: Needs, run: impl FnOnce(&Self) + Send + 'static) -> Trial {
        let bed = Arc::clone(self);
        let title = name.to_owned();
        Trial::test(name, move || {
            if bed.find().is_none() {
                return Ok(());
            }
            bed.prepare(needs).map_err(Failed::from)?;
            let begun = Instant::now();
            run(&bed);
            say(&format!("{title}: {:.1} s", begun.elapsed().as_secs_f64()));
            Ok(())
        })
    }

    /// Returns the cluster; none after reporting that there is none.
    pub fn find(&self) -> Option<&Cluster> {
        self.cluster.get_or_init(Cluster::find).as_ref()
    }

    /// Returns the cluster of a running test.
    pub fn cluster(&self) -> &Cluster {
        self.find().expect("no test runs without a cluster")
    }

    /// Installs what `needs` requires. A failure is final: it fails every later test that requires the same.
    pub fn prepare(&self, needs: Needs) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let at = state.clone()?;
        let done = self.advance(at, needs);
        *state = done
            .map(|()| at.max(needs))
            .map_err(|why| format!("preparing for {needs:?}: {why}"));
        state.clone().map(|_| ())
    }

    fn advance(&self, at: Needs, needs: Needs) -> Result<(), String> {
        if at < Needs::Images && needs >= Needs::Images {
            self.cluster().load_images()?;
        }
        for (step, command, namespace) in STEPS {
            if at >= step || needs < step {
                continue;
            }
            if let Some(namespace) = namespace
                && self.is_there(namespace)
            {
                say(&format!("there is a namespace {namespace} already: taken as it is"));
                continue;
            }
            self.cluster().shell(&readme::block(command)?)?;
            if let Some(namespace) = namespace {
                self.ready(namespace)?;
            }
        }
        Ok(())
    }

    /// Records that the mesh is uninstalled: the next test that requires it installs it again.
    pub fn forget(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Ok(Needs::Images);
    }

    fn is_there(&self, namespace: &str) -> bool {
        self.cluster().try_kubectl(&["get", "namespace", namespace]).is_ok()
    }

    /// Waits until all pods of the Deployments, StatefulSets and DaemonSets of a namespace are ready.
    pub fn ready(&self, namespace: &str) -> Result<(), String> {
        let cluster = self.cluster();
        let kinds = "deployments,statefulsets,daemonsets";
        let names = cluster.try_kubectl(&["-n", namespace, "get", kinds, "-o", "name"])?;
        let until = Instant::now() + PODS;
        for name in names.lines() {
            let left = until.saturating_duration_since(Instant::now()).as_secs().max(1);
            let timeout = format!("--timeout={left}s");
            let rolled = cluster.try_kubectl(&["-n", namespace, "rollout", "status", name, &timeout]);
            rolled.map_err(|why| format!("{why}\n{}", self.describe(namespace)))?;
        }
        Ok(())
    }

    /// Describes the pods of a namespace for a failure message.
    pub fn describe(&self, namespace: &str) -> String {
        let cluster = self.cluster();
        let mut text = String::new();
        let mut add = |args: &[&str]| {
            let printed = cluster.try_kubectl(args).unwrap_or_else(|why| why);
            let _ = writeln!(text, "$ kubectl {}\n{}", args.join(" "), printed.trim());
        };
        add(&["-n", namespace, "get", "pods", "-o", "wide"]);
        add(&["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"]);
        let pods = cluster.try_kubectl(&["-n", namespace, "get", "pods", "-o", "name"]);
        for pod in pods.unwrap_or_default().lines() {
            add(&[
                "-n",
                namespace,
                "logs",
                pod,
                "--all-containers",
                "--prefix",
                "--tail=12",
            ]);
        }
        text
    }

    /// Returns whether the long form of scenarios is requested (`MESH_TESTS=long`), which CI has no time for.
    pub fn is_long() -> bool {
        env::var("MESH_TESTS").as_deref() == Ok("long")
    }
}
