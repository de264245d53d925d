//! Names of the proxy's environment variables, shared by its writers (injector, `mesh local`) and its reader.
//!
//! All are Linkerd's (`LINKERD2_PROXY_*`) but the last, which are ours (`MESH_PROXY_*`).

macro_rules! names {
    ($($(#[doc = $doc:literal])+ $name:ident;)*) => {
        $($(#[doc = $doc])+ pub const $name: &str = concat!("LINKERD2_PROXY_", stringify!($name));)*

        /// Linkerd's variables and their descriptions, in the order of declaration.
        pub const ALL: &[(&str, &str)] = &[$(($name, concat!($($doc),+))),*];
    };
}

names! {
    /// Number of workers.
    CORES;
    /// Minimum number of workers.
    CORES_MIN;
    /// Maximum number of workers.
    CORES_MAX;
    /// Maximum number of workers, as a share of the machine's cores.
    CORES_MAX_RATIO;
    /// Log filter.
    LOG;
    /// `plain` or `json`.
    LOG_FORMAT;
    /// Address of `Destination`.
    DESTINATION_SVC_ADDR;
    /// Identity of `Destination`.
    DESTINATION_SVC_NAME;
    /// Address of the policy APIs.
    POLICY_SVC_ADDR;
    /// Identity of the policy APIs.
    POLICY_SVC_NAME;
    /// Address of `Identity`.
    IDENTITY_SVC_ADDR;
    /// Identity of `Identity`.
    IDENTITY_SVC_NAME;
    /// Networks whose addresses are looked up in profiles.
    DESTINATION_PROFILE_NETWORKS;
    /// Networks that `cluster-*` policies admit.
    POLICY_CLUSTER_NETWORKS;
    /// Token that names this workload to the policy API.
    POLICY_WORKLOAD;
    /// Token that names this workload to `Destination`.
    DESTINATION_CONTEXT;
    /// Default policy of ports, for proxies that fail open.
    INBOUND_DEFAULT_POLICY;
    /// Time for a stream's first message.
    CONTROL_STREAM_INITIAL_TIMEOUT;
    /// Time without a message after which a stream is replaced.
    CONTROL_STREAM_IDLE_TIMEOUT;
    /// Age after which a stream is replaced.
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
    /// Address that tap listens on.
    CONTROL_LISTEN_ADDR;
    /// Address that the admin server listens on.
    ADMIN_LISTEN_ADDR;
    /// Outbound address (one; legacy).
    OUTBOUND_LISTEN_ADDR;
    /// Outbound addresses.
    OUTBOUND_LISTEN_ADDRS;
    /// Inbound address.
    INBOUND_LISTEN_ADDR;
    /// Addresses of this pod.
    INBOUND_IPS;
    /// Ports whose policy is watched from the start.
    INBOUND_PORTS;
    /// Ports that are opaque, until the control plane answers.
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
    /// Interval of PINGs of the inbound HTTP/2 server.
    INBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL;
    /// Time for the answer to such a PING.
    INBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT;
    /// Interval of PINGs of the outbound HTTP/2 server.
    OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL;
    /// Time for the answer to such a PING.
    OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT;
    /// Directory of key and CSR.
    IDENTITY_DIR;
    /// Trust anchors, PEM.
    IDENTITY_TRUST_ANCHORS;
    /// File of the service account's token.
    IDENTITY_TOKEN_FILE;
    /// Identity of this workload.
    IDENTITY_LOCAL_NAME;
    /// Earliest renewal of the leaf.
    IDENTITY_MIN_REFRESH;
    /// Latest renewal of the leaf.
    IDENTITY_MAX_REFRESH;
    /// Time that a drain may take.
    SHUTDOWN_GRACE_PERIOD;
    /// `true` allows POST /shutdown.
    SHUTDOWN_ENDPOINT_ENABLED;
    /// Identity that may tap; without it tap is off.
    TAP_SVC_NAME;
    /// `true` removes `l5d-proxy-error` from responses.
    OUTBOUND_DISABLE_INFORMATIONAL_HEADERS;
    /// `unsafe` enables the inbound label `authority`.
    INBOUND_METRICS_AUTHORITY_LABELS;
    /// Time that an idle HTTP/1 connection to an endpoint is kept.
    OUTBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT;
    /// Time that an idle HTTP/1 connection to the application is kept.
    INBOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT;
    /// Time without a ready endpoint after which outbound requests fail.
    OUTBOUND_HTTP_FAILFAST_TIMEOUT;
    /// Time without a ready endpoint after which outbound connections fail.
    OUTBOUND_TCP_FAILFAST_TIMEOUT;
    /// Time without a reachable application after which inbound requests fail.
    INBOUND_HTTP_FAILFAST_TIMEOUT;
    /// Ports whose clients must have an identity; the control plane reads it from the pod, for ports without a Server.
    INBOUND_PORTS_REQUIRE_IDENTITY;
    /// Ports whose clients must use mesh TLS; likewise.
    INBOUND_PORTS_REQUIRE_TLS;
    /// Suffixes of names that a gateway forwards to.
    INBOUND_GATEWAY_SUFFIXES;
    /// `true` enables routing by the header `l5d-dst-override`.
    INGRESS_MODE;
    /// `true` enables the outbound label `hostname`.
    OUTBOUND_METRICS_HOSTNAME_LABELS;
    /// `apache` or `json`.
    ACCESS_LOG;
    /// File with the pod's labels, which become attributes of spans.
    TRACE_ATTRIBUTES_PATH;
    /// File with the pod's annotations, likewise.
    TRACE_ANNOTATIONS_PATH;
    /// Protocol of the trace collector.
    TRACE_PROTOCOL;
    /// Name of the service in spans.
    TRACE_SERVICE_NAME;
    /// Address of the trace collector.
    TRACE_COLLECTOR_SVC_ADDR;
    /// Identity of the trace collector.
    TRACE_COLLECTOR_SVC_NAME;
    /// Further attributes of spans.
    TRACE_EXTRA_ATTRIBUTES;
}

/// Mark (`SO_MARK`) of the proxy's own sockets, which redirection ignores; for places where the proxy cannot have a uid
/// of its own (a private user namespace maps one uid).
pub const SOCKET_MARK: &str = "MESH_PROXY_SOCKET_MARK";
/// `true` serves a port whose policy is not known by the default policy.
pub const INBOUND_FAIL_OPEN: &str = "MESH_PROXY_INBOUND_FAIL_OPEN";
/// `false` forwards paths that the application may read differently from the policy.
pub const INBOUND_PATH_CHECK: &str = "MESH_PROXY_INBOUND_PATH_CHECK";

/// Our own variables and their descriptions.
pub const OURS: &[(&str, &str)] = &[
    (
        SOCKET_MARK,
        "Mark (`SO_MARK`) on the proxy's own sockets, which redirection lets pass; set by `mesh local`.",
    ),
    (
        INBOUND_FAIL_OPEN,
        "`true` serves a port by the default policy until the control plane has sent one. Without it such a port is \
         refused, and the proxy is not ready before it knows the policies of its declared ports. The default is `true` \
         for the control plane's own pods, which reach the policy or identity service on loopback, else `false`.",
    ),
    (
        INBOUND_PATH_CHECK,
        "`false` forwards requests whose path leads to another decision of the port's policy once the application has \
         decoded it, merged its slashes or dropped its parameters. Without it they are answered with 400.",
    ),
];
