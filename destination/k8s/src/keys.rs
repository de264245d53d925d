//! Labels and annotations that the mesh reads or writes; all are Linkerd's or Kubernetes' own, unless noted.

/// Enables injection (`enabled`, `ingress`) or disables it (`disabled`), on a namespace or a pod template.
pub const INJECT: &str = "linkerd.io/inject";
/// Value of [`INJECT`] that enables injection.
pub const INJECT_ENABLED: &str = "enabled";
/// Valid values of [`INJECT`].
pub const INJECT_VALUES: [&str; 3] = [INJECT_ENABLED, "ingress", "disabled"];
/// Marks a meshed pod, with its control plane's namespace.
pub const CONTROL_PLANE_NS: &str = "linkerd.io/control-plane-ns";
/// Namespace of a meshed pod's workload.
pub const WORKLOAD_NS: &str = "linkerd.io/workload-ns";
/// Deployment of a meshed pod.
pub const PROXY_DEPLOYMENT: &str = "linkerd.io/proxy-deployment";
/// Component of the control plane.
pub const CONTROL_PLANE_COMPONENT: &str = "linkerd.io/control-plane-component";
/// Opaque ports of a pod, namespace or Service.
pub const OPAQUE_PORTS: &str = "config.linkerd.io/opaque-ports";
/// Inbound ports that bypass the sidecar.
pub const SKIP_INBOUND_PORTS: &str = "config.linkerd.io/skip-inbound-ports";
/// Outbound ports that bypass the sidecar.
pub const SKIP_OUTBOUND_PORTS: &str = "config.linkerd.io/skip-outbound-ports";
/// Default policy for ports without a Server, on a pod or namespace.
pub const DEFAULT_INBOUND_POLICY: &str = "config.linkerd.io/default-inbound-policy";
/// Ports whose clients must have an identity.
pub const REQUIRE_IDENTITY_PORTS: &str = "config.linkerd.io/proxy-require-identity-inbound-ports";
/// Inbound port of the sidecar.
pub const INBOUND_PORT: &str = "config.linkerd.io/inbound-port";
/// Disables tap for a namespace or pod.
pub const DISABLE_TAP: &str = "viz.linkerd.io/disable-tap";
/// Exempts a ServiceProfile from TrafficSplits.
pub const SMI_SKIP: &str = "smi.linkerd.io/skip";

/// HTTP statuses to retry.
pub const RETRY_HTTP: &str = "retry.linkerd.io/http";
/// gRPC statuses to retry.
pub const RETRY_GRPC: &str = "retry.linkerd.io/grpc";
/// Maximum number of retries.
pub const RETRY_LIMIT: &str = "retry.linkerd.io/limit";
/// Timeout for one attempt.
pub const RETRY_TIMEOUT: &str = "retry.linkerd.io/timeout";
/// Timeout for the whole exchange.
pub const TIMEOUT_REQUEST: &str = "timeout.linkerd.io/request";
/// Timeout for the response.
pub const TIMEOUT_RESPONSE: &str = "timeout.linkerd.io/response";
/// Longest time without a frame.
pub const TIMEOUT_IDLE: &str = "timeout.linkerd.io/idle";

/// Kind of breaker: `consecutive` or `unified`.
pub const FAILURE_ACCRUAL: &str = "balancer.linkerd.io/failure-accrual";
/// Consecutive failures that open the breaker.
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
/// Requests needed before that rate counts.
pub const ACCRUAL_MIN_REQUESTS: &str = "balancer.alpha.linkerd.io/failure-accrual-success-rate-min-requests";
/// Endpoints that stay, however they fail. 0 lets all be ejected, and without it the last of several stays. This key
/// is the mesh's own.
pub const ACCRUAL_MIN_READY: &str = "balancer.linkerd.io/failure-accrual-min-ready";
/// Largest share of the endpoints that is ejected at a time, in percent. One may always be, unless it is 0. This key is
/// the mesh's own.
pub const ACCRUAL_MAX_EJECTED: &str = "balancer.linkerd.io/failure-accrual-max-ejected-percent";
/// Lengthens an ejection to a response's `retry-after`, up to the longest penalty. Acts with `unified` only.
pub const ACCRUAL_HONOR_RETRY_AFTER: &str = "balancer.alpha.linkerd.io/failure-accrual-honor-retry-after";
/// Enables the load biaser.
pub const PENALIZE_FAILURES: &str = "balancer.alpha.linkerd.io/penalize-failures";
/// Penalty of the load biaser.
pub const BIASER_PENALTY: &str = "balancer.alpha.linkerd.io/load-biaser-penalty";
/// Largest `retry-after` that the load biaser honors.
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
/// Group of SMI's TrafficTargets.
pub const ACCESS_GROUP: &str = "access.smi-spec.io";
/// Group of the traffic that they name.
pub const SPECS_GROUP: &str = proxy_model::inbound::ADDITIVE_GROUP;
/// Group of ServiceProfiles.
pub const PROFILE_GROUP: &str = "linkerd.io";
/// Group that upstream writes for core kinds.
pub const CORE_GROUP: &str = "core";
