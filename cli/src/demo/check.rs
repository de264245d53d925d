//! `mesh demo --check`: a fixed load, and what must be true of it. Each result is one line with its figures.

mod capture;
mod counters;
mod edges;
mod load;
mod reload;
mod tap;

use std::{
    collections::BTreeMap,
    sync::mpsc::Receiver,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use cli_local::Running;
use serde::de::DeserializeOwned;
use tokio::runtime::Runtime;
use viz_api::{Answer, PodRow, ProxyMetricsRequest};

use cli_demo_app::LoadReport;

use super::{NAMESPACE, manifests::Manifests};
use crate::{output, viz::Api};

/// URL of web, as the application's own clients name it.
const WEB: &str = "http://web.vote.svc.cluster.local";
/// Deployments that make up the application.
const DEPLOYMENTS: [&str; 5] = ["emoji", "traffic", "voting-v1", "voting-v2", "web"];
/// Time for all proxies to be scraped once the pods are ready.
const READY: Duration = Duration::from_secs(30);

/// What the parts of the check share.
struct Check<'a> {
    running: &'a Running,
    manifests: &'a Manifests,
    api: Api,
    runtime: Runtime,
    /// Name of the one pod of each deployment.
    pods: BTreeMap<String, String>,
    requests: u64,
}

/// What a part of the check has proved: its figures.
type Proof = Result<String>;
/// A part of the check.
type Part = fn(&Check<'_>) -> Proof;

/// Runs all parts; whether all passed.
pub(super) fn run(running: &Running, manifests: &Manifests, requests: u64, interrupts: &Receiver<()>) -> Result<bool> {
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let api = Api::new(&running.state().viz_url())?;
    let mut check = Check {
        running,
        manifests,
        api,
        runtime,
        pods: BTreeMap::new(),
        requests,
    };
    let mut results = Results { passed: 0, failed: 0 };
    let ready = check.wait_until_ready(interrupts);
    if !results.add("every proxy of the application is scraped", ready)? {
        return Ok(false);
    }
    // One load proves several things; without it there is nothing to look at.
    match load::drive(&check) {
        Err(error) => drop(results.add("a fixed load passes", Err(error))?),
        Ok(load) => {
            results.add("every request is answered", load::answered(&load))?;
            results.add("the split is 90/10 within 1.5 points", load::split(&load))?;
            results.add(
                "the proxies count exactly what the load counted",
                counters::agree(&check, &load),
            )?;
            results.add(
                "`viz stat` shows the same, within one scrape",
                counters::stat_agrees(&check, &load),
            )?;
        }
    }
    let parts: [(&str, Part); 4] = [
        (
            "every edge is mutual TLS, with both ends' identities",
            edges::are_mutual,
        ),
        (
            "nothing of the application is readable between two pods",
            capture::nothing_readable,
        ),
        (
            "`viz tap` shows a request with all there is to know",
            tap::shows_a_request,
        ),
        (
            "a changed split takes effect in under a second and loses nothing",
            reload::split,
        ),
    ];
    for (name, part) in parts {
        if interrupts.try_recv().is_ok() {
            bail!("interrupted");
        }
        results.add(name, part(&check))?;
    }
    let Results { passed, failed } = results;
    let seconds = began.elapsed().as_secs_f64();
    output::print(&format!("{passed} of {} passed in {seconds:.1}s\n", passed + failed))?;
    Ok(failed == 0)
}

/// How many parts passed.
struct Results {
    passed: u32,
    failed: u32,
}

impl Results {
    fn add(&mut self, name: &str, proof: Proof) -> Result<bool> {
        let passed = proof.is_ok();
        *if passed { &mut self.passed } else { &mut self.failed } += 1;
        let line = match proof {
            Ok(figures) => format!("ok    {name}: {figures}\n"),
            Err(error) => format!("FAIL  {name}: {error:#}\n"),
        };
        output::print(&line)?;
        Ok(passed)
    }
}

impl Check<'_> {
    /// Waits until viz has scraped each pod, and remembers their names.
    fn wait_until_ready(&mut self, interrupts: &Receiver<()>) -> Proof {
        let until = Instant::now() + READY;
        loop {
            let missing = match self.look_for_pods() {
                Ok(()) => return Ok(format!("{} pods", self.pods.len())),
                Err(missing) => missing,
            };
            if interrupts.try_recv().is_ok() {
                bail!("interrupted");
            }
            if Instant::now() > until {
                return Err(missing).with_context(|| format!("not within {} s", READY.as_secs()));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn look_for_pods(&mut self) -> Result<()> {
        let answer: Answer<PodRow> = self.get(viz_api::PODS, &())?;
        for deployment in DEPLOYMENTS {
            let owner = format!("deployment/{deployment}");
            let mut rows = answer
                .rows
                .iter()
                .filter(|r| r.namespace == NAMESPACE && r.owner.as_ref() == Some(&owner));
            let (Some(row), None) = (rows.next(), rows.next()) else {
                bail!("{deployment} has not one pod")
            };
            if !row.meshed {
                bail!("{} is not meshed", row.name);
            }
            if let Some(error) = &row.scrape_error {
                bail!("{}: {error}", row.name);
            }
            if row.scrape_age_ms.is_none() {
                bail!("{} is not scraped yet", row.name);
            }
            self.pods.insert(deployment.to_owned(), row.name.clone());
        }
        Ok(())
    }

    fn get<T: DeserializeOwned>(&self, path: &str, request: &impl serde::Serialize) -> Result<T> {
        self.runtime.block_on(self.api.get(path, request))
    }

    fn pod(&self, deployment: &str) -> Result<&str> {
        self.pods
            .get(deployment)
            .map(String::as_str)
            .with_context(|| format!("{deployment} has no pod"))
    }

    /// The metrics of a deployment's proxy, as they are now.
    fn metrics(&self, deployment: &str) -> Result<String> {
        let request = ProxyMetricsRequest {
            namespace: NAMESPACE.to_owned(),
            pod: self.pod(deployment)?.to_owned(),
        };
        let text = self.runtime.block_on(self.api.text(viz_api::PROXY_METRICS, &request))?;
        String::from_utf8(text.into()).context("the metrics are no text")
    }

    /// The stage for roles of the application inside a deployment's pod.
    fn stage(&self, deployment: &str) -> Result<Stage> {
        let pod = format!("{NAMESPACE}/{}", self.pod(deployment)?);
        Ok(Stage {
            mesh: self.running.state().name.clone(),
            pod,
        })
    }

    /// Drives load from the pod of `traffic`.
    fn load(&self, path: &str, flags: &[&str]) -> Result<LoadReport> {
        self.stage("traffic")?.load(path, flags)
    }
}

/// A pod in which roles of the application can be played, also from another thread.
struct Stage {
    mesh: String,
    pod: String,
}

impl Stage {
    /// Plays a role, and reads what it prints.
    fn play<T: DeserializeOwned>(&self, role: &[&str]) -> Result<T> {
        let program = std::env::current_exe().context("cannot find the program's own path")?;
        let program = program.to_string_lossy();
        let mut argv = vec![program.as_ref(), "demo-app"];
        argv.extend_from_slice(role);
        let (pod, role) = (&self.pod, role.join(" "));
        let output = cli_local::exec(&self.mesh, pod, &argv)?;
        if output.code != 0 {
            bail!(
                "`demo-app {role}` in {pod} ended with {}: {}",
                output.code,
                output.stderr.trim()
            );
        }
        serde_json::from_str(&output.stdout).with_context(|| format!("`demo-app {role}` printed {:?}", output.stdout))
    }

    /// Drives load at web.
    fn load(&self, path: &str, flags: &[&str]) -> Result<LoadReport> {
        let url = format!("{WEB}{path}");
        let mut role = vec!["load", url.as_str()];
        role.extend_from_slice(flags);
        self.play(&role)
    }
}
