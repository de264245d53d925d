//! Containers and volumes of a [`SidecarSpec`], as JSON.

use injector_sidecar::{
    EnvName, EnvValue, HttpProbe, ImageRef, InitContainer, Lifecycle, RedirectMethod, SidecarSpec, Validator,
    config::{Amount, Resources},
    names,
};
use serde_json::{Map, Value, json};

/// Renders the volumes.
pub(crate) fn volumes(spec: &SidecarSpec) -> Vec<Value> {
    let mut volumes = vec![json!({"name": names::IDENTITY_VOLUME, "emptyDir": {"medium": "Memory"}})];
    if spec.mounts_podinfo {
        let item = |name: &str| json!({"path": name, "fieldRef": {"fieldPath": format!("metadata.{name}")}});
        let items = [item("labels"), item("annotations")];
        volumes.push(json!({"name": names::PODINFO_VOLUME, "downwardAPI": {"items": items}}));
    }
    if spec.projects_token {
        let token = json!({"path": names::TOKEN_FILE, "audience": names::TOKEN_AUDIENCE,
            "expirationSeconds": names::TOKEN_SECONDS});
        let sources = json!([{"serviceAccountToken": token}]);
        volumes.push(json!({"name": names::TOKEN_VOLUME, "projected": {"sources": sources}}));
    }
    volumes
}

/// Renders the sidecar. `token_mount` is the mount of the API server's token, used where no token is projected.
pub(crate) fn proxy(spec: &SidecarSpec, token_mount: Option<&Value>) -> Value {
    let port = |number: u16, name: &str| json!({"containerPort": number, "name": name, "protocol": "TCP"});
    let mut container = container(names::PROXY_CONTAINER, &spec.image);
    let env: Vec<_> = spec.env.iter().map(variable).collect();
    container.insert("env".into(), env.into());
    let ports = json!([
        port(spec.ports.inbound, "linkerd-proxy"),
        port(spec.ports.admin, "linkerd-admin")
    ]);
    container.insert("ports".into(), ports);
    container.insert("livenessProbe".into(), probe(&spec.probes.liveness));
    container.insert("readinessProbe".into(), probe(&spec.probes.readiness));
    if let Some(startup) = &spec.probes.startup {
        container.insert("startupProbe".into(), probe(startup));
    }
    if spec.native {
        container.insert("restartPolicy".into(), "Always".into());
    }
    if let Some(hooks) = lifecycle(&spec.lifecycle) {
        container.insert("lifecycle".into(), hooks);
    }
    resources(&mut container, &spec.resources);
    container.insert("securityContext".into(), proxy_security(spec));
    container.insert("volumeMounts".into(), mounts(spec, token_mount).into());
    container.into()
}

/// Renders the init container, which installs or checks the redirection rules.
pub(crate) fn init(spec: &SidecarSpec) -> Value {
    let (name, image, security) = match &spec.redirection.method {
        RedirectMethod::Init(init) => (names::INIT_CONTAINER, &init.image, init_security(init)),
        RedirectMethod::Cni(validator) => (
            names::VALIDATOR_CONTAINER,
            &validator.image,
            validator_security(validator),
        ),
    };
    let mut container = container(name, image);
    container.insert("args".into(), spec.init_args().into());
    resources(&mut container, &spec.resources);
    container.insert("securityContext".into(), security);
    container.into()
}

/// Renders the debug container.
pub(crate) fn debug(image: &ImageRef) -> Value {
    container(names::DEBUG_CONTAINER, image).into()
}

fn variable((name, value): &(EnvName, EnvValue)) -> Value {
    let name = name.as_str();
    match value {
        EnvValue::Literal(value) => json!({"name": name, "value": value}),
        EnvValue::Field(path) => json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}),
        EnvValue::ConfigMap { name: map, key } => {
            json!({"name": name, "valueFrom": {"configMapKeyRef": {"name": map, "key": key}}})
        }
        EnvValue::Manifest(rest) => {
            let mut entry = Map::from_iter([("name".to_owned(), name.into())]);
            entry.extend(rest.clone());
            entry.into()
        }
    }
}

fn lifecycle(lifecycle: &Lifecycle) -> Option<Value> {
    let mut hooks = Map::new();
    if let Some(command) = &lifecycle.post_start {
        hooks.insert("postStart".into(), json!({"exec": {"command": command}}));
    }
    if let Some(sleep) = lifecycle.pre_stop_sleep {
        // The kubelet's own pause: the image has no `sleep` program.
        hooks.insert("preStop".into(), json!({"sleep": {"seconds": sleep.as_secs()}}));
    }
    (!hooks.is_empty()).then(|| hooks.into())
}

fn mounts(spec: &SidecarSpec, token_mount: Option<&Value>) -> Vec<Value> {
    let mount = |path: &str, volume: &str| json!({"mountPath": path, "name": volume});
    let mut mounts = vec![mount(names::IDENTITY_DIR, names::IDENTITY_VOLUME)];
    if spec.mounts_podinfo {
        mounts.push(mount(names::PODINFO_DIR, names::PODINFO_VOLUME));
    }
    if spec.projects_token {
        mounts.push(mount(names::TOKEN_DIR, names::TOKEN_VOLUME));
    } else {
        mounts.extend(token_mount.cloned());
    }
    mounts
}

fn proxy_security(spec: &SidecarSpec) -> Value {
    if let Some(custom) = &spec.security.custom {
        return custom.clone();
    }
    let mut context = restricted(spec.security.uid);
    if let Some(gid) = spec.security.gid {
        context.insert("runAsGroup".into(), gid.into());
    }
    context.into()
}

fn init_security(init: &InitContainer) -> Value {
    let mut context = restricted(init.uid);
    context.insert("runAsNonRoot".into(), (!init.root).into());
    context.insert("runAsGroup".into(), init.uid.into());
    // The close-wait timeout is a kernel setting that only a privileged container may write.
    let privileged = init.root && !init.close_wait.is_zero();
    context.insert("privileged".into(), privileged.into());
    context.insert("allowPrivilegeEscalation".into(), privileged.into());
    // Rules are set by netlink alone, which asks for no raw sockets.
    let mut capabilities = json!({"add": ["NET_ADMIN"]});
    if !privileged {
        capabilities["drop"] = json!(["ALL"]);
    }
    context.insert("capabilities".into(), capabilities);
    context.into()
}

fn validator_security(validator: &Validator) -> Value {
    let mut context = restricted(validator.uid);
    context.insert("runAsGroup".into(), validator.uid.into());
    context.into()
}

fn container(name: &str, image: &ImageRef) -> Map<String, Value> {
    Map::from_iter([
        ("name".to_owned(), name.into()),
        ("image".to_owned(), image.to_string().into()),
        ("imagePullPolicy".to_owned(), image.pull_policy.clone().into()),
        ("terminationMessagePolicy".to_owned(), "FallbackToLogsOnError".into()),
    ])
}

/// The least privileges that a container can have.
fn restricted(uid: i64) -> Map<String, Value> {
    Map::from_iter([
        ("allowPrivilegeEscalation".to_owned(), false.into()),
        ("capabilities".to_owned(), json!({"drop": ["ALL"]})),
        ("readOnlyRootFilesystem".to_owned(), true.into()),
        ("runAsNonRoot".to_owned(), true.into()),
        ("runAsUser".to_owned(), uid.into()),
        ("seccompProfile".to_owned(), json!({"type": "RuntimeDefault"})),
    ])
}

fn probe(probe: &HttpProbe) -> Value {
    let get = json!({"path": probe.path, "port": probe.port});
    let mut out = Map::from_iter([("httpGet".to_owned(), get)]);
    let settings = [
        ("initialDelaySeconds", probe.settings.initial_delay_seconds),
        ("periodSeconds", probe.settings.period_seconds),
        ("timeoutSeconds", probe.settings.timeout_seconds),
        ("failureThreshold", probe.settings.failure_threshold),
    ];
    let set = settings
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?.into())));
    out.extend(set);
    out.into()
}

fn resources(container: &mut Map<String, Value>, resources: &Resources) {
    let amounts = |pick: fn(&Amount) -> &String| {
        let all = [
            ("cpu", &resources.cpu),
            ("memory", &resources.memory),
            ("ephemeral-storage", &resources.ephemeral_storage),
        ];
        let set = all.into_iter().filter(|(_, amount)| !pick(amount).is_empty());
        set.map(|(name, amount)| (name.to_owned(), Value::from(pick(amount).clone())))
            .collect::<Map<_, _>>()
    };
    let mut out = Map::new();
    for (key, amounts) in [
        ("limits", amounts(|amount| &amount.limit)),
        ("requests", amounts(|amount| &amount.request)),
    ] {
        if !amounts.is_empty() {
            out.insert(key.to_owned(), amounts.into());
        }
    }
    if !out.is_empty() {
        container.insert("resources".to_owned(), out.into());
    }
}
