//! Injection: inspect the object, resolve its sidecar, write the patch.

use destination_k8s::keys;
use injector_sidecar::{
    Annotations, Config, Namespace, Origin, Pod, PodFacts, Report, SidecarSpec, annotations as a, template,
    template_path,
};
use proxy_model::ports::PortSet;
use serde_json::Value;

use crate::{
    Error,
    patch::{Patch, Writer},
    render, service,
};

/// Injector with one configuration.
#[derive(Clone, Debug)]
pub struct Injector {
    config: Config,
    /// SHA-256 of the trust anchors, hexadecimal.
    trust_root: String,
    opaque: PortSet,
}

/// Object that holds a pod, with its context.
#[derive(Clone, Debug)]
pub struct Workload<'a> {
    /// Object, as JSON.
    pub object: &'a Value,
    /// Namespace of the object.
    pub namespace: &'a Namespace,
    /// Top-level owner (a Deployment, not its ReplicaSet); none means the object itself.
    pub owner: Option<Owner>,
    /// Origin of the request.
    pub origin: Origin,
}

/// Owner of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// Outcome for one object.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The patch adds a sidecar.
    Inject(Report, Patch),
    /// The object stays unchanged, for the reasons in the report.
    Skip(Report),
}

impl Injector {
    /// Validates the configuration.
    pub fn new(config: Config) -> Result<Self, Error> {
        config.validate()?;
        let digest =
            aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, config.identity_trust_anchors_pem.as_bytes());
        let trust_root = hex::encode(digest);
        // Valid, checked above.
        let opaque = config.proxy.opaque_ports.parse().unwrap_or_default();
        Ok(Self {
            config,
            trust_root,
            opaque,
        })
    }

    /// Returns the configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Inspects an object without injecting it.
    pub fn report(&self, workload: &Workload<'_>) -> Report {
        Report::new(workload.object, workload.namespace, workload.origin, &self.config)
    }

    /// Injects an object.
    pub fn inject(&self, workload: &Workload<'_>) -> Result<Outcome, Error> {
        let report = self.report(workload);
        if !report.is_injectable() {
            return Ok(Outcome::Skip(report));
        }
        let path = template_path(&report.kind).unwrap_or_default();
        let lacks = |field| Error::Object {
            resource: report.resource(),
            field,
        };
        let pod = template(workload.object, path)
            .map(Pod)
            .ok_or_else(|| lacks("pod template"))?;
        if pod.containers().is_empty() {
            return Err(lacks("list of containers"));
        }
        let facts = PodFacts::new(pod);
        let annotations = Annotations::new(pod.metadata(), workload.namespace);
        let spec = SidecarSpec::resolve(&self.config, &annotations, &facts)?;
        let mut writer = Writer::new(workload.object, path);
        self.annotate(
            &mut writer,
            Marks {
                spec: &spec,
                annotations,
                facts: &facts,
                origin: workload.origin,
            },
        );
        self.label(&mut writer, workload, &report);
        fill(&mut writer, pod, &spec);
        Ok(Outcome::Inject(report, writer.finish()))
    }

    /// Patches a Service: adds its opaque ports unless it sets them itself.
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
        writer.set(&path, a::PROXY_VERSION_MARK, marks.spec.image.version.clone());
        writer.set(&path, a::TRUST_ROOT_SHA256, self.trust_root.clone());
        for (key, value) in marks.annotations.inherited() {
            writer.set(&path, key, value);
        }
        let default_opaque = marks.facts.declared_in(&self.opaque);
        if marks.annotations.get(keys::OPAQUE_PORTS).is_none() && !default_opaque.is_empty() {
            writer.set(&path, keys::OPAQUE_PORTS, default_opaque);
        }
        if marks.spec.proxy.tap {
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
        if owner.kind != "Pod" && template_path(&owner.kind).is_some() {
            let key = format!("linkerd.io/proxy-{}", owner.kind.to_lowercase());
            writer.set(&path, &key, label_value(&owner.name));
        }
    }
}

fn fill(writer: &mut Writer<'_>, pod: Pod<'_>, spec: &SidecarSpec) {
    for volume in render::volumes(spec) {
        writer.append(&["spec", "volumes"], volume);
    }
    let (inits, containers) = (["spec", "initContainers"], ["spec", "containers"]);
    let proxy = render::proxy(spec, pod.token_mount());
    if let Some(image) = &spec.debug {
        writer.append(&containers, render::debug(image));
    }
    if spec.native {
        // Before all others, so that the pod's own init containers are meshed too.
        writer.insert(&inits, 0, render::init(spec));
        writer.insert(&inits, 1, proxy);
    } else if spec.awaits_ready {
        writer.append(&inits, render::init(spec));
        // First, so that the kubelet starts the others after its hook.
        writer.insert(&containers, 0, proxy);
    } else {
        writer.append(&inits, render::init(spec));
        writer.append(&containers, proxy);
    }
}

/// Inputs of a pod's annotations.
#[derive(Copy, Clone)]
struct Marks<'a> {
    spec: &'a SidecarSpec,
    annotations: Annotations<'a>,
    facts: &'a PodFacts,
    origin: Origin,
}

/// Cuts a name to the length of a label value; the API server would reject the pod otherwise.
fn label_value(name: &str) -> &str {
    const LABEL_VALUE_MAX: usize = 63;
    let cut = name.get(..LABEL_VALUE_MAX).unwrap_or(name);
    cut.trim_end_matches(|c: char| !c.is_ascii_alphanumeric())
}
