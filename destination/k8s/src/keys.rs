//! Labels and annotations that the mesh reads or writes, all Linkerd's own or Kubernetes'.

/// Switches injection on (`enabled`, `ingress`) or off (`disabled`), on a namespace or a pod template.
pub const INJECT: &str = "linkerd.io/inject";
/// Value of [`INJECT`] that switches injection on.
pub const INJECT_ENABLED: &str = "enabled";
/// All values that [`INJECT`] may have.
pub const INJECT_VALUES: [&str; 3] = [INJECT_ENABLED, "ingress", "disabled"];
/// Marks a meshed pod, with its control plane's namespace.
pub const CONTROL_PLANE_NS: &str = "linkerd.io/control-plane-ns";
/// Namespace of a meshed pod's workload.
pub const WORKLOAD_NS: &str = "linkerd.io/workload-ns";
/// Deployment of a meshed pod.
pub const PROXY_DEPLOYMENT: &str = "linkerd.io/proxy-deployment";
/// Component of the control plane.
pub const CONTROL_PLANE_COMPONENT: &str = "linkerd.io/control-plane-component";
/// Ports that are bytes, on a pod, namespace or Service.
pub const OPAQUE_PORTS: &str = "config.linkerd.io/opaque-ports";
/// Ports that the sidecar never sees, inbound.
pub const SKIP_INBOUND_PORTS: &str = "config.linkerd.io/skip-inbound-ports";
/// Ports that the sidecar never sees, outbound.
pub const SKIP_OUTBOUND_PORTS: &str = "config.linkerd.io/skip-outbound-ports";
/// Policy of ports without a Server, on a pod or namespace.
pub const DEFAULT_INBOUND_POLICY: &str = "config.linkerd.io/default-inbound-policy";
/// Ports whose clients must have an identity.
pub const REQUIRE_IDENTITY_PORTS: &str = "config.linkerd.io/proxy-require-identity-inbound-ports";
/// Inbound port of the sidecar.
pub const INBOUND_PORT: &str = "config.linkerd.io/inbound-port";
/// Switches tap off for a namespace or pod.
pub const DISABLE_TAP: &str = "viz.linkerd.io/disable-tap";
/// Opts a ServiceProfile out of what TrafficSplits do.
pub const SMI_SKIP: &str = "smi.linkerd.io/skip";

/// Which retries, HTTP.
pub const RETRY_HTTP: &str = "retry.linkerd.io/http";
/// Which retries, gRPC.
pub const RETRY_GRPC: &str = "retry.linkerd.io/grpc";
/// How many retries.
pub const RETRY_LIMIT: &str = "retry.linkerd.io/limit";
/// Time for one attempt.
pub const RETRY_TIMEOUT: &str = "retry.linkerd.io/timeout";
/// Time for the whole exchange.
pub const TIMEOUT_REQUEST: &str = "timeout.linkerd.io/request";
/// Time for the response.
pub const TIMEOUT_RESPONSE: &str = "timeout.linkerd.io/response";
/// Time without a frame.
pub const TIMEOUT_IDLE: &str = "timeout.linkerd.io/idle";

/// Which breaker: `consecutive` or `unified`.
pub const FAILURE_ACCRUAL: &str = "balancer.linkerd.io/failure-accrual";
/// Failures in a row.
pub const ACCRUAL_MAX_FAILURES: &str = "balancer.linkerd.io/failure-accrual-consecutive-max-failures";
/// Shortest penalty.
pub const ACCRUAL_MIN_PENALTY: &str = "balancer.linkerd.io/failure-accrual-consecutive-min-penalty";
/// Longest penalty.
pub const ACCRUAL_MAX_PENALTY: &str = "balancer.linkerd.io/failure-accrual-consecutive-max-penalty";
/// Jitter of penalties.
pub const ACCRUAL_JITTER: &str = "balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio";
/// Success rate below which the breaker opens.
pub const ACCRUAL_SUCCESS_RATE: &str = "balancer.alpha.linkerd.io/failure-accrual-success-rate-threshold";
/// Window of that rate.
pub const ACCRUAL_WINDOW: &str = "balancer.alpha.linkerd.io/failure-accrual-success-rate-window";
/// Requests before that rate counts.
pub const ACCRUAL_MIN_REQUESTS: &str = "balancer.alpha.linkerd.io/failure-accrual-success-rate-min-requests";
/// A response's `retry-after` is the first penalty.
pub const ACCRUAL_HONOR_RETRY_AFTER: &str = "balancer.alpha.linkerd.io/failure-accrual-honor-retry-after";
/// Switches the load biaser on.
pub const PENALIZE_FAILURES: &str = "balancer.alpha.linkerd.io/penalize-failures";
/// Penalty of the load biaser.
pub const BIASER_PENALTY: &str = "balancer.alpha.linkerd.io/load-biaser-penalty";
/// Largest `retry-after` that the load biaser counts.
pub const BIASER_MAX_RETRY_AFTER: &str = "balancer.alpha.linkerd.io/load-biaser-max-retry-after";

/// Service of an EndpointSlice.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Zone of a node.
pub const TOPOLOGY_ZONE: &str = "topology.kubernetes.io/zone";
/// Hash of a pod's template.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// Name of the sidecar's container.
pub const PROXY_CONTAINER: &str = "linkerd-proxy";
/// Group of Linkerd's policy kinds.
pub const POLICY_GROUP: &str = "policy.linkerd.io";
/// Group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// Group of SMI's splits.
pub const SPLIT_GROUP: &str = "split.smi-spec.io";
/// Group of ServiceProfiles.
pub const PROFILE_GROUP: &str = "linkerd.io";
/// Group that upstream writes for core kinds.
pub const CORE_GROUP: &str = "core";
