//! Services: injection adds their opaque ports.

use destination_k8s::keys;
use injector_sidecar::Namespace;
use proxy_model::ports::PortSet;
use serde_json::Value;

use crate::patch::{Patch, Writer};

/// Patches a Service; the namespace's annotation takes precedence over the default list.
pub(crate) fn patch(service: &Value, namespace: &Namespace, default: &PortSet) -> Patch {
    let own = service
        .get("metadata")
        .and_then(|metadata| metadata.get("annotations")?.get(keys::OPAQUE_PORTS));
    let ports = match namespace.annotations.get(keys::OPAQUE_PORTS) {
        _ if own.is_some() => None,
        Some(ports) => Some(ports.clone()),
        None => exposed(service, default),
    };
    let mut writer = Writer::new(service, &[]);
    if let Some(ports) = ports {
        writer.set(&["metadata", "annotations"], keys::OPAQUE_PORTS, ports);
    }
    writer.finish()
}

fn exposed(service: &Value, default: &PortSet) -> Option<String> {
    let ports = service.get("spec")?.get("ports")?.as_array()?;
    let ports = ports
        .iter()
        .filter_map(|port| u16::try_from(port.get("port")?.as_u64()?).ok());
    let exposed: Vec<_> = ports
        .filter(|port| default.contains(*port))
        .map(|port| port.to_string())
        .collect();
    (!exposed.is_empty()).then(|| exposed.join(","))
}
