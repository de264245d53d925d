//! Probes of a kubelet: readiness, liveness, startup.

use std::{net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use super::{
    plan::{Check, ContainerPlan, ProbePlan},
    process::{Children, InPod, command},
};

/// Probe interval while a container starts, so that a pod becomes ready without waiting for a full period.
const EAGER: Duration = Duration::from_millis(50);
/// Time from the start during which the short interval is used.
const EAGER_FOR: Duration = Duration::from_secs(20);

/// Prober of a container.
#[derive(Clone)]
pub(super) struct Prober {
    pub(super) address: Ipv4Addr,
    /// PID of the pause process.
    pub(super) pause_pid: u32,
    /// Spawner for exec probes.
    pub(super) children: Children,
}

impl Prober {
    /// Probes forever and reports each change of readiness; a container starts as not ready.
    pub(super) async fn watch(&self, container: &ContainerPlan, probe: &ProbePlan, report: impl Fn(bool)) {
        sleep(probe.delay).await;
        let begun = Instant::now();
        let (mut ready, mut failures) = (false, 0);
        loop {
            if self.check(container, probe).await {
                failures = 0;
                if !ready {
                    ready = true;
                    report(true);
                }
            } else {
                failures += 1;
                if ready && failures >= probe.failures {
                    ready = false;
                    report(false);
                }
            }
            let eager = !ready && begun.elapsed() < EAGER_FOR;
            sleep(if eager { EAGER } else { probe.period }).await;
        }
    }

    /// Returns when the probe has reached its failure threshold.
    pub(super) async fn until_failed(&self, container: &ContainerPlan, probe: &ProbePlan) {
        sleep(probe.delay).await;
        let mut failures = 0;
        while failures < probe.failures {
            sleep(probe.period).await;
            failures = if self.check(container, probe).await {
                0
            } else {
                failures + 1
            };
        }
    }

    /// Returns true if the probe succeeds within its failure threshold and time.
    pub(super) async fn until_passed(&self, container: &ContainerPlan, probe: &ProbePlan) -> bool {
        sleep(probe.delay).await;
        let deadline = Instant::now() + probe.period * probe.failures;
        while Instant::now() < deadline {
            if self.check(container, probe).await {
                return true;
            }
            sleep(EAGER).await;
        }
        false
    }

    async fn check(&self, container: &ContainerPlan, probe: &ProbePlan) -> bool {
        let outcome = async {
            match &probe.check {
                Check::Tcp(port) => TcpStream::connect((self.address, *port)).await.is_ok(),
                Check::Http { port, path, headers } => self.http(*port, path, headers).await.unwrap_or(false),
                Check::Exec(argv) => self.exec(container, argv).await,
            }
        };
        timeout(probe.timeout, outcome).await.unwrap_or(false)
    }

    async fn http(&self, port: u16, path: &str, headers: &[(String, String)]) -> std::io::Result<bool> {
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
        Ok(status.is_some_and(|status| (200..400).contains(&status)))
    }

    async fn exec(&self, container: &ContainerPlan, argv: &[String]) -> bool {
        let in_pod = InPod {
            pause_pid: self.pause_pid,
            container,
            argv,
            output: None,
            listener: None,
        };
        let Ok(command) = command(in_pod) else { return false };
        let Ok(mut child) = self.children.spawn(command) else {
            return false;
        };
        child.wait().await.is_ok_and(|status| status.success())
    }
}
