//! What the trials of the program `mesh` share: one cluster, and on it the mesh, installed once, by the README's own lines.
//!
//! ```text
//!   bed.trial("traffic::split", Needs::Mesh, |bed| { bed.cluster().apply(..); .. })
//! ```
//!
//! Nothing is started before the first trial that runs needs it, so that a list or a filter costs nothing.

use std::{
    env,
    fmt::Write as _,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use libtest_mimic::{Failed, Trial};

use crate::{Cluster, readme, say};

/// Longest time for the pods of a namespace to be as they should.
const PODS: Duration = Duration::from_secs(120);

/// What must be there before a trial begins.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Needs {
    /// A cluster.
    Cluster,
    /// Our images in its nodes.
    Images,
    /// The control plane.
    Mesh,
    /// And viz.
    Viz,
}

/// A step of the installation: what the README calls it, and the namespace whose pods it makes.
const STEPS: [(Needs, &str, Option<&str>); 3] = [
    (Needs::Mesh, "crds", None),
    (Needs::Mesh, "install", Some("linkerd")),
    (Needs::Viz, "viz", Some("linkerd-viz")),
];

/// The cluster and what is on it.
#[derive(Debug)]
pub struct Bed {
    cluster: OnceLock<Option<Cluster>>,
    /// How far it is, or why it is no further.
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
    /// A trial with what it needs. Without a cluster it says so and passes, or fails where `CI` is `true`.
    pub fn trial(self: &Arc<Self>, name: &str, needs: Needs, run: impl FnOnce(&Self) + Send + 'static) -> Trial {
        let bed = Arc::clone(self);
        let told = name.to_owned();
        Trial::test(name, move || {
            if bed.find().is_none() {
                return Ok(());
            }
            bed.prepare(needs).map_err(Failed::from)?;
            let begun = Instant::now();
            run(&bed);
            say(&format!("{told}: {:.1} s", begun.elapsed().as_secs_f64()));
            Ok(())
        })
    }

    /// The cluster; where there is none, that was said.
    pub fn find(&self) -> Option<&Cluster> {
        self.cluster.get_or_init(Cluster::find).as_ref()
    }

    /// The cluster of a trial that runs.
    pub fn cluster(&self) -> &Cluster {
        self.find().expect("no trial runs without a cluster")
    }

    /// Brings it up to `needs`, unless it is there. What failed once fails every trial that needs it, at once.
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

    /// Says that the mesh is no longer there: what needs it next installs it again.
    pub fn forget(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Ok(Needs::Images);
    }

    fn is_there(&self, namespace: &str) -> bool {
        self.cluster().try_kubectl(&["get", "namespace", namespace]).is_ok()
    }

    /// Waits until every Deployment, StatefulSet and DaemonSet of a namespace has all its pods ready, and says why if not.
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

    /// What the pods of a namespace are at, for whoever reads a failure.
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

    /// Whether the named command asks for the long form of a scenario (`MESH_TESTS=long`), which CI has no time for.
    pub fn is_long() -> bool {
        env::var("MESH_TESTS").as_deref() == Ok("long")
    }
}
