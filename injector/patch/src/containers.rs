//! The containers and volumes that land in a pod.

use serde_json::{Map, Value, json};

use crate::{
    component::Component,
    config::{Amount, Config, Probe, Resources},
    env,
    settings::{ImageRef, Settings},
};

/// Name of the init container that redirects.
pub(crate) const INIT: &str = "linkerd-init";
/// Name of the init container that looks whether a CNI plugin redirects.
pub(crate) const VALIDATOR: &str = "linkerd-network-validator";
/// Name of the debug container.
pub(crate) const DEBUG: &str = "linkerd-debug";
/// Name of the volume of key and CSR.
pub(crate) const IDENTITY_VOLUME: &str = "linkerd-identity-end-entity";
/// Name of the volume of our token.
pub(crate) const TOKEN_VOLUME: &str = "linkerd-identity-token";
/// Name of the volume of the pod's labels and annotations.
pub(crate) const PODINFO_VOLUME: &str = "linkerd-podinfo";
/// The program in the sidecar's image.
const PROXY_PROGRAM: &str = "/mesh-proxy";
/// Time that the old way waits for the sidecar before the application starts anyway.
const AWAIT_TIMEOUT: &str = "2m";
/// Audience of our token.
const TOKEN_AUDIENCE: &str = "identity.l5d.io";
/// Life of our token.
const TOKEN_SECONDS: u32 = 86_400;

/// What containers are made from.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) config: &'a Config,
    pub(crate) settings: &'a Settings,
    pub(crate) component: Component,
    /// The mount of the service account's own token, where that is what proves who the workload is.
    pub(crate) token_mount: Option<&'a Value>,
}

impl Parts<'_> {
    /// Volumes.
    pub(crate) fn volumes(self) -> Vec<Value> {
        let mut volumes = vec![json!({"name": IDENTITY_VOLUME, "emptyDir": {"medium": "Memory"}})];
        if self.traces() {
            let item = |name: &str| json!({"path": name, "fieldRef": {"fieldPath": format!("metadata.{name}")}});
            let items = [item("labels"), item("annotations")];
            volumes.push(json!({"name": PODINFO_VOLUME, "downwardAPI": {"items": items}}));
        }
        if self.config.identity.service_account_token_projection {
            let token =
                json!({"path": env::TOKEN_FILE, "audience": TOKEN_AUDIENCE, "expirationSeconds": TOKEN_SECONDS});
            volumes.push(json!({"name": TOKEN_VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}}));
        }
        volumes
    }

    /// The init container: it redirects, or looks whether somebody else does.
    pub(crate) fn init(self) -> Value {
        if self.config.cni_enabled {
            self.validator()
        } else {
            self.redirect()
        }
    }

    /// The sidecar.
    pub(crate) fn proxy(self) -> Value {
        let settings = self.settings;
        let admin = settings.ports.admin;
        let port = |number: u16, name: &str| json!({"containerPort": number, "name": name, "protocol": "TCP"});
        let mut container = container(destination_k8s::keys::PROXY_CONTAINER, &settings.image);
        container.insert(
            "env".into(),
            env::environment(self.config, settings, self.component).into(),
        );
        let ports = json!([
            port(settings.ports.inbound, "linkerd-proxy"),
            port(admin, "linkerd-admin")
        ]);
        container.insert("ports".into(), ports);
        let proxy = &self.config.proxy;
        container.insert("livenessProbe".into(), probe("/live", admin, proxy.liveness_probe));
        container.insert("readinessProbe".into(), probe("/ready", admin, proxy.readiness_probe));
        if settings.native && settings.awaits {
            container.insert("startupProbe".into(), probe("/ready", admin, proxy.startup_probe));
        }
        if settings.native {
            container.insert("restartPolicy".into(), "Always".into());
        } else if let Some(lifecycle) = self.lifecycle() {
            container.insert("lifecycle".into(), lifecycle);
        }
        resources(&mut container, &settings.resources);
        container.insert("securityContext".into(), self.proxy_security());
        container.insert("volumeMounts".into(), self.mounts().into());
        container.into()
    }

    /// The old way: the application's containers start after the hook, and the sidecar stops a while after them.
    fn lifecycle(self) -> Option<Value> {
        let mut hooks = Map::new();
        if self.settings.awaits {
            let port = format!("--port={}", self.settings.ports.admin);
            let command = json!([PROXY_PROGRAM, "await", format!("--timeout={AWAIT_TIMEOUT}"), port]);
            hooks.insert("postStart".into(), json!({"exec": {"command": command}}));
        }
        if self.settings.wait_before_exit > 0 {
            // The kubelet's own pause: there is no program `sleep` in the image.
            hooks.insert(
                "preStop".into(),
                json!({"sleep": {"seconds": self.settings.wait_before_exit}}),
            );
        }
        (!hooks.is_empty()).then(|| hooks.into())
    }

    fn proxy_security(self) -> Value {
        let own = &self.config.proxy.security_context;
        if own.as_object().is_some_and(|own| !own.is_empty()) {
            return own.clone();
        }
        let mut context = security(self.settings.uid);
        if let Some(gid) = self.settings.gid {
            context.insert("runAsGroup".into(), gid.into());
        }
        context.into()
    }

    fn mounts(self) -> Vec<Value> {
        let mut mounts = vec![json!({"mountPath": env::IDENTITY_DIR, "name": IDENTITY_VOLUME})];
        if self.traces() {
            mounts.push(json!({"mountPath": env::PODINFO_DIR, "name": PODINFO_VOLUME}));
        }
        if self.config.identity.service_account_token_projection {
            mounts.push(json!({"mountPath": env::TOKEN_DIR, "name": TOKEN_VOLUME}));
        } else {
            mounts.extend(self.token_mount.cloned());
        }
        mounts
    }

    fn traces(self) -> bool {
        let tracing = &self.config.proxy.tracing;
        tracing.enable && !tracing.collector.endpoint.is_empty()
    }

    fn redirect(self) -> Value {
        let Self { config, settings, .. } = self;
        let ports = settings.ports;
        let mut args = Args::default();
        if config.disable_ipv6 {
            args.0.push("--ipv6=false".to_owned());
        }
        args.add("--incoming-proxy-port", ports.inbound.to_string());
        args.add("--outgoing-proxy-port", ports.outbound.to_string());
        args.add("--proxy-uid", settings.uid.to_string());
        args.add(
            "--proxy-gid",
            settings.gid.map(|gid| gid.to_string()).unwrap_or_default(),
        );
        let own = format!("{},{}", ports.control, ports.admin);
        let inbound = [own, settings.skip_inbound.clone()];
        let inbound: Vec<_> = inbound.into_iter().filter(|list| !list.is_empty()).collect();
        args.add("--inbound-ports-to-ignore", inbound.join(","));
        args.add("--outbound-ports-to-ignore", settings.skip_outbound.clone());
        if settings.close_wait_secs > 0 {
            args.add("--timeout-close-wait-secs", settings.close_wait_secs.to_string());
        }
        args.add("--subnets-to-ignore", settings.skip_subnets.clone());
        args.add("--log-level", config.proxy_init.log_level.clone());
        args.add("--log-format", config.proxy_init.log_format.clone());
        let mut container = container(INIT, &settings.init_image);
        container.insert("args".into(), args.0.into());
        resources(&mut container, &settings.resources);
        container.insert("securityContext".into(), self.redirect_security());
        container.into()
    }

    fn redirect_security(self) -> Value {
        let init = &self.config.proxy_init;
        let user = if init.run_as_root { 0 } else { init.run_as_user };
        let mut context = security(user);
        context.insert("runAsNonRoot".into(), (!init.run_as_root).into());
        context.insert("runAsGroup".into(), user.into());
        // The timeout is a setting of the kernel, which only a privileged container may write.
        let privileged = init.run_as_root && self.settings.close_wait_secs > 0;
        context.insert("privileged".into(), privileged.into());
        context.insert("allowPrivilegeEscalation".into(), privileged.into());
        context.insert(
            "capabilities".into(),
            json!({"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}),
        );
        if privileged {
            context.insert("capabilities".into(), json!({"add": ["NET_ADMIN", "NET_RAW"]}));
        }
        context.into()
    }

    fn validator(self) -> Value {
        let Self { config, settings, .. } = self;
        let validator = &config.network_validator;
        let or = |said: &str, v4: &str, v6: &str| match said {
            "" if config.disable_ipv6 => v4.to_owned(),
            "" => v6.to_owned(),
            said => said.to_owned(),
        };
        let outbound = settings.ports.outbound;
        let listen = (format!("0.0.0.0:{outbound}"), format!("[::]:{outbound}"));
        let mut args = Args::default();
        args.add("--log-format", validator.log_format.clone());
        args.add("--log-level", validator.log_level.clone());
        args.add(
            "--connect-addr",
            or(&validator.connect_addr, "1.1.1.1:20001", "[fd00::1]:20001"),
        );
        args.add("--listen-addr", or(&validator.listen_addr, &listen.0, &listen.1));
        args.add("--timeout", validator.timeout.clone());
        let mut container = container(VALIDATOR, &settings.validator_image);
        container.insert("args".into(), args.0.into());
        resources(&mut container, &settings.resources);
        let mut context = security(config.proxy_init.run_as_user);
        context.insert("runAsGroup".into(), config.proxy_init.run_as_user.into());
        container.insert("securityContext".into(), context.into());
        container.into()
    }
}

/// The debug container.
pub(crate) fn debug(image: &ImageRef) -> Value {
    container(DEBUG, image).into()
}

/// Arguments; an empty value is none.
#[derive(Default)]
struct Args(Vec<String>);

impl Args {
    fn add(&mut self, flag: &str, value: String) {
        if !value.is_empty() {
            self.0.extend([flag.to_owned(), value]);
        }
    }
}

fn container(name: &str, image: &ImageRef) -> Map<String, Value> {
    Map::from_iter([
        ("name".to_owned(), name.into()),
        ("image".to_owned(), format!("{}:{}", image.name, image.version).into()),
        ("imagePullPolicy".to_owned(), image.pull_policy.clone().into()),
        ("terminationMessagePolicy".to_owned(), "FallbackToLogsOnError".into()),
    ])
}

/// As little as a container can have.
fn security(uid: i64) -> Map<String, Value> {
    Map::from_iter([
        ("allowPrivilegeEscalation".to_owned(), false.into()),
        ("capabilities".to_owned(), json!({"drop": ["ALL"]})),
        ("readOnlyRootFilesystem".to_owned(), true.into()),
        ("runAsNonRoot".to_owned(), true.into()),
        ("runAsUser".to_owned(), uid.into()),
        ("seccompProfile".to_owned(), json!({"type": "RuntimeDefault"})),
    ])
}

fn probe(path: &str, port: u16, probe: Probe) -> Value {
    let mut out = Map::from_iter([("httpGet".to_owned(), json!({"path": path, "port": port}))]);
    let times = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("periodSeconds", probe.period_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("failureThreshold", probe.failure_threshold),
    ];
    out.extend(
        times
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value?.into()))),
    );
    out.into()
}

fn resources(container: &mut Map<String, Value>, resources: &Resources) {
    let of = |pick: fn(&Amount) -> &String| {
        let all = [
            ("cpu", &resources.cpu),
            ("memory", &resources.memory),
            ("ephemeral-storage", &resources.ephemeral_storage),
        ];
        let said = all.into_iter().filter(|(_, amount)| !pick(amount).is_empty());
        said.map(|(name, amount)| (name.to_owned(), Value::from(pick(amount).clone())))
            .collect::<Map<_, _>>()
    };
    let mut out = Map::new();
    for (key, amounts) in [
        ("limits", of(|amount| &amount.limit)),
        ("requests", of(|amount| &amount.request)),
    ] {
        if !amounts.is_empty() {
            out.insert(key.to_owned(), amounts.into());
        }
    }
    if !out.is_empty() {
        container.insert("resources".to_owned(), out.into());
    }
}
