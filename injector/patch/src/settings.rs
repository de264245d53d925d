//! What holds for one pod: the chart's values, changed by annotations. Every value is read here, and a wrong one is an
//! error that names its annotation.

use std::time::Duration;

use destination_k8s::{duration, keys, quantity};
use ipnet::IpNet;
use proxy_model::ports::PortSet;
use serde_json::Value;

use crate::{
    Error,
    annotations::{self as a, Annotations},
    config::{Amount, Config, EnvVar, Image, Ports, Resources},
    pod::PodPorts,
};

/// Words for the policy of ports without a Server.
pub const POLICIES: [&str; 6] = [
    "all-unauthenticated",
    "all-authenticated",
    "cluster-unauthenticated",
    "cluster-authenticated",
    "deny",
    "audit",
];
const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const PORT_LIST: &str = "a list of ports and ranges of ports, such as 25,8000-8010";
const BOOL: &str = "true or false";
const SWITCH: &str = "enabled or disabled";
const DURATION: &str = "a duration such as 500ms, 10s or 1m30s";
const QUANTITY: &str = "an amount such as 100m, 1 or 250Mi";
/// Longest name of a port, as Kubernetes has it.
const PORT_NAME_MAX: usize = 15;
/// How long "for ever" is, where detection must not end.
const NO_DETECT_TIMEOUT: &str = "365d";

/// What holds for one pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) ingress: bool,
    pub(crate) gateway: bool,
    pub(crate) native: bool,
    pub(crate) awaits: bool,
    pub(crate) image: ImageRef,
    pub(crate) init_image: ImageRef,
    pub(crate) validator_image: ImageRef,
    pub(crate) debug: Option<ImageRef>,
    pub(crate) ports: Ports,
    pub(crate) uid: i64,
    pub(crate) gid: Option<i64>,
    pub(crate) log: String,
    pub(crate) log_format: String,
    pub(crate) access_log: Option<String>,
    pub(crate) skip_inbound: String,
    pub(crate) skip_outbound: String,
    pub(crate) skip_subnets: String,
    pub(crate) close_wait_secs: u64,
    pub(crate) opaque_ports: String,
    pub(crate) inbound_ports: String,
    pub(crate) require_identity: String,
    pub(crate) default_policy: String,
    pub(crate) resources: Resources,
    pub(crate) workers: Workers,
    pub(crate) times: Times,
    pub(crate) external_profiles: bool,
    pub(crate) hostname_labels: bool,
    pub(crate) admin_shutdown: bool,
    pub(crate) wait_before_exit: u32,
    pub(crate) tap: bool,
    pub(crate) additional_env: Vec<EnvVar>,
}

/// An image as a container names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRef {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) pull_policy: String,
}

/// Workers; nothing is not said.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Workers {
    pub(crate) min: Option<u32>,
    pub(crate) max: Option<u32>,
    pub(crate) ratio: Option<f64>,
}

/// Times, as the environment writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) outbound_connect: String,
    pub(crate) inbound_connect: String,
    pub(crate) outbound_discovery: String,
    pub(crate) inbound_discovery: String,
    pub(crate) outbound_detect: Option<&'static str>,
    pub(crate) inbound_detect: Option<&'static str>,
    pub(crate) shutdown_grace: Option<String>,
}

/// What settings are read from.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) config: &'a Config,
    pub(crate) annotations: Annotations<'a>,
    pub(crate) ports: &'a PodPorts,
    /// Whether this is a part of the control plane, which talks to the API server and redirects nothing of that.
    pub(crate) control_plane: bool,
}

impl Settings {
    /// Reads them all; the first wrong annotation is the error.
    pub(crate) fn read(source: Source<'_>) -> Result<Self, Error> {
        let Source {
            config,
            annotations,
            ports,
            ..
        } = source;
        let proxy = &config.proxy;
        let pull = source.word(a::IMAGE_PULL_POLICY, &PULL_POLICIES)?;
        let name = source.image_part(a::PROXY_IMAGE)?;
        let version = source.image_part(a::PROXY_VERSION)?;
        Ok(Self {
            ingress: annotations.get(keys::INJECT) == Some("ingress"),
            gateway: annotations.own(a::ENABLE_GATEWAY) == Some("true"),
            native: source.native()?,
            awaits: source.switch(a::PROXY_AWAIT)?.unwrap_or(proxy.r#await),
            image: source.image(&proxy.image, name, version, pull),
            init_image: source.image(&config.proxy_init.image, None, None, pull),
            validator_image: source.image(&config.network_validator.image, None, None, pull),
            debug: source.debug_image()?,
            ports: source.proxy_ports()?,
            uid: source.number(a::PROXY_UID)?.unwrap_or(proxy.uid),
            gid: Some(source.number(a::PROXY_GID)?.unwrap_or(proxy.gid)).filter(|gid| *gid >= 0),
            log: source.log()?,
            log_format: source
                .word(a::PROXY_LOG_FORMAT, &["plain", "json"])?
                .unwrap_or(&proxy.log_format)
                .into(),
            access_log: source.access_log()?,
            skip_inbound: source.port_list(a::SKIP_INBOUND_PORTS, &config.proxy_init.ignore_inbound_ports)?,
            skip_outbound: source.port_list(a::SKIP_OUTBOUND_PORTS, source.outbound_ignored())?,
            skip_subnets: source.subnets()?,
            close_wait_secs: source.close_wait()?,
            opaque_ports: source.opaque_ports()?,
            inbound_ports: source.port_list(a::POD_INBOUND_PORTS, &ports.inbound_list())?,
            require_identity: source.port_list(a::REQUIRE_IDENTITY_PORTS, &proxy.require_identity_on_inbound_ports)?,
            default_policy: source
                .word(a::DEFAULT_INBOUND_POLICY, &POLICIES)?
                .unwrap_or(&proxy.default_inbound_policy)
                .into(),
            resources: source.resources()?,
            workers: source.workers()?,
            times: source.times()?,
            external_profiles: source
                .bool(a::ENABLE_EXTERNAL_PROFILES)?
                .unwrap_or(proxy.enable_external_profiles),
            hostname_labels: source
                .bool(a::METRICS_HOSTNAME_LABELS)?
                .unwrap_or(proxy.metrics.hostname_labels),
            admin_shutdown: source
                .switch(a::PROXY_ADMIN_SHUTDOWN)?
                .unwrap_or(proxy.enable_shutdown_endpoint),
            wait_before_exit: source.wait_before_exit()?,
            tap: !proxy.tap_identity.is_empty() && annotations.get(keys::DISABLE_TAP) != Some("true"),
            additional_env: source.additional_env()?,
        })
    }
}

impl<'a> Source<'a> {
    fn word(self, key: &str, words: &[&'static str]) -> Result<Option<&'a str>, Error> {
        let expected = format!("one of {}", words.join(", "));
        self.annotations
            .read(key, &expected, |text| words.contains(&text).then_some(text))
    }

    fn bool(self, key: &str) -> Result<Option<bool>, Error> {
        self.annotations.read(key, BOOL, |text| text.parse().ok())
    }

    fn switch(self, key: &str) -> Result<Option<bool>, Error> {
        self.annotations.read(key, SWITCH, |text| match text {
            "enabled" => Some(true),
            "disabled" => Some(false),
            _ => None,
        })
    }

    fn number(self, key: &str) -> Result<Option<i64>, Error> {
        self.annotations.read(key, "a whole number", |text| text.parse().ok())
    }

    fn port(self, key: &str, default: u16) -> Result<u16, Error> {
        let parse = |text: &str| text.parse().ok().filter(|port| *port != 0);
        Ok(self
            .annotations
            .read(key, "a port from 1 to 65535", parse)?
            .unwrap_or(default))
    }

    fn port_list(self, key: &str, default: &str) -> Result<String, Error> {
        let parse = |text: &str| text.parse::<PortSet>().ok().map(|ports| written(&ports));
        let said = self.annotations.read(key, PORT_LIST, parse)?;
        Ok(said.unwrap_or_else(|| default.to_owned()))
    }

    fn duration(self, key: &str) -> Result<Option<Duration>, Error> {
        let parse = |text: &str| duration::go(text).or_else(|| duration::annotation(text));
        self.annotations.read(key, DURATION, parse)
    }

    /// Of the three names of the annotation the newest counts; a workload's older one beats a namespace's newer one.
    fn native(self) -> Result<bool, Error> {
        let names = [a::NATIVE_SIDECAR, a::NATIVE_SIDECAR_BETA, a::NATIVE_SIDECAR_ALPHA];
        let own = names.into_iter().find(|key| self.annotations.own(key).is_some());
        let key = own.or_else(|| {
            names
                .into_iter()
                .find(|key| self.annotations.of_namespace(key).is_some())
        });
        let said = key.map(|key| self.bool(key)).transpose()?.flatten();
        Ok(said.unwrap_or(self.config.proxy.native_sidecar) && !self.config.no_native_sidecars)
    }

    fn image_part(self, key: &str) -> Result<Option<&'a str>, Error> {
        let parse = |text: &'a str| (!text.is_empty() && !text.contains(char::is_whitespace)).then_some(text);
        self.annotations.read(key, "a part of an image's name", parse)
    }

    fn image(self, image: &Image, name: Option<&str>, version: Option<&str>, pull: Option<&str>) -> ImageRef {
        let or = |said: &str, default: &str| if said.is_empty() { default } else { said }.to_owned();
        ImageRef {
            name: name.unwrap_or(&image.name).to_owned(),
            version: version.map_or_else(|| or(&image.version, &self.config.linkerd_version), str::to_owned),
            pull_policy: pull.map_or_else(|| or(&image.pull_policy, &self.config.image_pull_policy), str::to_owned),
        }
    }

    fn debug_image(self) -> Result<Option<ImageRef>, Error> {
        let name = self.image_part(a::DEBUG_IMAGE)?;
        let version = self.image_part(a::DEBUG_IMAGE_VERSION)?;
        let pull = self.word(a::DEBUG_IMAGE_PULL_POLICY, &PULL_POLICIES)?;
        if self.bool(a::ENABLE_DEBUG_SIDECAR)? != Some(true) {
            return Ok(None);
        }
        let image = self.image(&self.config.debug_container.image, name, version, pull);
        if image.name.is_empty() {
            Err(Error::NoDebugImage)
        } else {
            Ok(Some(image))
        }
    }

    fn proxy_ports(self) -> Result<Ports, Error> {
        let defaults = self.config.proxy.ports;
        Ok(Ports {
            inbound: self.port(a::INBOUND_PORT, defaults.inbound)?,
            outbound: self.port(a::OUTBOUND_PORT, defaults.outbound)?,
            admin: self.port(a::ADMIN_PORT, defaults.admin)?,
            control: self.port(a::CONTROL_PORT, defaults.control)?,
        })
    }

    fn log(self) -> Result<String, Error> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "_:=,.-/[]{}\"' ".contains(c);
        let parse = |text: &'a str| (!text.is_empty() && text.chars().all(legal)).then_some(text);
        let filter = self
            .annotations
            .read(a::PROXY_LOG_LEVEL, "a log filter such as warn,linkerd=debug", parse)?;
        let filter = filter.unwrap_or(&self.config.proxy.log_level);
        let headers = self.word(a::PROXY_LOG_HTTP_HEADERS, &["off", "insecure"])?;
        // Headers hold secrets; without these directives a filter of `trace` would print them.
        Ok(match headers.unwrap_or(&self.config.proxy.log_http_headers) {
            "insecure" => filter.to_owned(),
            _ => format!("{filter},[{{headers}}]=off,[{{request}}]=off"),
        })
    }

    fn access_log(self) -> Result<Option<String>, Error> {
        let said = self
            .word(a::ACCESS_LOG, &["apache", "json"])?
            .unwrap_or(&self.config.proxy.access_log);
        Ok(Some(said.to_owned()).filter(|said| !said.is_empty()))
    }

    fn outbound_ignored(self) -> &'a str {
        let init = &self.config.proxy_init;
        if self.control_plane {
            &init.kube_api_server_ports
        } else {
            &init.ignore_outbound_ports
        }
    }

    fn subnets(self) -> Result<String, Error> {
        let parse = |text: &'a str| {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let known = items.map(|item| item.parse::<IpNet>().ok().map(|_| item));
            known.collect::<Option<Vec<_>>>().map(|items| items.join(","))
        };
        let said = self
            .annotations
            .read(a::SKIP_SUBNETS, "a list of networks such as 10.0.0.0/8", parse)?;
        Ok(said.unwrap_or_else(|| self.config.proxy_init.skip_subnets.clone()))
    }

    fn close_wait(self) -> Result<u64, Error> {
        let said = self.duration(a::CLOSE_WAIT_TIMEOUT)?;
        Ok(said.map_or(self.config.proxy_init.close_wait_timeout_secs, |time| time.as_secs()))
    }

    /// Numbers, ranges, and names of this pod's ports. A name that this pod has no port of says nothing here.
    fn opaque_ports(self) -> Result<String, Error> {
        let parse = |text: &'a str| {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let mut ports = vec![];
            for item in items {
                match (item.parse::<PortSet>(), self.ports.named(item)) {
                    (Ok(set), _) => ports.push(written(&set)),
                    (Err(_), named) if is_port_name(item) => ports.extend(named.map(|port| port.to_string())),
                    _ => return None,
                }
            }
            Some(ports.join(","))
        };
        let expected = "a list of ports, ranges of ports and names of ports, such as 25,8000-8010,mysql";
        let said = self.annotations.read(a::OPAQUE_PORTS, expected, parse)?;
        Ok(said.unwrap_or_else(|| self.config.proxy.opaque_ports.clone()))
    }

    fn resources(self) -> Result<Resources, Error> {
        let defaults = &self.config.proxy.resources;
        Ok(Resources {
            cpu: self.amount(a::PROXY_CPU_REQUEST, a::PROXY_CPU_LIMIT, &defaults.cpu)?,
            memory: self.amount(a::PROXY_MEMORY_REQUEST, a::PROXY_MEMORY_LIMIT, &defaults.memory)?,
            ephemeral_storage: self.amount(
                a::PROXY_EPHEMERAL_STORAGE_REQUEST,
                a::PROXY_EPHEMERAL_STORAGE_LIMIT,
                &defaults.ephemeral_storage,
            )?,
        })
    }

    fn amount(self, request: &str, limit: &str, default: &Amount) -> Result<Amount, Error> {
        let of = |key: &str, default: &str| {
            let said = self
                .annotations
                .read(key, QUANTITY, |text| quantity::parse(text).map(|_| text.to_owned()))?;
            Ok::<_, Error>(said.unwrap_or_else(|| default.to_owned()))
        };
        let amount = Amount {
            request: of(request, &default.request)?,
            limit: of(limit, &default.limit)?,
        };
        match (quantity::parse(&amount.request), quantity::parse(&amount.limit)) {
            (Some(least), Some(most)) if least > most => {
                // The one of the two that an annotation says is to blame.
                let key = if self.annotations.get(request).is_some() {
                    request
                } else {
                    limit
                };
                let expected = format!("such that the request ({}) is at most the limit", amount.request);
                self.annotations.read(key, &expected, |_| None::<()>)?;
                Ok(amount)
            }
            _ => Ok(amount),
        }
    }

    /// Limit and request of CPU also bound the workers, rounded up.
    fn workers(self) -> Result<Workers, Error> {
        let defaults = &self.config.proxy.runtime.workers;
        let cores = |key: &str| {
            let said = self.annotations.read(key, QUANTITY, quantity::parse)?;
            Ok::<_, Error>(said.map(|cores| cores.ceil().max(1.0) as u32))
        };
        let share = |text: &str| text.parse().ok().filter(|share| *share > 0.0 && *share < 1.0);
        let ratio = self
            .annotations
            .read(a::PROXY_CPU_RATIO_LIMIT, "a number between 0 and 1", share)?;
        Ok(Workers {
            min: cores(a::PROXY_CPU_REQUEST)?.or(defaults.minimum),
            max: cores(a::PROXY_CPU_LIMIT)?.or(defaults.maximum),
            ratio: ratio.or(defaults.maximum_cpu_ratio),
        })
    }

    fn times(self) -> Result<Times, Error> {
        let proxy = &self.config.proxy;
        let millis = |key: &str, default: &str| {
            let said = self.duration(key)?.map(|time| format!("{}ms", time.as_millis()));
            Ok::<_, Error>(said.unwrap_or_else(|| default.to_owned()))
        };
        let seconds = |key: &str, default: &str| {
            let whole = |time: Duration| match time.subsec_millis() {
                0 => format!("{}s", time.as_secs()),
                _ => format!("{}ms", time.as_millis()),
            };
            Ok::<_, Error>(self.duration(key)?.map_or_else(|| default.to_owned(), whole))
        };
        let endless =
            |key: &str, default: bool| Ok::<_, Error>(self.bool(key)?.unwrap_or(default).then_some(NO_DETECT_TIMEOUT));
        let (outbound, inbound) = (
            proxy.disable_outbound_protocol_detect_timeout,
            proxy.disable_inbound_protocol_detect_timeout,
        );
        let grace = millis(a::SHUTDOWN_GRACE_PERIOD, &proxy.shutdown_grace_period)?;
        Ok(Times {
            outbound_connect: millis(a::OUTBOUND_CONNECT_TIMEOUT, &proxy.outbound_connect_timeout)?,
            inbound_connect: millis(a::INBOUND_CONNECT_TIMEOUT, &proxy.inbound_connect_timeout)?,
            outbound_discovery: seconds(
                a::OUTBOUND_DISCOVERY_TIMEOUT,
                &proxy.outbound_discovery_cache_unused_timeout,
            )?,
            inbound_discovery: seconds(
                a::INBOUND_DISCOVERY_TIMEOUT,
                &proxy.inbound_discovery_cache_unused_timeout,
            )?,
            outbound_detect: endless(a::DISABLE_OUTBOUND_DETECT_TIMEOUT, outbound)?,
            inbound_detect: endless(a::DISABLE_INBOUND_DETECT_TIMEOUT, inbound)?,
            shutdown_grace: Some(grace).filter(|grace| !grace.is_empty()),
        })
    }

    fn wait_before_exit(self) -> Result<u32, Error> {
        let said = self
            .annotations
            .read(a::WAIT_BEFORE_EXIT, "a whole number of seconds", |text| {
                text.parse().ok()
            })?;
        Ok(said.unwrap_or(self.config.proxy.wait_before_exit_seconds))
    }

    /// The chart's, the namespace's, the workload's: a later one replaces an earlier one of the same name.
    fn additional_env(self) -> Result<Vec<EnvVar>, Error> {
        let mut all = self.config.proxy.additional_env.clone();
        all.extend(self.config.proxy.experimental_env.iter().cloned());
        let expected = "a JSON list of variables, such as [{\"name\": \"A\", \"value\": \"b\"}]";
        let parse = |text: &str| serde_json::from_str::<Vec<EnvVar>>(text).ok();
        if self.annotations.own(a::ADDITIONAL_ENV).is_some() {
            all.extend(
                self.annotations
                    .without_own()
                    .read(a::ADDITIONAL_ENV, expected, parse)?
                    .into_iter()
                    .flatten(),
            );
        }
        all.extend(
            self.annotations
                .read(a::ADDITIONAL_ENV, expected, parse)?
                .into_iter()
                .flatten(),
        );
        let mut merged: Vec<EnvVar> = vec![];
        for variable in all {
            match merged.iter_mut().find(|other| other.name == variable.name) {
                Some(other) => *other = variable,
                None => merged.push(variable),
            }
        }
        Ok(merged)
    }
}

fn is_port_name(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= PORT_NAME_MAX && text.bytes().all(legal) && text.bytes().any(|b| b.is_ascii_lowercase())
}

/// Ports as annotations and flags write them.
pub(crate) fn written(ports: &PortSet) -> String {
    let item = |(low, high): &(u16, u16)| {
        if low == high {
            low.to_string()
        } else {
            format!("{low}-{high}")
        }
    };
    ports.ranges().iter().map(item).collect::<Vec<_>>().join(",")
}

/// A value of a variable that a chart may write as text, number or truth.
pub(crate) fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}
