//! Services: the only thing they are told is which of their ports are bytes.

use destination_k8s::keys;
use proxy_model::ports::PortSet;
use serde_json::Value;

use crate::{
    annotations::Namespace,
    patch::{Patch, Writer},
};

/// What changes in a Service; the namespace's annotation beats the default list.
pub(crate) fn patch(service: &Value, namespace: &Namespace, default: &PortSet) -> Patch {
    let own = service
        .get("metadata")
        .and_then(|metadata| metadata.get("annotations")?.get(keys::OPAQUE_PORTS));
    let said = match namespace.annotations.get(keys::OPAQUE_PORTS) {
        _ if own.is_some() => None,
        Some(said) => Some(said.clone()),
        None => exposed(service, default),
    };
    let mut writer = Writer::new(service, &[]);
    if let Some(said) = said {
        writer.set(&["metadata", "annotations"], keys::OPAQUE_PORTS, said);
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
