//! Names of the metrics that the control plane's programs count; `prometheus-client` adds `_total` to counters.

/// mesh-identity.
pub mod identity {
    /// Counter: certificates that were signed.
    pub const CERTIFICATES_ISSUED: &str = "mesh_identity_certificates_issued";
    /// Counter by `reason`: requests that were refused.
    pub const CERTIFICATES_REFUSED: &str = "mesh_identity_certificates_refused";
    /// Counter: new issuer files that were refused.
    pub const RELOADS_REFUSED: &str = "mesh_identity_issuer_reloads_refused";
    /// Gauge, Linkerd's own: seconds until the issuer expires.
    pub const ISSUER_CERT_TTL_SECONDS: &str = "issuer_cert_ttl_seconds";
}
