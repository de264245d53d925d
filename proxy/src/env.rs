//! Configuration from the environment, in two stages: every variable is parsed on its own and every error is kept, then
//! the parts are put together. Either all variables are valid, or all errors are reported at once.

mod read;
pub(crate) mod values;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use proxy_discovery::{PortPolicy, StreamLimits};
use proxy_model::{
    DefaultPolicy, Id, TlsIdentity, defaults, env as name, policy::InvalidPolicy, ports, ports::PortSet,
};
use proxy_process::log::Format;
use proxy_tls::Anchors;
use proxy_transport::SocketOptions;

use read::Env;
pub(crate) use values::HostPort;

/// Error of one variable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {reason}")]
pub(crate) struct InvalidVariable {
    /// Name of the variable.
    pub(crate) variable: String,
    /// Reason that it is invalid.
    pub(crate) reason: String,
}

/// Configuration of the proxy.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) log: Log,
    pub(crate) workers: usize,
    pub(crate) listen: Listen,
    pub(crate) identity: Identity,
    pub(crate) control: Control,
    pub(crate) discovery: proxy_discovery::Config,
    pub(crate) inbound: Inbound,
    pub(crate) outbound: Outbound,
    pub(crate) admin: Admin,
    /// Identity that may tap; without it tap is off.
    pub(crate) tap_client: Option<Id>,
    /// Addresses of this pod; empty is any.
    pub(crate) local_ips: Arc<[IpAddr]>,
    /// Mark of the proxy's own sockets.
    pub(crate) mark: Option<u32>,
    pub(crate) shutdown_grace: Duration,
    /// Variables that are set but not supported yet.
    pub(crate) without_effect: Vec<&'static str>,
}

/// Filter and format of the log.
#[derive(Debug)]
pub(crate) struct Log {
    pub(crate) filter: String,
    pub(crate) format: Format,
}

/// Addresses that the proxy listens on.
#[derive(Debug)]
pub(crate) struct Listen {
    pub(crate) outbound: Vec<SocketAddr>,
    pub(crate) inbound: SocketAddr,
    pub(crate) tap: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Listen {
    /// Returns the ports of all listeners but the inbound one.
    pub(crate) fn other_ports(&self) -> impl Iterator<Item = u16> {
        let outbound = self.outbound.iter();
        outbound.chain([&self.tap, &self.admin]).map(SocketAddr::port)
    }
}

/// Identity of the workload, and the files that prove it.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) local_id: Id,
    pub(crate) anchors: Anchors,
    pub(crate) dir: PathBuf,
    pub(crate) token_file: PathBuf,
    pub(crate) min_refresh: Duration,
    pub(crate) max_refresh: Duration,
}

/// The control plane's services.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) destination: Service,
    pub(crate) policy: Service,
    pub(crate) identity: Service,
    /// Token that names the workload to the policy API.
    pub(crate) workload: String,
    /// Token that names the workload to `Destination`.
    pub(crate) context: String,
}

/// One service of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) addr: HostPort,
    /// Identity of the service; none on loopback only.
    pub(crate) tls: Option<TlsIdentity>,
}

/// Connections to the application.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) accept: SocketOptions,
    pub(crate) connect_timeout: Duration,
    pub(crate) detect_timeout: Duration,
    pub(crate) pool_idle: Duration,
    pub(crate) ping: Option<(Duration, Duration)>,
    /// Ports whose policy is watched from the start.
    pub(crate) ports: PortSet,
    pub(crate) path_check: bool,
}

/// Connections of the application.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) connect: SocketOptions,
    pub(crate) connect_timeout: Duration,
    pub(crate) detect_timeout: Duration,
    pub(crate) failfast_timeout: Duration,
    pub(crate) pool_idle: Duration,
    pub(crate) ping: Option<(Duration, Duration)>,
    pub(crate) informational_headers: bool,
}

/// The admin server.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) shutdown_enabled: bool,
    /// Variables that are known, for `/env.json`: others may hold anything, secrets included.
    pub(crate) environment: BTreeMap<String, String>,
}

/// Variables of features that are not supported yet; a warning says so when one is set.
const WITHOUT_EFFECT: [&str; 8] = [
    "LINKERD2_PROXY_ACCESS_LOG",
    "LINKERD2_PROXY_IDENTITY_SPIRE_WORKLOAD_API_ADDRESS",
    "LINKERD2_PROXY_INBOUND_GATEWAY_SUFFIXES",
    "LINKERD2_PROXY_INGRESS_MODE",
    "LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR",
    name::INBOUND_HTTP_FAILFAST_TIMEOUT,
    name::INBOUND_METRICS_AUTHORITY_LABELS,
    name::OUTBOUND_TCP_FAILFAST_TIMEOUT,
];

/// Returns true for a variable of Linkerd's or ours.
fn is_known(variable: &str) -> bool {
    variable == name::SOCKET_MARK
        || name::ALL.iter().any(|(known, _)| *known == variable)
        || WITHOUT_EFFECT.contains(&variable)
}

const SECOND: Duration = Duration::from_secs(1);

impl Config {
    /// Parses the environment, or returns all errors.
    pub(crate) fn read(environment: BTreeMap<String, String>) -> Result<Self, Vec<InvalidVariable>> {
        let mut env = Env::new(&environment);
        let config = Self::parts(&mut env);
        let errors = env.into_errors();
        match config {
            Some(mut config) if errors.is_empty() => {
                config.admin.environment = environment.into_iter().filter(|(name, _)| is_known(name)).collect();
                Ok(config)
            }
            _ => Err(errors),
        }
    }

    fn parts(env: &mut Env<'_>) -> Option<Self> {
        let log = log(env);
        let workers = workers(env);
        let (listen, identity, control) = (listen(env), identity(env), control(env));
        let (inbound, outbound) = (inbound(env), outbound(env));
        let discovery = discovery(env, inbound.detect_timeout, outbound.detect_timeout);
        let shutdown_enabled = env.or(name::SHUTDOWN_ENDPOINT_ENABLED, values::boolean, false);
        let tap_client = env.optional(name::TAP_SVC_NAME, values::id);
        let local_ips = env.or(name::INBOUND_IPS, values::ips, Vec::new()).into();
        let mark = env.optional(name::SOCKET_MARK, values::number);
        let shutdown_grace = env.or(name::SHUTDOWN_GRACE_PERIOD, values::duration, defaults::SHUTDOWN_GRACE);
        let asked = |variable: &&str| env.text(variable).is_some_and(|value| value != "false");
        let without_effect = WITHOUT_EFFECT.into_iter().filter(asked).collect();
        let admin = Admin {
            shutdown_enabled,
            environment: BTreeMap::new(),
        };
        let (identity, control, discovery) = (identity?, control?, discovery?);
        Some(Self {
            log,
            workers,
            listen,
            identity,
            control,
            discovery,
            inbound,
            outbound,
            admin,
            tap_client,
            local_ips,
            mark,
            shutdown_grace,
            without_effect,
        })
    }
}

fn log(env: &mut Env<'_>) -> Log {
    let filter = env.or(name::LOG, values::text, "warn,linkerd=info".to_owned());
    let format = |text: &str| text.parse::<Format>().map_err(|error| error.to_string());
    Log {
        filter,
        format: env.or(name::LOG_FORMAT, format, Format::Plain),
    }
}

fn workers(env: &mut Env<'_>) -> usize {
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let ratio = env.optional(name::CORES_MAX_RATIO, values::ratio);
    let of_ratio = ratio.map(|ratio| (available as f64 * ratio).round() as usize);
    let (older, max) = (
        env.optional(name::CORES, values::number),
        env.optional(name::CORES_MAX, values::number),
    );
    let min: usize = env.or(name::CORES_MIN, values::number, 1);
    max.or(of_ratio).or(older).unwrap_or(1).max(min).clamp(1, available)
}

fn listen(env: &mut Env<'_>) -> Listen {
    let localhost = std::net::Ipv4Addr::LOCALHOST;
    let any = std::net::Ipv4Addr::UNSPECIFIED;
    let older = env.optional(name::OUTBOUND_LISTEN_ADDR, values::address);
    let outbound = env.optional(name::OUTBOUND_LISTEN_ADDRS, values::addresses);
    let default = || vec![older.unwrap_or_else(|| (localhost, ports::OUTBOUND).into())];
    Listen {
        outbound: outbound.unwrap_or_else(default),
        inbound: env.or(name::INBOUND_LISTEN_ADDR, values::address, (any, ports::INBOUND).into()),
        tap: env.or(name::CONTROL_LISTEN_ADDR, values::address, (any, ports::TAP).into()),
        admin: env.or(
            name::ADMIN_LISTEN_ADDR,
            values::address,
            (localhost, ports::ADMIN).into(),
        ),
    }
}

fn identity(env: &mut Env<'_>) -> Option<Identity> {
    if env.text("LINKERD2_PROXY_IDENTITY_DISABLED").is_some() {
        env.refuse(
            "LINKERD2_PROXY_IDENTITY_DISABLED",
            "a proxy without identity is not supported",
        );
    }
    let anchors = |text: &str| Anchors::from_pem(text).map_err(|error| error.to_string());
    let anchors = env.required(name::IDENTITY_TRUST_ANCHORS, anchors);
    let local_id = env.required(name::IDENTITY_LOCAL_NAME, values::id);
    let dir = env.required(name::IDENTITY_DIR, values::path);
    let token_file = env.required(name::IDENTITY_TOKEN_FILE, values::token_file);
    let min_refresh = env.or(name::IDENTITY_MIN_REFRESH, values::duration, defaults::MIN_REFRESH);
    let max_refresh = env.or(name::IDENTITY_MAX_REFRESH, values::duration, defaults::MAX_REFRESH);
    if min_refresh > max_refresh {
        env.refuse(
            name::IDENTITY_MIN_REFRESH,
            &format!("must not be longer than {}", name::IDENTITY_MAX_REFRESH),
        );
    }
    Some(Identity {
        local_id: local_id?,
        anchors: anchors?,
        dir: dir?,
        token_file: token_file?,
        min_refresh,
        max_refresh,
    })
}

fn control(env: &mut Env<'_>) -> Option<Control> {
    let destination = service(env, name::DESTINATION_SVC_ADDR, name::DESTINATION_SVC_NAME);
    let policy = service(env, name::POLICY_SVC_ADDR, name::POLICY_SVC_NAME);
    let identity = service(env, name::IDENTITY_SVC_ADDR, name::IDENTITY_SVC_NAME);
    // Both tokens are opaque, including a final newline.
    let workload = env.required(name::POLICY_WORKLOAD, values::text);
    let context = env.or(name::DESTINATION_CONTEXT, values::text, String::new());
    Some(Control {
        destination: destination?,
        policy: policy?,
        identity: identity?,
        workload: workload?,
        context,
    })
}

fn service(env: &mut Env<'_>, addr: &'static str, id: &'static str) -> Option<Service> {
    let tls = env.optional(id, |text| {
        TlsIdentity::dns(text.trim()).map_err(|error| error.to_string())
    });
    let addr: HostPort = env.required(addr, |text| text.trim().parse())?;
    if addr.is_loopback() {
        return Some(Service { addr, tls: None });
    }
    if tls.is_none() && env.text(id).is_none() {
        env.refuse(id, "required, because the service is not on this host");
    }
    tls.map(|tls| Service { addr, tls: Some(tls) })
}

fn discovery(env: &mut Env<'_>, inbound_detect: Duration, detect_timeout: Duration) -> Option<proxy_discovery::Config> {
    let cluster = env.or(name::POLICY_CLUSTER_NETWORKS, values::networks, Vec::new());
    let policy = |default| PortPolicy::new(default, cluster, inbound_detect).map_err(|error| error.to_string());
    let default_policy = match env.text(name::INBOUND_DEFAULT_POLICY) {
        None => policy(DefaultPolicy::default()).ok(),
        Some(_) => env.required(name::INBOUND_DEFAULT_POLICY, |text| {
            policy(text.trim().parse().map_err(|error: InvalidPolicy| error.to_string())?)
        }),
    };
    let opaque = ports::DEFAULT_OPAQUE.into_iter().collect();
    let limits = stream_limits(env);
    let on_loopback = |env: &Env<'_>, variable| {
        env.text(variable)
            .and_then(|text| text.trim().parse::<HostPort>().ok())
            .is_some_and(|addr| addr.is_loopback())
    };
    let is_control_plane = on_loopback(env, name::POLICY_SVC_ADDR) || on_loopback(env, name::IDENTITY_SVC_ADDR);
    let limits_of = |loopback| if loopback { StreamLimits::default() } else { limits };
    Some(proxy_discovery::Config {
        profile_networks: env.or(name::DESTINATION_PROFILE_NETWORKS, values::networks, Vec::new()),
        default_policy: default_policy?,
        // The control plane's own pods cannot wait for its answers.
        fail_open: env.or(name::INBOUND_FAIL_OPEN, values::boolean, is_control_plane),
        opaque_ports: env.or(name::INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION, values::ports, opaque),
        detect_timeout,
        outbound_idle: env.or(
            name::OUTBOUND_DISCOVERY_IDLE_TIMEOUT,
            values::duration,
            defaults::OUTBOUND_IDLE,
        ),
        inbound_idle: env.or(
            name::INBOUND_DISCOVERY_IDLE_TIMEOUT,
            values::duration,
            defaults::INBOUND_IDLE,
        ),
        destination_limits: limits_of(on_loopback(env, name::DESTINATION_SVC_ADDR)),
        policy_limits: limits_of(on_loopback(env, name::POLICY_SVC_ADDR)),
        ..proxy_discovery::Config::default()
    })
}

/// An empty value means unlimited here, as upstream's.
fn stream_limits(env: &mut Env<'_>) -> StreamLimits {
    let mut limit = |variable, default| match env.raw(variable) {
        Some("") => None,
        _ => Some(env.or(variable, values::duration, default)),
    };
    let limits = StreamLimits {
        initial: limit(name::CONTROL_STREAM_INITIAL_TIMEOUT, 3 * SECOND),
        idle: limit(name::CONTROL_STREAM_IDLE_TIMEOUT, 300 * SECOND),
        lifetime: limit(name::CONTROL_STREAM_LIFETIME, 3600 * SECOND),
    };
    let in_order = [limits.initial, limits.idle, limits.lifetime]
        .into_iter()
        .flatten()
        .is_sorted();
    if !in_order {
        let reason = format!(
            "must be at most {}, which must be at most {}",
            name::CONTROL_STREAM_IDLE_TIMEOUT,
            name::CONTROL_STREAM_LIFETIME
        );
        env.refuse(name::CONTROL_STREAM_INITIAL_TIMEOUT, &reason);
    }
    limits
}

fn ping(env: &mut Env<'_>, interval: &'static str, timeout: &'static str) -> Option<(Duration, Duration)> {
    let interval = env.optional(interval, values::duration);
    let timeout = env.optional(timeout, values::duration);
    interval.map(|interval| (interval, timeout.unwrap_or(defaults::PING_TIMEOUT)))
}

fn inbound(env: &mut Env<'_>) -> Inbound {
    Inbound {
        accept: SocketOptions {
            keepalive: env.optional(name::INBOUND_ACCEPT_KEEPALIVE, values::duration),
            user_timeout: env.optional(name::INBOUND_ACCEPT_USER_TIMEOUT, values::duration),
        },
        connect_timeout: env.or(
            name::INBOUND_CONNECT_TIMEOUT,
            values::duration,
            defaults::INBOUND_CONNECT_TIMEOUT,
        ),
        detect_timeout: env.or(name::INBOUND_DETECT_TIMEOUT, values::duration, defaults::DETECT_TIMEOUT),
        pool_idle: env.or(
            name::INBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT,
            values::duration,
            defaults::POOL_IDLE,
        ),
        ping: ping(
            env,
            name::INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL,
            name::INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT,
        ),
        ports: env.or(name::INBOUND_PORTS, values::ports, PortSet::default()),
        path_check: env.or(name::INBOUND_PATH_CHECK, values::boolean, true),
    }
}

fn outbound(env: &mut Env<'_>) -> Outbound {
    Outbound {
        connect: SocketOptions {
            keepalive: env.optional(name::OUTBOUND_CONNECT_KEEPALIVE, values::duration),
            user_timeout: env.optional(name::OUTBOUND_CONNECT_USER_TIMEOUT, values::duration),
        },
        connect_timeout: env.or(
            name::OUTBOUND_CONNECT_TIMEOUT,
            values::duration,
            defaults::OUTBOUND_CONNECT_TIMEOUT,
        ),
        detect_timeout: env.or(
            name::OUTBOUND_DETECT_TIMEOUT,
            values::duration,
            defaults::DETECT_TIMEOUT,
        ),
        failfast_timeout: env.or(
            name::OUTBOUND_HTTP_FAILFAST_TIMEOUT,
            values::duration,
            defaults::FAILFAST_TIMEOUT,
        ),
        pool_idle: env.or(
            name::OUTBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT,
            values::duration,
            defaults::POOL_IDLE,
        ),
        ping: ping(
            env,
            name::OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL,
            name::OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT,
        ),
        informational_headers: !env.or(name::OUTBOUND_DISABLE_INFORMATIONAL_HEADERS, values::boolean, false),
    }
}

#[cfg(test)]
mod tests;
