//! Exceptions to the rules, each with its reason. One that is not needed any more is itself a violation.

/// Something that may be larger than the rule says.
pub(crate) struct Size {
    /// `path` of a file, or `path::function`.
    pub(crate) what: &'static str,
    pub(crate) lines: usize,
    #[expect(dead_code, reason = "read by people")]
    pub(crate) reason: &'static str,
}

/// Functions and files.
pub(crate) const SIZES: &[Size] = &[];

/// Something that breaks a rule.
pub(crate) struct Exception {
    pub(crate) what: &'static str,
    #[expect(dead_code, reason = "read by people")]
    pub(crate) reason: &'static str,
}

/// Files and directories that the rules of language, names and loops do not apply to yet.
pub(crate) const NOT_YET: &[Exception] = &[];

/// Files and directories with texts that must stay as they are.
pub(crate) const LANGUAGE: &[Exception] = &[
    Exception {
        what: "charts/release/src/oci.rs",
        reason: "the user of an image that is called so",
    },
    Exception {
        what: "tests/tidy/src/english.rs",
        reason: "it lists the words that are banned",
    },
];

/// Types that share their name in one crate, as `package: name`.
pub(crate) const NAMES: &[Exception] = &[
    Exception {
        what: "cli: Keys",
        reason: "one type for two kinds of terminals, of which a build has one",
    },
    Exception {
        what: "cli/local: Args",
        reason: "arguments of each command of `mesh local`, named with its module",
    },
    Exception {
        what: "destination/index: Key",
        reason: "key of each view, used in its module only",
    },
    Exception {
        what: "identity: Error",
        reason: "errors of the issuer and of tokens, named with their module",
    },
    Exception {
        what: "identity: Reload",
        reason: "reloads of the issuer and of token keys, named with their module",
    },
    Exception {
        what: "injector/init: Args",
        reason: "arguments of both modes of the program, named with their module",
    },
    Exception {
        what: "injector/init: Error",
        reason: "errors of both modes of the program, named with their module",
    },
    Exception {
        what: "injector/sidecar: Workers",
        reason: "the values of the chart, and those of one sidecar",
    },
    Exception {
        what: "proxy: Server",
        reason: "the admin and the tap server, named with their module",
    },
    Exception {
        what: "proxy/http: Error",
        reason: "the error of requests, and that of upgrades, named with its module",
    },
    Exception {
        what: "proxy/model: Action",
        reason: "the same term of inbound and outbound policy, named with its module",
    },
    Exception {
        what: "proxy/model: GrpcRoute",
        reason: "the same term of inbound and outbound policy, named with its module",
    },
    Exception {
        what: "proxy/model: HttpRoute",
        reason: "the same term of inbound and outbound policy, named with its module",
    },
];

/// Loops of modules, as `package: parent::{a, b}` with the members sorted.
pub(crate) const LOOPS: &[Exception] = &[
    Exception {
        what: "cli: demo::check::{counters, load}",
        reason: "the load is judged by the counters, which are those of the load",
    },
    Exception {
        what: "destination/source: cluster::{reflector, state, watch}",
        reason: "a watch is a reflector and its state",
    },
    Exception {
        what: "injector/cni: plugin::{cluster, pod}",
        reason: "the pod is read from the cluster, and refused as the plugin's errors say",
    },
    Exception {
        what: "injector/sidecar: {config, parse, redirection, spec}",
        reason: "one specification: values of the chart, and annotations that change them",
    },
    Exception {
        what: "proxy/http: {body, client, http2, pool, replay, server, tap}",
        reason: "one type of body for all sides, so that it needs no allocation; it names those that make it",
    },
    Exception {
        what: "proxy/inbound: {accept, direct}",
        reason: "a direct connection is accepted like another one after its header",
    },
    Exception {
        what: "proxy/inbound: {http, request, tap}",
        reason: "a tap observes requests as they pass",
    },
    Exception {
        what: "proxy/metrics: {control, process, registry, tcp, text}",
        reason: "the registry prints all families, which register there",
    },
    Exception {
        what: "proxy/model: {defaults, inbound, route}",
        reason: "defaults are values of the types that they are defaults of",
    },
    Exception {
        what: "proxy/tls: {config, credentials}",
        reason: "a configuration is rebuilt for each new credentials",
    },
];

impl Exception {
    /// Returns whether it applies to a violation, which begins with a path.
    pub(crate) fn covers(&self, violation: &str) -> bool {
        violation
            .strip_prefix(self.what)
            .is_some_and(|rest| rest.starts_with(['/', ':']))
    }
}

/// Returns whether all rules apply to the place of a violation.
pub(crate) fn is_checked(violation: &str) -> bool {
    !NOT_YET.iter().any(|exception| exception.covers(violation))
}

/// The exceptions as lines of a failure.
pub(crate) fn list<'a>(exceptions: impl Iterator<Item = &'a Exception>) -> Vec<String> {
    exceptions.map(|exception| exception.what.to_owned()).collect()
}
