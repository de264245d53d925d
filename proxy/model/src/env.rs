//! Names of the proxy's environment, so that who writes it (injector, `mesh local`) and who reads it agree.
//!
//! All are Linkerd's own (`LINKERD2_PROXY_*`), but for the few at the end, which are ours.

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $($(#[$doc])* pub const $name: &str = concat!("LINKERD2_PROXY_", stringify!($name));)*
    };
}

names! {
    /// Workers.
    CORES;
    /// Fewest workers.
    CORES_MIN;
    /// Most workers.
    CORES_MAX;
    /// Share of the machine's cores.
    CORES_MAX_RATIO;
    /// Log filter.
    LOG;
    /// `plain` or `json`.
    LOG_FORMAT;
    /// Where `Destination` is.
    DESTINATION_SVC_ADDR;
    /// Who it is.
    DESTINATION_SVC_NAME;
    /// Where the policy APIs are.
    POLICY_SVC_ADDR;
    /// Who they are.
    POLICY_SVC_NAME;
    /// Where `Identity` is.
    IDENTITY_SVC_ADDR;
    /// Who it is.
    IDENTITY_SVC_NAME;
    /// Networks for whose addresses profiles are looked up.
    DESTINATION_PROFILE_NETWORKS;
    /// Networks that `cluster-*` policies mean.
    POLICY_CLUSTER_NETWORKS;
    /// Token that names this workload to the policy API.
    POLICY_WORKLOAD;
    /// Token that names this workload to `Destination`.
    DESTINATION_CONTEXT;
    /// Policy until the control plane says another.
    INBOUND_DEFAULT_POLICY;
    /// Time for a stream's first message.
    CONTROL_STREAM_INITIAL_TIMEOUT;
    /// Time without a message after which a stream is asked again.
    CONTROL_STREAM_IDLE_TIMEOUT;
    /// Age after which a stream is asked again.
    CONTROL_STREAM_LIFETIME;
    /// Time to connect to the application.
    INBOUND_CONNECT_TIMEOUT;
    /// Time to connect to an endpoint.
    OUTBOUND_CONNECT_TIMEOUT;
    /// Time that an unused outbound lookup is kept.
    OUTBOUND_DISCOVERY_IDLE_TIMEOUT;
    /// Time that an unused inbound lookup is kept.
    INBOUND_DISCOVERY_IDLE_TIMEOUT;
    /// Time for the first bytes, outbound.
    OUTBOUND_DETECT_TIMEOUT;
    /// Time for the first bytes, inbound.
    INBOUND_DETECT_TIMEOUT;
    /// Tap's address.
    CONTROL_LISTEN_ADDR;
    /// Admin's address.
    ADMIN_LISTEN_ADDR;
    /// Outbound address (one; older).
    OUTBOUND_LISTEN_ADDR;
    /// Outbound addresses.
    OUTBOUND_LISTEN_ADDRS;
    /// Inbound address.
    INBOUND_LISTEN_ADDR;
    /// Addresses of this pod.
    INBOUND_IPS;
    /// Ports whose policy is watched from the start.
    INBOUND_PORTS;
    /// Ports that are opaque until the control plane says otherwise.
    INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION;
    /// Suffixes of names that may have profiles.
    DESTINATION_PROFILE_SUFFIXES;
    /// TCP keepalive of accepted connections.
    INBOUND_ACCEPT_KEEPALIVE;
    /// TCP keepalive of connections to endpoints.
    OUTBOUND_CONNECT_KEEPALIVE;
    /// TCP_USER_TIMEOUT of accepted connections.
    INBOUND_ACCEPT_USER_TIMEOUT;
    /// TCP_USER_TIMEOUT of connections to endpoints.
    OUTBOUND_CONNECT_USER_TIMEOUT;
    /// PINGs of the inbound HTTP/2 server.
    INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL;
    /// Time for their answer.
    INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT;
    /// PINGs of the outbound HTTP/2 server.
    OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL;
    /// Time for their answer.
    OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT;
    /// Folder of key and CSR.
    IDENTITY_DIR;
    /// Trust anchors, PEM.
    IDENTITY_TRUST_ANCHORS;
    /// File of the service account's token.
    IDENTITY_TOKEN_FILE;
    /// Who this workload is.
    IDENTITY_LOCAL_NAME;
    /// Soonest renewal.
    IDENTITY_MIN_REFRESH;
    /// Latest renewal.
    IDENTITY_MAX_REFRESH;
    /// Time that a drain may take.
    SHUTDOWN_GRACE_PERIOD;
    /// `true` allows POST /shutdown.
    SHUTDOWN_ENDPOINT_ENABLED;
    /// Who may tap; tap is off without it.
    TAP_SVC_NAME;
    /// `true` means responses carry no `l5d-proxy-error`.
    OUTBOUND_DISABLE_INFORMATIONAL_HEADERS;
    /// `unsafe` turns the inbound `authority` label on.
    INBOUND_METRICS_AUTHORITY_LABELS;
    /// Time that an idle HTTP/1 connection to an endpoint is kept.
    OUTBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT;
    /// Time that an idle HTTP/1 connection to the application is kept.
    INBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT;
    /// Time that nothing may be ready before requests fail, outbound HTTP.
    OUTBOUND_HTTP_FAILFAST_TIMEOUT;
    /// Time that nothing may be ready before connections fail, outbound TCP.
    OUTBOUND_TCP_FAILFAST_TIMEOUT;
    /// Time that the application may be unreachable before requests fail.
    INBOUND_HTTP_FAILFAST_TIMEOUT;
    /// Ports whose clients must have an identity; the control plane acts on it, the proxy does not.
    INBOUND_PORTS_REQUIRE_IDENTITY;
    /// Ports whose clients must speak TLS; likewise.
    INBOUND_PORTS_REQUIRE_TLS;
    /// Suffixes of names that a gateway forwards for.
    INBOUND_GATEWAY_SUFFIXES;
    /// `true`: requests say by header where they go.
    INGRESS_MODE;
    /// Whether outbound metrics name hosts.
    OUTBOUND_METRICS_HOSTNAME_LABELS;
    /// `apache` or `json`.
    ACCESS_LOG;
    /// File of the pod's labels, which become attributes of spans.
    TRACE_ATTRIBUTES_PATH;
    /// File of the pod's annotations, likewise.
    TRACE_ANNOTATIONS_PATH;
    /// How spans are told.
    TRACE_PROTOCOL;
    /// Name of the service in spans.
    TRACE_SERVICE_NAME;
    /// Where spans go.
    TRACE_COLLECTOR_SVC_ADDR;
    /// Who takes them.
    TRACE_COLLECTOR_SVC_NAME;
    /// More attributes of spans.
    TRACE_EXTRA_ATTRIBUTES;
}

/// Ours: mark (`SO_MARK`) on the proxy's own sockets, which redirection lets pass; for places where a uid of its own is
/// not to be had (a private user namespace maps one uid).
pub const SOCKET_MARK: &str = "MESH_PROXY_SOCKET_MARK";
