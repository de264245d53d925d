//! Redirection of a pod's traffic: the rules, and the init container that installs or checks them.

use std::time::Duration;

use injector_redirect::Rules;
use proxy_model::ports::PortSet;

use crate::spec::{ImageRef, SidecarSpec};

/// Redirection of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    /// Rules.
    pub rules: Rules,
    /// Program that installs them.
    pub method: RedirectMethod,
}

/// Program that installs the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedirectMethod {
    /// An init container.
    Init(InitContainer),
    /// A CNI plugin; an init container checks that it did.
    Cni(Validator),
}

/// Init container that installs the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitContainer {
    /// Image.
    pub image: ImageRef,
    /// User ID.
    pub uid: i64,
    /// Runs as root.
    pub root: bool,
    /// Time that the kernel tracks half-closed connections, in whole seconds; zero leaves the node's setting.
    pub close_wait: Duration,
    /// Log filter; empty leaves the program's default.
    pub log_level: String,
    /// Log format; empty leaves the program's default.
    pub log_format: String,
}

/// Init container that checks a CNI plugin's redirection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validator {
    /// Image.
    pub image: ImageRef,
    /// User ID.
    pub uid: i64,
    /// Address to connect to.
    pub connect_addr: String,
    /// Address that the connection must be redirected to.
    pub listen_addr: String,
    /// Timeout.
    pub timeout: String,
    /// Log filter.
    pub log_level: String,
    /// Log format.
    pub log_format: String,
}

impl SidecarSpec {
    /// Arguments of the init container.
    pub fn init_args(&self) -> Vec<String> {
        match &self.redirection.method {
            RedirectMethod::Init(init) => self.redirect_args(init),
            RedirectMethod::Cni(validator) => validator.args(),
        }
    }

    fn redirect_args(&self, init: &InitContainer) -> Vec<String> {
        let (rules, security) = (&self.redirection.rules, &self.security);
        let mut args = Args::default();
        if !rules.ipv6 {
            args.0.push("--ipv6=false".to_owned());
        }
        args.add("--incoming-proxy-port", rules.inbound_port.to_string());
        args.add("--outgoing-proxy-port", rules.outbound_port.to_string());
        args.add("--proxy-uid", security.uid.to_string());
        args.add(
            "--proxy-gid",
            security.gid.map(|gid| gid.to_string()).unwrap_or_default(),
        );
        args.add("--inbound-ports-to-ignore", port_list(&rules.inbound_skip));
        args.add("--outbound-ports-to-ignore", port_list(&rules.outbound_skip));
        if !init.close_wait.is_zero() {
            args.add("--timeout-close-wait-secs", init.close_wait.as_secs().to_string());
        }
        let networks: Vec<_> = rules.inbound_skip_from.iter().map(ToString::to_string).collect();
        args.add("--subnets-to-ignore", networks.join(","));
        args.add("--log-level", init.log_level.clone());
        args.add("--log-format", init.log_format.clone());
        args.0
    }
}

impl Validator {
    fn args(&self) -> Vec<String> {
        let mut args = Args::default();
        args.add("--log-format", self.log_format.clone());
        args.add("--log-level", self.log_level.clone());
        args.add("--connect-addr", self.connect_addr.clone());
        args.add("--listen-addr", self.listen_addr.clone());
        args.add("--timeout", self.timeout.clone());
        args.0
    }
}

/// Arguments; flags with an empty value are left out.
#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn add(&mut self, flag: &str, value: String) {
        if !value.is_empty() {
            self.0.extend([flag.to_owned(), value]);
        }
    }
}

/// Spells ports as annotations and flags do.
pub(crate) fn port_list(ports: &PortSet) -> String {
    let item = |(low, high): &(u16, u16)| {
        if low == high {
            low.to_string()
        } else {
            format!("{low}-{high}")
        }
    };
    ports.ranges().iter().map(item).collect::<Vec<_>>().join(",")
}
