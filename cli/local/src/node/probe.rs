//! Probes of a kubelet: readiness, liveness, startup.

use std::{fmt, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::process::{Children, InPod, command, describe_exit};
use crate::plan::model::{Check, ContainerPlan, ProbePlan};

/// Probe interval while a container starts, so that a pod becomes ready without waiting for a full period.
const EAGER: Duration = Duration::from_millis(50);
/// Time from the start during which the short interval is used.
const EAGER_FOR: Duration = Duration::from_secs(20);

/// Prober of a container.
#[derive(Clone)]
pub(crate) struct Prober {
    pub(crate) address: Ipv4Addr,
    /// PID of the pause process.
    pub(crate) pause_pid: u32,
    /// Spawner for exec probes.
    pub(crate) children: Children,
}

/// Name of a check in messages.
struct CheckName<'a>(&'a Check);

impl fmt::Display for CheckName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Check::Http { port, path, .. } => write!(f, "GET {path} on port {port}"),
            Check::Tcp(port) => write!(f, "connection to port {port}"),
            Check::Exec(argv) => write!(f, "exec {}", argv.first().map_or("", String::as_str)),
        }
    }
}

impl Prober {
    /// Probes forever and reports each change of readiness or of its failure; a container starts as not ready.
    pub(crate) async fn watch(
        &self,
        container: &ContainerPlan,
        probe: &ProbePlan,
        report: impl Fn(Result<(), String>),
    ) {
        sleep(probe.delay).await;
        let begun = Instant::now();
        let mut last = Err(String::new());
        let mut failures = 0;
        loop {
            let result = self.check(container, probe).await;
            failures = if result.is_ok() { 0 } else { failures + 1 };
            // A ready container stays ready until the failure threshold.
            if result != last && (last.is_err() || failures >= probe.failures) {
                report(result.clone());
                last = result;
            }
            let eager = last.is_err() && begun.elapsed() < EAGER_FOR;
            sleep(if eager { EAGER } else { probe.period }).await;
        }
    }

    /// Returns the failure once the probe has reached its failure threshold.
    pub(crate) async fn until_failed(&self, container: &ContainerPlan, probe: &ProbePlan) -> String {
        sleep(probe.delay).await;
        let mut failures = 0;
        loop {
            sleep(probe.period).await;
            match self.check(container, probe).await {
                Ok(()) => failures = 0,
                Err(failure) => {
                    failures += 1;
                    if failures >= probe.failures {
                        return failure;
                    }
                }
            }
        }
    }

    /// Waits until the probe succeeds; the last failure if it does not within its failure threshold and time.
    pub(crate) async fn until_passed(&self, container: &ContainerPlan, probe: &ProbePlan) -> Result<(), String> {
        sleep(probe.delay).await;
        let deadline = Instant::now() + probe.period * probe.failures;
        loop {
            let result = self.check(container, probe).await;
            if result.is_ok() || Instant::now() >= deadline {
                return result;
            }
            sleep(EAGER).await;
        }
    }

    async fn check(&self, container: &ContainerPlan, probe: &ProbePlan) -> Result<(), String> {
        let outcome = async {
            match &probe.check {
                Check::Tcp(port) => match TcpStream::connect((self.address, *port)).await {
                    Ok(_) => Ok(()),
                    Err(error) => Err(error.to_string()),
                },
                Check::Http { port, path, headers } => match self.http(*port, path, headers).await {
                    Ok(status) if (200..400).contains(&status) => Ok(()),
                    Ok(status) => Err(format!("status {status}")),
                    Err(error) => Err(error.to_string()),
                },
                Check::Exec(argv) => self.exec(container, argv).await,
            }
        };
        let result = timeout(probe.timeout, outcome)
            .await
            .unwrap_or_else(|_| Err(format!("no answer in {:?}", probe.timeout)));
        result.map_err(|cause| format!("{}: {cause}", CheckName(&probe.check)))
    }

    async fn http(&self, port: u16, path: &str, headers: &[(String, String)]) -> std::io::Result<u16> {
        let mut stream = TcpStream::connect((self.address, port)).await?;
        let mut request = format!("GET {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request.push_str(&format!("host: {}:{port}\r\n", self.address));
        }
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("user-agent: kube-probe/mesh-local\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        // The status is in the first twelve bytes: "HTTP/1.1 200".
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        let status = std::str::from_utf8(&head)
            .ok()
            .filter(|text| text.starts_with("HTTP/1."));
        let status = status.and_then(|text| text[9..].parse::<u16>().ok());
        status.ok_or_else(|| std::io::Error::other("the answer is not HTTP/1"))
    }

    async fn exec(&self, container: &ContainerPlan, argv: &[String]) -> Result<(), String> {
        let in_pod = InPod {
            pause_pid: self.pause_pid,
            container,
            argv,
            output: None,
            listener: None,
        };
        let mut child = self
            .children
            .spawn(command(in_pod)?)
            .map_err(|error| error.to_string())?;
        match child.wait().await {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(describe_exit(status)),
            Err(error) => Err(error.to_string()),
        }
    }
}
