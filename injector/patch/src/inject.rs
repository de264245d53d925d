//! Injects: decides, reads the settings, writes the patch.

use destination_k8s::keys;
use proxy_model::ports::PortSet;
use serde_json::Value;

use crate::{
    Error,
    annotations::{self as a, Annotations, Namespace},
    component::Component,
    config::Config,
    containers::{self, Parts},
    patch::{Patch, Writer},
    pod::{self, Pod, PodPorts},
    report::{self, Origin, Reason, Report},
    service,
    settings::{self, Settings},
};

/// Injects by one configuration; what can be worked out once is.
#[derive(Clone, Debug)]
pub struct Injector {
    config: Config,
    /// SHA-256 of the trust anchors, in hex.
    trust_root: String,
    opaque: PortSet,
}

/// An object that holds a pod.
#[derive(Clone, Debug)]
pub struct Workload<'a> {
    /// The object, as JSON.
    pub object: &'a Value,
    /// Its namespace.
    pub namespace: &'a Namespace,
    /// What a person would name as its owner; none is the object itself.
    pub owner: Option<Owner>,
    /// Who asks.
    pub origin: Origin,
}

/// What owns a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
}

/// What comes of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It joins.
    Inject(Report, Patch),
    /// It stays as it is; the report says why.
    Skip(Report),
}

impl Injector {
    /// Takes a configuration that some pod could start with.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.validate()?;
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, config.identity_trust_anchors_pem.as_bytes());
        let mut trust_root = String::with_capacity(2 * digest.as_ref().len());
        for byte in digest.as_ref() {
            trust_root.push_str(&format!("{byte:02x}"));
        }
        // Validated above.
        let opaque = config.proxy.opaque_ports.parse().unwrap_or_default();
        Ok(Self {
            config,
            trust_root,
            opaque,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Looks at an object, without injecting it.
    pub fn report(&self, workload: &Workload<'_>) -> Report {
        let object = workload.object;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
        let kind = text(object.get("kind"));
        let metadata = object.get("metadata");
        let name = text(metadata.and_then(|metadata| metadata.get("name").or_else(|| metadata.get("generateName"))));
        let pod = pod::template_path(&kind)
            .and_then(|path| pod::template(object, path))
            .map(Pod);
        let Some(pod) = pod.filter(|pod| pod.spec().is_some()) else {
            return Report {
                kind,
                name,
                reasons: vec![Reason::Unsupported],
                ..Report::default()
            };
        };
        let annotations = Annotations::new(pod.metadata(), workload.namespace);
        let projection = self.config.identity.service_account_token_projection;
        Report {
            kind,
            name,
            udp: pod.uses_udp(),
            annotation_at: report::annotation_at(annotations),
            reasons: report::reasons(pod, annotations, workload.origin, projection),
        }
    }

    /// Injects an object that holds a pod.
    pub fn inject(&self, workload: &Workload<'_>) -> Result<Outcome, Error> {
        let report = self.report(workload);
        if !report.is_injectable() {
            return Ok(Outcome::Skip(report));
        }
        let path = pod::template_path(&report.kind).unwrap_or_default();
        let lacks = |field| Error::Object {
            resource: report.resource(),
            field,
        };
        let pod = pod::template(workload.object, path)
            .map(Pod)
            .ok_or_else(|| lacks("pod template"))?;
        if pod.containers().is_empty() {
            return Err(lacks("list of containers"));
        }
        let ports = PodPorts::of(pod);
        let annotations = Annotations::new(pod.metadata(), workload.namespace);
        let component = Component::of(pod);
        let control_plane = component != Component::None;
        let source = settings::Source {
            config: &self.config,
            annotations,
            ports: &ports,
            control_plane,
        };
        let settings = Settings::read(source)?;
        let mut writer = Writer::new(workload.object, path);
        self.annotate(
            &mut writer,
            Marks {
                settings: &settings,
                annotations,
                ports: &ports,
                origin: workload.origin,
            },
        );
        self.label(&mut writer, workload, &report);
        self.fill(&mut writer, pod, &settings, component);
        Ok(Outcome::Inject(report, writer.finish()))
    }

    /// What changes in a Service: it is told its opaque ports, if it does not tell them itself.
    pub fn service(&self, service: &Value, namespace: &Namespace) -> Patch {
        service::patch(service, namespace, &self.opaque)
    }

    fn annotate(&self, writer: &mut Writer<'_>, marks: Marks<'_>) {
        let created_by = match marks.origin {
            Origin::Webhook => format!("linkerd/proxy-injector {}", self.config.linkerd_version),
            Origin::Command => format!("linkerd/cli {}", self.config.linkerd_version),
        };
        let path = ["metadata", "annotations"];
        writer.set(&path, a::CREATED_BY, created_by);
        writer.set(&path, a::PROXY_VERSION_MARK, marks.settings.image.version.clone());
        writer.set(&path, a::TRUST_ROOT_SHA256, self.trust_root.clone());
        for (key, value) in marks.annotations.inherited() {
            writer.set(&path, key, value);
        }
        let default_opaque = marks.ports.declared_of(&self.opaque);
        if marks.annotations.get(keys::OPAQUE_PORTS).is_none() && !default_opaque.is_empty() {
            writer.set(&path, keys::OPAQUE_PORTS, default_opaque);
        }
        if marks.settings.tap {
            writer.set(&path, a::TAP_ENABLED, "true");
        }
    }

    fn label(&self, writer: &mut Writer<'_>, workload: &Workload<'_>, report: &Report) {
        let path = ["metadata", "labels"];
        writer.set(&path, keys::CONTROL_PLANE_NS, self.config.linkerd_namespace.clone());
        if !workload.namespace.name.is_empty() {
            writer.set(&path, keys::WORKLOAD_NS, workload.namespace.name.clone());
        }
        let own = || Owner {
            kind: report.kind.clone(),
            name: report.name.clone(),
        };
        let owner = workload.owner.clone().unwrap_or_else(own);
        if owner.kind != "Pod" && pod::template_path(&owner.kind).is_some() {
            let key = format!("linkerd.io/proxy-{}", owner.kind.to_lowercase());
            writer.set(&path, &key, label_value(&owner.name));
        }
    }

    fn fill(&self, writer: &mut Writer<'_>, pod: Pod<'_>, settings: &Settings, component: Component) {
        let parts = Parts {
            config: &self.config,
            settings,
            component,
            token_mount: pod.token_mount(),
        };
        for volume in parts.volumes() {
            writer.append(&["spec", "volumes"], volume);
        }
        let (inits, containers) = (["spec", "initContainers"], ["spec", "containers"]);
        if settings.native {
            // First of all, so that the init containers after them are in the mesh.
            writer.insert(&inits, 0, parts.init());
            writer.insert(&inits, 1, parts.proxy());
        } else {
            writer.append(&inits, parts.init());
        }
        if let Some(image) = &settings.debug {
            writer.append(&containers, containers::debug(image));
        }
        match (settings.native, settings.awaits) {
            (true, _) => {}
            // The first, so that the kubelet starts the others after its hook.
            (false, true) => writer.insert(&containers, 0, parts.proxy()),
            (false, false) => writer.append(&containers, parts.proxy()),
        }
    }
}

/// What a pod's annotations are made from.
#[derive(Copy, Clone)]
struct Marks<'a> {
    settings: &'a Settings,
    annotations: Annotations<'a>,
    ports: &'a PodPorts,
    origin: Origin,
}

/// Names may be longer than values of labels; a label that is too long would keep the pod from being made.
fn label_value(name: &str) -> &str {
    const LABEL_VALUE_MAX: usize = 63;
    let cut = name.get(..LABEL_VALUE_MAX).unwrap_or(name);
    cut.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
}
