//! Limits of the index, each with its reason. Those of objects are shared with the proxy (`proxy_model::limits`).

proxy_model::limits! {
    /// Distinct lookups of one kind with an answer; a proxy makes a few dozen, so this is enough for thousands of
    /// proxies.
    LOOKUPS: usize = 200_000;
    /// Expressions whose cost is remembered, so that a repeated list of all objects costs little; all are forgotten
    /// when there are more.
    KNOWN_PATTERNS: usize = 8_192;
    /// Bytes of an expression that is remembered: more than people write.
    KNOWN_PATTERN_BYTES: usize = 512;
    /// TrafficTargets of one service account; the oldest apply, and further ones allow nothing.
    ACCOUNT_TARGETS: usize = 64;
    /// Identities in the routes of those: each route repeats the sources of its target.
    ACCOUNT_IDENTITIES: usize = 16_384;
    /// Shapes of ports whose default policies are kept; a cluster has one for each set of probes. All are dropped when
    /// there are more.
    PORT_SHAPES: usize = 256;
}
