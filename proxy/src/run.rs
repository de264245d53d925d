//! From a configuration to a running proxy, in the order that the containers around it rely on: every socket is bound
//! first, admin and tap serve at once, and the application's connections are taken once there is a certificate.

use std::{future::Future, net::SocketAddr, sync::Arc, thread::JoinHandle, time::Duration};

use anyhow::Context as _;
use proxy_discovery::{Discovery, Driver, PolicyWatch};
use proxy_http::{
    server::{Ping, ServerParams},
    tap::Registry,
};
use proxy_metrics::{BuildInfo, Metrics, NoTls};
use proxy_model::env as name;
use proxy_process::{
    admin::{Admin, Readiness},
    log, signals,
    tasks::Tasks,
};
use proxy_tls::Tls;
use proxy_transport::{Connect, SocketOptions};
use tokio::{net::TcpListener, task::LocalSet};
use tokio_util::sync::CancellationToken;

use crate::{
    accept::Direction,
    admin,
    control::{CacheFile, Certifier, CertifierParts, Channel, Connector, Grpc, restore},
    env::{Config, InvalidVariable, Service},
    memory, tap,
    worker::{self, Shared, Side, Worker},
};

/// Time between warnings that there is no certificate yet; upstream's figure.
const CERTIFICATE_WARNING: Duration = Duration::from_secs(15);
/// Time between warnings that policies are not known yet.
const POLICY_WARNING: Duration = Duration::from_secs(15);
/// Time to connect to a service of the control plane; upstream's figure.
const CONTROL_CONNECT: Duration = Duration::from_secs(1);
/// Time between two searches for idle series of metrics.
const EVICTION: Duration = Duration::from_secs(1);
/// Time for the control thread's tasks after all connections are gone.
const LAST: Duration = Duration::from_secs(1);

/// Logs the errors of a configuration, one per line.
pub(crate) fn report(errors: &[InvalidVariable]) {
    // The log's own variables may be among the errors.
    let _ = log::init("info", log::Format::Plain);
    for error in errors {
        tracing::error!("invalid configuration: {error}");
    }
}

/// Runs the proxy until it is stopped and has drained.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    let log = match log::init(&config.log.filter, config.log.format) {
        Ok(log) => log,
        Err(error) => {
            let log = log::init("warn,linkerd=info", config.log.format)?;
            tracing::warn!(%error, "using the default log filter");
            log
        }
    };
    memory::give_back_when_idle();
    for variable in &config.without_effect {
        tracing::warn!(variable, "not supported yet; ignored");
    }
    let sockets = Sockets::bind(&config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let stop = signals::stop_token()?;
        Proxy::new(config, log, stop)?.run(sockets).await
    })
}

/// All sockets of the proxy.
struct Sockets {
    workers: Vec<(std::net::TcpListener, Direction, SocketOptions)>,
    admin: std::net::TcpListener,
    tap: Option<std::net::TcpListener>,
}

impl Sockets {
    fn bind(config: &Config) -> anyhow::Result<Self> {
        let listen = |variable: &'static str, addr: SocketAddr| proxy_transport::listen(addr).context(variable);
        let inbound = (
            listen(name::INBOUND_LISTEN_ADDR, config.listen.inbound)?,
            Direction::Inbound,
            config.inbound.accept,
        );
        let mut workers = vec![inbound];
        for addr in &config.listen.outbound {
            workers.push((
                listen(name::OUTBOUND_LISTEN_ADDRS, *addr)?,
                Direction::Outbound,
                SocketOptions::default(),
            ));
        }
        let tap = config
            .tap_client
            .is_some()
            .then(|| listen(name::CONTROL_LISTEN_ADDR, config.listen.tap))
            .transpose()?;
        Ok(Self {
            workers,
            admin: listen(name::ADMIN_LISTEN_ADDR, config.listen.admin)?,
            tap,
        })
    }
}

/// Shared parts of a proxy.
struct Proxy {
    config: Config,
    log: log::Handle,
    /// The signal, or POST /shutdown.
    stop: CancellationToken,
    tls: Tls,
    metrics: Metrics,
    discovery: Discovery,
    driver: Driver<Grpc>,
    channels: Vec<std::pin::Pin<Box<dyn Future<Output = ()>>>>,
    registry: Registry,
    ready: Readiness,
    /// Shared by all workers.
    rate_limits: proxy_inbound::RateLimits,
    budgets: proxy_outbound::Budgets,
    breakers: proxy_outbound::Breakers,
}

impl Proxy {
    fn new(mut config: Config, log: log::Handle, stop: CancellationToken) -> anyhow::Result<Self> {
        let metrics = Metrics::new(BuildInfo::default());
        let tls = Tls::new(config.identity.local_id.clone(), config.identity.anchors.clone())?;
        config.discovery.metrics = metrics.clone();
        if restore(&config.identity.dir, &tls) {
            config.discovery.cache = CacheFile::in_dir(&config.identity.dir).load();
        }
        let mut channels: Vec<std::pin::Pin<Box<dyn Future<Output = ()>>>> = Vec::new();
        let mut channel = |service: &Service| {
            let connector = connector(&config, &tls, service);
            let (channel, keep_up) = Channel::new(connector, control_slot(&metrics, service));
            channels.push(Box::pin(keep_up));
            channel
        };
        let grpc = Grpc {
            destination: channel(&config.control.destination),
            policy: channel(&config.control.policy),
            workload: config.control.workload.clone(),
            context: config.control.context.clone(),
        };
        let (discovery, driver) = Discovery::new(config.discovery.clone(), grpc);
        let (registry, ready) = (Registry::default(), Readiness::default());
        let (rate_limits, budgets, breakers) = Default::default();
        Ok(Self {
            config,
            log,
            stop,
            tls,
            metrics,
            discovery,
            driver,
            channels,
            registry,
            ready,
            rate_limits,
            budgets,
            breakers,
        })
    }

    async fn run(self, sockets: Sockets) -> anyhow::Result<()> {
        let end = CancellationToken::new();
        let shared = Shared {
            inbound: Side::new(),
            outbound: Side::new(),
            tls: self.tls.clone(),
            metrics: self.metrics.clone(),
            end: end.clone(),
        };
        let deps = (0..self.config.workers)
            .map(|_| (self.inbound_deps(), self.outbound_deps()))
            .collect();
        let (mut tasks, grace, stop) = (Tasks::new(end.clone()), self.config.shutdown_grace, self.stop.clone());
        tracing::info!("Inbound interface on {}", self.config.listen.inbound);
        for addr in &self.config.listen.outbound {
            tracing::info!("Outbound interface on {addr}");
        }
        self.start_servers(&mut tasks, &end, (sockets.admin, sockets.tap))?;
        // For the life of the process: what is declared is never evicted.
        let declared = self.watch_declared_ports();
        tasks.spawn_local(
            "readiness",
            until(end.clone(), readiness(self.tls.clone(), declared, self.ready.clone())),
        );
        self.start_control(&mut tasks, &end)?;
        let threads = start_workers(worker::workers(&shared, deps, sockets.workers), &mut tasks)?;

        let finish = tasks.finish(LAST);
        tokio::pin!(finish);
        tokio::select! {
            ended = &mut finish => return ended.map_err(Into::into),
            () = stop.cancelled() => {}
        }
        tokio::select! {
            ended = &mut finish => return ended.map_err(Into::into),
            drained = tokio::time::timeout(grace, drain(&shared)) => if drained.is_err() {
                let (inbound, outbound) = (shared.inbound.connections.live(), shared.outbound.connections.live());
                tracing::warn!(inbound, outbound, ?grace, "exiting with open connections");
            },
        }
        end.cancel();
        finish.await?;
        for thread in threads {
            let _ = thread.join();
        }
        tracing::info!("drained");
        Ok(())
    }

    fn start_servers(
        &self,
        tasks: &mut Tasks,
        end: &CancellationToken,
        (admin_socket, tap_socket): (std::net::TcpListener, Option<std::net::TcpListener>),
    ) -> anyhow::Result<()> {
        let metrics = self.metrics.clone();
        let gate = admin::Gate {
            policy: self.discovery.declared(self.config.listen.admin.port()),
            metrics: metrics.recorder(),
            target: self.config.listen.admin.into(),
        };
        let shutdown = self.config.admin.shutdown_enabled.then(|| self.stop.clone());
        let own = admin::router(admin::AdminState {
            log: self.log.clone(),
            discovery: self.discovery.clone(),
            environment: Arc::new(self.config.admin.environment.clone()),
            shutdown,
            gate: gate.clone(),
        });
        let admin = Admin::new(self.ready.clone(), move || metrics.render()).with(own);
        let listener = TcpListener::from_std(admin_socket)?;
        tasks.spawn_local(
            "admin",
            admin::Server {
                admin,
                tls: self.tls.clone(),
                metrics: self.metrics.clone(),
                gate,
            }
            .serve(listener, end.clone()),
        );
        if let (Some(socket), Some(client)) = (tap_socket, self.config.tap_client.clone()) {
            let (tls, registry) = (self.tls.clone(), self.registry.clone());
            let server = tap::Server {
                tls,
                registry,
                client,
                next: Arc::default(),
            };
            tracing::info!("Tap interface on {}", self.config.listen.tap);
            let served = server.serve(TcpListener::from_std(socket)?, self.metrics.clone(), end.clone());
            tasks.spawn_local("tap", served);
        }
        Ok(())
    }

    /// Watches the policies of the application's ports.
    fn watch_declared_ports(&self) -> Vec<PolicyWatch> {
        let ranges = self.config.inbound.ports.ranges().iter();
        let ports = ranges.flat_map(|(low, high)| *low..=*high);
        ports
            .take(proxy_model::limits::EAGER_PORTS.value)
            .map(|port| self.discovery.declared(port))
            .collect()
    }

    /// Ranges of the admin port and the ports that the workload declares.
    fn own_ports(&self) -> impl Iterator<Item = (u16, u16)> {
        let admin = self.config.listen.admin.port();
        let declared = self.config.inbound.ports.ranges().iter().copied();
        std::iter::once((admin, admin)).chain(declared)
    }

    fn start_control(self, tasks: &mut Tasks, end: &CancellationToken) -> anyhow::Result<()> {
        let service = &self.config.control.identity;
        let parts = CertifierParts {
            tls: self.tls.clone(),
            connector: connector(&self.config, &self.tls, service),
            metrics: self.metrics.cert(),
            calls: control_slot(&self.metrics, service),
        };
        let metrics = self.metrics.clone();
        tasks.spawn_local("metrics", until(end.clone(), never(make_room(metrics))));
        let cache = CacheFile::in_dir(&self.config.identity.dir);
        let persist = cache.persist(self.discovery.clone(), self.metrics.clone());
        tasks.spawn_local("discovery-cache", until(end.clone(), never(persist)));
        let certifier = Certifier::new(self.config.identity, parts)?;
        tasks.spawn_local("identity", until(end.clone(), never(certifier.run())));
        tasks.spawn_local("discovery", until(end.clone(), never(self.driver.run())));
        for channel in self.channels {
            tasks.spawn_local("control plane", until(end.clone(), never(channel)));
        }
        Ok(())
    }

    fn inbound_deps(&self) -> proxy_inbound::Deps {
        let Config { inbound, .. } = &self.config;
        let connect = Connect {
            timeout: inbound.connect_timeout,
            options: SocketOptions::default(),
            mark: self.config.mark,
        };
        proxy_inbound::Deps {
            discovery: self.discovery.clone(),
            tls: self.tls.clone(),
            metrics: self.metrics.recorder(),
            tap: self.registry.clone(),
            rate_limits: self.rate_limits.clone(),
            config: proxy_inbound::Config {
                port: self.config.listen.inbound.port(),
                own_ports: self.config.listen.other_ports().collect(),
                local_ips: self.config.local_ips.to_vec(),
                ports: self.own_ports().collect(),
                detect_timeout: inbound.detect_timeout,
                connect,
                http1_idle: inbound.pool_idle,
                http2: server_params(inbound.ping),
                path_check: inbound.path_check,
            },
        }
    }

    fn outbound_deps(&self) -> proxy_outbound::Deps {
        let Config { outbound, .. } = &self.config;
        let connect = Connect {
            timeout: outbound.connect_timeout,
            options: outbound.connect,
            mark: self.config.mark,
        };
        proxy_outbound::Deps {
            discovery: self.discovery.clone(),
            tls: self.tls.clone(),
            metrics: self.metrics.recorder(),
            tap: self.registry.clone(),
            budgets: self.budgets.clone(),
            breakers: self.breakers.clone(),
            config: proxy_outbound::Config {
                connect,
                failfast: outbound.failfast_timeout,
                detect_timeout: outbound.detect_timeout,
                local_ips: Arc::clone(&self.config.local_ips),
                http1_idle: outbound.pool_idle,
                discovery_idle: self.config.discovery.outbound_idle,
                http2: server_params(outbound.ping),
                informational_headers: outbound.informational_headers,
                ..proxy_outbound::Config::default()
            },
        }
    }
}

/// Drains inbound first, then outbound: until its last response, the application may depend on others.
async fn drain(shared: &Shared) {
    for side in [&shared.inbound, &shared.outbound] {
        side.close.cancel();
        side.drain.cancelled().await;
        side.connections.drained().await;
    }
}

fn connector(config: &Config, tls: &Tls, service: &Service) -> Connector {
    let tcp = Connect {
        timeout: CONTROL_CONNECT,
        options: config.outbound.connect,
        mark: config.mark,
    };
    Connector {
        service: service.clone(),
        tls: tls.clone(),
        tcp,
    }
}

fn control_slot(metrics: &Metrics, service: &Service) -> proxy_metrics::ControlSlot {
    let tls = match &service.tls {
        Some(server) => proxy_metrics::Tls::Server(&server.server_id),
        None => proxy_metrics::Tls::None(NoTls::Loopback),
    };
    metrics.control(&service.addr.to_string(), &tls)
}

fn server_params(ping: Option<(Duration, Duration)>) -> ServerParams {
    ServerParams {
        ping: ping.map(|(interval, timeout)| Ping { interval, timeout }),
    }
}

/// Runs a task until `end`.
async fn until<E>(end: CancellationToken, task: impl Future<Output = Result<(), E>>) -> Result<(), E> {
    tokio::select! {
        ended = task => ended,
        () = end.cancelled() => Ok(()),
    }
}

/// Drops idle series of metrics when there is no room for a new one.
async fn make_room(metrics: Metrics) {
    loop {
        metrics.shortage().await;
        metrics.evict_idle();
        tokio::time::sleep(EVICTION).await;
    }
}

async fn never(task: impl Future<Output = ()>) -> Result<(), std::convert::Infallible> {
    task.await;
    Ok(())
}

/// Ready with the first certificate and the policies of the declared ports, and never unready again; warns until then.
/// Earlier, connections of the application's clients would be refused.
async fn readiness(tls: Tls, mut declared: Vec<PolicyWatch>, ready: Readiness) -> Result<(), std::convert::Infallible> {
    while tokio::time::timeout(CERTIFICATE_WARNING, tls.certified())
        .await
        .is_err()
    {
        tracing::warn!("waiting for the identity service to certify this workload");
    }
    while tokio::time::timeout(POLICY_WARNING, known(&mut declared))
        .await
        .is_err()
    {
        tracing::warn!("waiting for the control plane to send the policies of this workload's ports");
    }
    ready.set();
    std::future::pending().await
}

/// Waits until all these policies are known.
async fn known(policies: &mut [PolicyWatch]) {
    for policy in policies {
        // Closed only if there are too many lookups: then nothing will answer.
        let _ = policy.wait_for(Option::is_some).await;
    }
}

/// Starts the workers' threads. One that ends early stops the process.
fn start_workers(workers: Vec<Worker>, tasks: &mut Tasks) -> anyhow::Result<Vec<JoinHandle<()>>> {
    let mut threads = Vec::new();
    for (i, worker) in workers.into_iter().enumerate() {
        let (ended, result) = tokio::sync::oneshot::channel();
        let control = tokio::runtime::Handle::current();
        let thread = std::thread::Builder::new().name(format!("worker-{i}")).spawn(move || {
            let _ = ended.send(worker.run(control));
        });
        threads.push(thread.context("cannot start a worker's thread")?);
        tasks.spawn_local("worker", async move {
            match result.await {
                Ok(ran) => ran.map_err(anyhow::Error::from),
                Err(_) => Err(anyhow::anyhow!("panicked")),
            }
        });
    }
    Ok(threads)
}
