//! `mesh demo --check`: a fixed load and assertions about it. Each result is one line with its figures.

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
use crate::{
    output::{self, terminal},
    viz::Api,
};

/// URL of web, as used by the application's own clients.
const WEB: &str = "http://web.vote.svc.cluster.local";
/// Deployments of the application.
const DEPLOYMENTS: [&str; 5] = ["emoji", "traffic", "voting-v1", "voting-v2", "web"];
/// Time limit for all proxies to be scraped once the pods are ready.
const READY: Duration = Duration::from_secs(30);

/// State shared by the parts of the check.
struct Check<'a> {
    running: &'a Running,
    manifests: &'a Manifests,
    api: Api,
    runtime: Runtime,
    /// Name of the only pod of each deployment.
    pods: BTreeMap<String, String>,
    requests: u64,
}

/// Part of the check; returns its figures.
type Part = fn(&Check<'_>) -> Result<String>;

/// Runs all parts. Returns true if all passed.
pub(super) fn run(running: &Running, manifests: &Manifests, requests: u64, interrupts: &Receiver<()>) -> Result<bool> {
    let began = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let api = Api::local(running.state())?;
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
    // One load serves several assertions.
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
        ("`viz tap` shows a request with all details", tap::shows_a_request),
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

/// Number of passed and failed parts.
struct Results {
    passed: u32,
    failed: u32,
}

impl Results {
    fn add(&mut self, name: &str, outcome: Result<String>) -> Result<bool> {
        let passed = outcome.is_ok();
        *if passed { &mut self.passed } else { &mut self.failed } += 1;
        let line = match outcome {
            Ok(figures) => format!("ok    {name}: {figures}\n"),
            Err(error) => format!("FAIL  {name}: {error:#}\n"),
        };
        output::print(&terminal::paint(&line))?;
        Ok(passed)
    }
}

impl Check<'_> {
    /// Waits until viz has scraped each pod, and records their names.
    fn wait_until_ready(&mut self, interrupts: &Receiver<()>) -> Result<String> {
        let until = Instant::now() + READY;
        loop {
            let missing = match self.find_pods() {
                Ok(()) => return Ok(format!("{} pods", self.pods.len())),
                Err(missing) => missing,
            };
            if interrupts.try_recv().is_ok() {
                bail!("interrupted");
            }
            if Instant::now() > until {
                return Err(missing).with_context(|| format!("timed out after {} s", READY.as_secs()));
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn find_pods(&mut self) -> Result<()> {
        let answer: Answer<PodRow> = self.get(viz_api::PODS, &())?;
        for deployment in DEPLOYMENTS {
            let owner = format!("deployment/{deployment}");
            let mut rows = answer
                .rows
                .iter()
                .filter(|r| r.namespace == NAMESPACE && r.owner.as_ref() == Some(&owner));
            let (Some(row), None) = (rows.next(), rows.next()) else {
                bail!("{deployment} does not have exactly one pod")
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

    /// Fetches the current metrics of a deployment's proxy.
    fn metrics(&self, deployment: &str) -> Result<String> {
        let request = ProxyMetricsRequest {
            namespace: NAMESPACE.to_owned(),
            pod: self.pod(deployment)?.to_owned(),
        };
        let text = self.runtime.block_on(self.api.text(viz_api::PROXY_METRICS, &request))?;
        String::from_utf8(text.into()).context("the metrics are not UTF-8")
    }

    /// Returns a runner for roles of the application inside a deployment's pod.
    fn runner(&self, deployment: &str) -> Result<RoleRunner> {
        let pod = format!("{NAMESPACE}/{}", self.pod(deployment)?);
        Ok(RoleRunner {
            mesh: self.running.state().name.clone(),
            pod,
        })
    }

    /// Sends load from the pod of `traffic`.
    fn load(&self, path: &str, flags: &[&str]) -> Result<LoadReport> {
        self.runner("traffic")?.load(path, flags)
    }
}

/// Runs roles of the application inside a pod, also from another thread.
struct RoleRunner {
    mesh: String,
    pod: String,
}

impl RoleRunner {
    /// Runs a role and decodes its output.
    fn run<T: DeserializeOwned>(&self, role: &[&str]) -> Result<T> {
        let program = std::env::current_exe().context("cannot determine the path of this program")?;
        let program = program.to_string_lossy();
        let mut argv = vec![program.as_ref(), "demo-app"];
        argv.extend_from_slice(role);
        let (pod, role) = (&self.pod, role.join(" "));
        let output = cli_local::exec(&self.mesh, pod, &argv)?;
        if output.code != 0 {
            bail!(
                "`demo-app {role}` in {pod} exited with {}: {}",
                output.code,
                output.stderr.trim()
            );
        }
        serde_json::from_str(&output.stdout).with_context(|| format!("`demo-app {role}` printed {:?}", output.stdout))
    }

    /// Sends load to web.
    fn load(&self, path: &str, flags: &[&str]) -> Result<LoadReport> {
        let url = format!("{WEB}{path}");
        let mut role = vec!["load", url.as_str()];
        role.extend_from_slice(flags);
        self.run(&role)
    }
}
