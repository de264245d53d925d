//! Resolution: the chart's values, overridden by annotations, for one pod. Every value is parsed here, and an invalid
//! one is an error that names its annotation.

use std::time::Duration;

use destination_k8s::{keys, quantity};
use injector_redirect::Rules;
use ipnet::IpNet;
use proxy_model::{duration, policy::DefaultPolicy, ports::PortSet};

use crate::{
    Error,
    annotations::{self as a, Annotations},
    config::{AdditionalVar, Amount, Config, Image, Ports, Resources},
    env, names, parse,
    pod::{Component, PodFacts},
    redirection::{InitContainer, RedirectMethod, Redirection, Validator},
    spec::{
        EnvDuration, HttpProbe, ImageRef, Lifecycle, Probes, ProxySettings, SecurityContext, SidecarSpec, Timeouts,
        Workers,
    },
};

const PULL_POLICIES: [&str; 3] = ["Always", "IfNotPresent", "Never"];
const PORT_LIST: &str = "a list of ports and ranges of ports, such as 25,8000-8010";
const BOOL: &str = "true or false";
const SWITCH: &str = "enabled or disabled";
const DURATION: &str = "a duration such as 500ms, 10s or 1m30s";
const QUANTITY: &str = "an amount such as 100m, 1 or 250Mi";
const NETWORKS: &str = "a list of networks such as 10.0.0.0/8";
/// Longest name of a port, Kubernetes' limit.
const PORT_NAME_MAX: usize = 15;
/// Detection timeout that stands for none.
const NO_DETECT_TIMEOUT: &str = "365d";
/// Timeout of the hook that waits for the sidecar, before the application starts anyway.
const AWAIT_TIMEOUT: &str = "2m";

impl SidecarSpec {
    /// Resolves the sidecar of one pod; the first invalid annotation is the error. The configuration must be
    /// [valid](Config::validate).
    pub fn resolve(config: &Config, annotations: &Annotations<'_>, facts: &PodFacts) -> Result<Self, Error> {
        let reader = Reader {
            config,
            annotations: *annotations,
            facts,
        };
        let pull = reader.word(a::IMAGE_PULL_POLICY, &PULL_POLICIES)?;
        let image = reader.proxy_image(pull)?;
        let (native, awaits_ready) = (
            reader.native()?,
            reader.switch(a::PROXY_AWAIT)?.unwrap_or(config.proxy.r#await),
        );
        let debug = reader.debug_image()?;
        let ports = reader.proxy_ports()?;
        let security = reader.security()?;
        let proxy = reader.proxy()?;
        let redirection = reader.redirection(ports, &security, pull)?;
        let inputs = env::Inputs {
            config,
            proxy: &proxy,
            ports,
            component: facts.component(),
        };
        let lifecycle = reader.lifecycle(native, awaits_ready, ports.admin)?;
        Ok(Self {
            native,
            awaits_ready,
            image,
            ports,
            env: env::environment(inputs, reader.additional_env()?),
            probes: probes(config, ports.admin, native && awaits_ready),
            lifecycle,
            resources: reader.resources()?,
            security,
            projects_token: config.identity.service_account_token_projection,
            mounts_podinfo: config.sends_spans(),
            redirection,
            debug,
            proxy,
        })
    }
}

fn probes(config: &Config, port: u16, starts_first: bool) -> Probes {
    let probe = |path, settings| HttpProbe { path, port, settings };
    Probes {
        startup: starts_first.then(|| probe("/ready", config.proxy.startup_probe)),
        liveness: probe("/live", config.proxy.liveness_probe),
        readiness: probe("/ready", config.proxy.readiness_probe),
    }
}

/// Reader of one pod's settings.
#[derive(Copy, Clone, Debug)]
struct Reader<'a> {
    config: &'a Config,
    annotations: Annotations<'a>,
    facts: &'a PodFacts,
}

impl<'a> Reader<'a> {
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

    /// Reads ports, or takes those of a field of the chart.
    fn ports(self, key: &str, field: &'static str, default: &str) -> Result<PortSet, Error> {
        match self.annotations.read(key, PORT_LIST, |text| text.parse().ok())? {
            Some(ports) => Ok(ports),
            None => parse::ports(field, default),
        }
    }

    fn duration(self, key: &str) -> Result<Option<Duration>, Error> {
        let parse = |text: &str| duration::go(text).or_else(|| duration::linkerd(text));
        self.annotations.read(key, DURATION, parse)
    }

    /// Reads the newest of the annotation's three names; an older one on the workload overrides a newer one on the
    /// namespace.
    fn native(self) -> Result<bool, Error> {
        let names = [a::NATIVE_SIDECAR, a::NATIVE_SIDECAR_BETA, a::NATIVE_SIDECAR_ALPHA];
        let own = names.into_iter().find(|key| self.annotations.own(key).is_some());
        let key = own.or_else(|| {
            names
                .into_iter()
                .find(|key| self.annotations.on_namespace(key).is_some())
        });
        let said = key.map(|key| self.bool(key)).transpose()?.flatten();
        Ok(said.unwrap_or(self.config.proxy.native_sidecar) && !self.config.no_native_sidecars)
    }

    fn proxy_image(self, pull: Option<&str>) -> Result<ImageRef, Error> {
        let name = self.image_part(a::PROXY_IMAGE)?;
        let version = self.image_part(a::PROXY_VERSION)?;
        Ok(self.image(&self.config.proxy.image, name, version, pull))
    }

    fn image_part(self, key: &str) -> Result<Option<&'a str>, Error> {
        let parse = |text: &'a str| (!text.is_empty() && !text.contains(char::is_whitespace)).then_some(text);
        self.annotations.read(key, "part of an image name", parse)
    }

    fn image(self, image: &Image, name: Option<&str>, version: Option<&str>, pull: Option<&str>) -> ImageRef {
        let or = |said: &str, default: &str| if said.is_empty() { default } else { said }.to_owned();
        ImageRef {
            name: name.map_or_else(|| self.config.image_name(image), str::to_owned),
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
        // Headers hold secrets: without these directives, a `trace` filter would log them.
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

    /// Outbound ports that bypass the sidecar by default; the control plane reaches the API server directly.
    fn outbound_skip(self) -> (&'static str, &'a str) {
        let init = &self.config.proxy_init;
        if self.facts.component() == Component::None {
            ("proxyInit.ignoreOutboundPorts", &init.ignore_outbound_ports)
        } else {
            ("proxyInit.kubeAPIServerPorts", &init.kube_api_server_ports)
        }
    }

    fn skip_networks(self) -> Result<Vec<IpNet>, Error> {
        match self.annotations.read(a::SKIP_SUBNETS, NETWORKS, parse::network_list)? {
            Some(networks) => Ok(networks),
            None => parse::networks("proxyInit.skipSubnets", &self.config.proxy_init.skip_subnets),
        }
    }

    fn close_wait(self) -> Result<Duration, Error> {
        let seconds = self.duration(a::CLOSE_WAIT_TIMEOUT)?.map(|time| time.as_secs());
        Ok(Duration::from_secs(
            seconds.unwrap_or(self.config.proxy_init.close_wait_timeout_secs),
        ))
    }

    fn redirection(self, ports: Ports, security: &SecurityContext, pull: Option<&str>) -> Result<Redirection, Error> {
        let config = self.config;
        let skip = self.ports(
            a::SKIP_INBOUND_PORTS,
            "proxyInit.ignoreInboundPorts",
            &config.proxy_init.ignore_inbound_ports,
        )?;
        let (outbound_field, outbound_default) = self.outbound_skip();
        let own = [(ports.control, ports.control), (ports.admin, ports.admin)];
        let id = |id: i64| u32::try_from(id).ok().filter(|id| *id > 0);
        let rules = Rules {
            inbound_port: ports.inbound,
            outbound_port: ports.outbound,
            inbound_skip: own.iter().chain(skip.ranges()).copied().collect(),
            outbound_skip: self.ports(a::SKIP_OUTBOUND_PORTS, outbound_field, outbound_default)?,
            inbound_skip_from: self.skip_networks()?,
            inbound_only: PortSet::default(),
            proxy_uid: id(security.uid),
            proxy_gid: security.gid.and_then(id),
            ipv6: !config.disable_ipv6,
            mark: None,
        };
        let close_wait = self.close_wait()?;
        let method = if config.cni_enabled {
            RedirectMethod::Cni(self.validator(ports.outbound, pull))
        } else {
            let init = &config.proxy_init;
            RedirectMethod::Init(InitContainer {
                image: self.image(&init.image, None, None, pull),
                uid: if init.run_as_root { 0 } else { init.run_as_user },
                root: init.run_as_root,
                close_wait,
                log_level: init.log_level.clone(),
                log_format: init.log_format.clone(),
            })
        };
        Ok(Redirection { rules, method })
    }

    fn validator(self, outbound: u16, pull: Option<&str>) -> Validator {
        let validator = &self.config.network_validator;
        let or = |value: &str, v4: String, v6: String| match value {
            "" if self.config.disable_ipv6 => v4,
            "" => v6,
            value => value.to_owned(),
        };
        Validator {
            image: self.image(&validator.image, None, None, pull),
            uid: self.config.proxy_init.run_as_user,
            connect_addr: or(
                &validator.connect_addr,
                "1.1.1.1:20001".into(),
                "[fd00::1]:20001".into(),
            ),
            listen_addr: or(
                &validator.listen_addr,
                format!("0.0.0.0:{outbound}"),
                format!("[::]:{outbound}"),
            ),
            timeout: validator.timeout.clone(),
            log_level: validator.log_level.clone(),
            log_format: validator.log_format.clone(),
        }
    }

    fn security(self) -> Result<SecurityContext, Error> {
        let proxy = &self.config.proxy;
        let custom = &proxy.security_context;
        Ok(SecurityContext {
            uid: self.number(a::PROXY_UID)?.unwrap_or(proxy.uid),
            gid: Some(self.number(a::PROXY_GID)?.unwrap_or(proxy.gid)).filter(|gid| *gid >= 0),
            custom: custom
                .as_object()
                .is_some_and(|custom| !custom.is_empty())
                .then(|| custom.clone()),
        })
    }

    /// Hooks of a sidecar that is not native: the application starts after the first, the sidecar stops some time after
    /// it.
    fn lifecycle(self, native: bool, awaits_ready: bool, admin: u16) -> Result<Lifecycle, Error> {
        let wait = self.wait_before_exit()?;
        if native {
            return Ok(Lifecycle::default());
        }
        let command = || {
            let flags = [format!("--timeout={AWAIT_TIMEOUT}"), format!("--port={admin}")];
            [names::PROXY_PROGRAM.to_owned(), "await".to_owned()]
                .into_iter()
                .chain(flags)
                .collect()
        };
        Ok(Lifecycle {
            post_start: awaits_ready.then(command),
            pre_stop_sleep: Some(wait).filter(|wait| !wait.is_zero()),
        })
    }

    fn proxy(self) -> Result<ProxySettings, Error> {
        let (annotations, proxy) = (self.annotations, &self.config.proxy);
        let log_format = self.word(a::PROXY_LOG_FORMAT, &["plain", "json"])?;
        let policies = DefaultPolicy::ALL.map(DefaultPolicy::as_str);
        let policy = self.word(a::DEFAULT_INBOUND_POLICY, &policies)?;
        let inbound_ports = self
            .annotations
            .read(a::POD_INBOUND_PORTS, PORT_LIST, |text| text.parse().ok())?;
        Ok(ProxySettings {
            ingress: annotations.get(keys::INJECT) == Some("ingress"),
            gateway: annotations.own(a::ENABLE_GATEWAY) == Some("true"),
            log: self.log()?,
            log_format: log_format.unwrap_or(&proxy.log_format).into(),
            access_log: self.access_log()?,
            opaque_ports: self.opaque_ports()?,
            inbound_ports: inbound_ports.unwrap_or_else(|| self.facts.inbound_ports()),
            require_identity: self.ports(
                a::REQUIRE_IDENTITY_PORTS,
                "proxy.requireIdentityOnInboundPorts",
                &proxy.require_identity_on_inbound_ports,
            )?,
            default_policy: parse::policy(
                "proxy.defaultInboundPolicy",
                policy.unwrap_or(&proxy.default_inbound_policy),
            )?,
            // The control plane cannot wait for its own answers.
            fail_open: self
                .switch(a::INBOUND_FAIL_OPEN)?
                .unwrap_or(self.facts.component() != Component::None),
            path_check: self.switch(a::INBOUND_PATH_CHECK)?.unwrap_or(true),
            workers: self.workers()?,
            timeouts: self.timeouts()?,
            external_profiles: self
                .bool(a::ENABLE_EXTERNAL_PROFILES)?
                .unwrap_or(proxy.enable_external_profiles),
            hostname_labels: self
                .bool(a::METRICS_HOSTNAME_LABELS)?
                .unwrap_or(proxy.metrics.hostname_labels),
            admin_shutdown: self
                .switch(a::PROXY_ADMIN_SHUTDOWN)?
                .unwrap_or(proxy.enable_shutdown_endpoint),
            tap: !proxy.tap_identity.is_empty() && annotations.get(keys::DISABLE_TAP) != Some("true"),
        })
    }

    /// Reads numbers, ranges and names of the pod's ports; a name without a port in this pod has no effect.
    fn opaque_ports(self) -> Result<PortSet, Error> {
        let parse = |text: &'a str| {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let mut ranges = vec![];
            for item in items {
                match (item.parse::<PortSet>(), self.facts.named(item)) {
                    (Ok(set), _) => ranges.extend_from_slice(set.ranges()),
                    (Err(_), named) if is_port_name(item) => ranges.extend(named.map(|port| (port, port))),
                    _ => return None,
                }
            }
            Some(ranges.into_iter().collect())
        };
        let expected = "a list of ports, ranges of ports and names of ports, such as 25,8000-8010,mysql";
        match self.annotations.read(a::OPAQUE_PORTS, expected, parse)? {
            Some(ports) => Ok(ports),
            None => parse::ports("proxy.opaquePorts", &self.config.proxy.opaque_ports),
        }
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
        let read = |key: &str, default: &str| {
            let said = self
                .annotations
                .read(key, QUANTITY, |text| quantity::parse(text).map(|_| text.to_owned()))?;
            Ok::<_, Error>(said.unwrap_or_else(|| default.to_owned()))
        };
        let amount = Amount {
            request: read(request, &default.request)?,
            limit: read(limit, &default.limit)?,
        };
        match (quantity::parse(&amount.request), quantity::parse(&amount.limit)) {
            (Some(least), Some(most)) if least > most => {
                // The annotation of the two is to blame.
                let (key, expected) = if self.annotations.get(request).is_some() {
                    (request, format!("at most the limit ({})", amount.limit))
                } else {
                    (limit, format!("at least the request ({})", amount.request))
                };
                self.annotations.read(key, &expected, |_| None::<()>)?;
                Ok(amount)
            }
            _ => Ok(amount),
        }
    }

    /// Bounds the workers by CPU request and limit, rounded up.
    fn workers(self) -> Result<Workers, Error> {
        let defaults = &self.config.proxy.runtime.workers;
        let cores = |key: &str| {
            let said = self.annotations.read(key, QUANTITY, quantity::parse)?;
            Ok::<_, Error>(said.map(|cores| cores.ceil().max(1.0) as u32))
        };
        let fraction = |text: &str| text.parse().ok().filter(|ratio| *ratio > 0.0 && *ratio < 1.0);
        let ratio = self
            .annotations
            .read(a::PROXY_CPU_RATIO_LIMIT, "a number between 0 and 1", fraction)?;
        Ok(Workers {
            min: cores(a::PROXY_CPU_REQUEST)?.or(defaults.minimum),
            max: cores(a::PROXY_CPU_LIMIT)?.or(defaults.maximum),
            ratio: ratio.or(defaults.maximum_cpu_ratio),
        })
    }

    fn timeouts(self) -> Result<Timeouts, Error> {
        let proxy = &self.config.proxy;
        let millis = |key: &str, field: &'static str, default: &str| match self.duration(key)? {
            Some(time) => Ok(EnvDuration::from_millis(time)),
            None => parse::duration(field, default),
        };
        let seconds = |key: &str, field: &'static str, default: &str| match self.duration(key)? {
            Some(time) => Ok(EnvDuration::from_seconds(time)),
            None => parse::duration(field, default),
        };
        let unlimited = |key: &str, default: bool| {
            let unlimited = self.bool(key)?.unwrap_or(default);
            Ok::<_, Error>(unlimited.then(|| EnvDuration::parse(NO_DETECT_TIMEOUT)).flatten())
        };
        let grace = match self.duration(a::SHUTDOWN_GRACE_PERIOD)? {
            Some(time) => Some(EnvDuration::from_millis(time)),
            None if proxy.shutdown_grace_period.is_empty() => None,
            None => Some(parse::duration(
                "proxy.shutdownGracePeriod",
                &proxy.shutdown_grace_period,
            )?),
        };
        let streams = &proxy.control.streams;
        Ok(Timeouts {
            outbound_connect: millis(
                a::OUTBOUND_CONNECT_TIMEOUT,
                "proxy.outboundConnectTimeout",
                &proxy.outbound_connect_timeout,
            )?,
            inbound_connect: millis(
                a::INBOUND_CONNECT_TIMEOUT,
                "proxy.inboundConnectTimeout",
                &proxy.inbound_connect_timeout,
            )?,
            outbound_discovery_idle: seconds(
                a::OUTBOUND_DISCOVERY_TIMEOUT,
                "proxy.outboundDiscoveryCacheUnusedTimeout",
                &proxy.outbound_discovery_cache_unused_timeout,
            )?,
            inbound_discovery_idle: seconds(
                a::INBOUND_DISCOVERY_TIMEOUT,
                "proxy.inboundDiscoveryCacheUnusedTimeout",
                &proxy.inbound_discovery_cache_unused_timeout,
            )?,
            outbound_detect: unlimited(
                a::DISABLE_OUTBOUND_DETECT_TIMEOUT,
                proxy.disable_outbound_protocol_detect_timeout,
            )?,
            inbound_detect: unlimited(
                a::DISABLE_INBOUND_DETECT_TIMEOUT,
                proxy.disable_inbound_protocol_detect_timeout,
            )?,
            stream_initial: parse::duration("proxy.control.streams.initialTimeout", &streams.initial_timeout)?,
            stream_idle: parse::duration("proxy.control.streams.idleTimeout", &streams.idle_timeout)?,
            stream_lifetime: parse::duration("proxy.control.streams.lifetime", &streams.lifetime)?,
            shutdown_grace: grace,
        })
    }

    fn wait_before_exit(self) -> Result<Duration, Error> {
        let expected = "a whole number of seconds";
        let seconds = self
            .annotations
            .read(a::WAIT_BEFORE_EXIT, expected, |text| text.parse::<u32>().ok())?;
        let seconds = seconds.unwrap_or(self.config.proxy.wait_before_exit_seconds);
        Ok(Duration::from_secs(seconds.into()))
    }

    /// Variables of the chart, the namespace and the workload: a later one replaces an earlier one of the same name.
    fn additional_env(self) -> Result<Vec<AdditionalVar>, Error> {
        let expected = "a JSON list of variables, such as [{\"name\": \"A\", \"value\": \"b\"}]";
        let read = |annotations: Annotations<'_>| {
            let parse = |text: &str| serde_json::from_str::<Vec<AdditionalVar>>(text).ok();
            Ok::<_, Error>(
                annotations
                    .read(a::ADDITIONAL_ENV, expected, parse)?
                    .unwrap_or_default(),
            )
        };
        let proxy = &self.config.proxy;
        let mut all = [proxy.additional_env.as_slice(), &proxy.experimental_env].concat();
        if self.annotations.own(a::ADDITIONAL_ENV).is_some() {
            all.extend(read(self.annotations.without_own())?);
        }
        all.extend(read(self.annotations)?);
        Ok(env::merge(all))
    }
}

fn is_port_name(text: &str) -> bool {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text.len() <= PORT_NAME_MAX && text.bytes().all(legal) && text.bytes().any(|b| b.is_ascii_lowercase())
}
