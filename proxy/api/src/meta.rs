//! Metadata: the object that an answer came from.

use linkerd2_proxy_api::meta::{Metadata, Resource, metadata::Kind};
use proxy_model::Meta;

use crate::{
    Error, Result,
    net::{decode_port, encode_port},
};

/// Decodes metadata; a resource may lack parts of its name.
pub fn decode_meta(wire: Metadata) -> Result<Meta> {
    match wire.kind.ok_or_else(|| Error::missing("kind"))? {
        Kind::Default(name) => Ok(Meta::Default(name.into())),
        Kind::Resource(Resource {
            group,
            kind,
            name,
            namespace,
            section,
            port,
        }) => Ok(Meta::Resource {
            group: group.into(),
            kind: kind.into(),
            name: name.into(),
            namespace: namespace.into(),
            section: section.into(),
            port: decode_port("port", port)?,
        }),
    }
}

/// Decodes metadata of a client policy: a resource has group, kind, name and namespace.
pub(crate) fn decode_full_meta(wire: Metadata) -> Result<Meta> {
    let meta = decode_meta(wire)?;
    if let Meta::Resource {
        group,
        kind,
        name,
        namespace,
        ..
    } = &meta
    {
        for (field, text) in [
            ("group", group),
            ("kind", kind),
            ("name", name),
            ("namespace", namespace),
        ] {
            if text.is_empty() {
                return Err(Error::invalid(format!("resource.{field}"), "is empty"));
            }
        }
    }
    Ok(meta)
}

/// Encodes metadata.
pub fn encode_meta(meta: &Meta) -> Metadata {
    let kind = match meta {
        Meta::Default(name) => Kind::Default(name.to_string()),
        Meta::Resource {
            group,
            kind,
            name,
            namespace,
            section,
            port,
        } => Kind::Resource(Resource {
            group: group.to_string(),
            kind: kind.to_string(),
            name: name.to_string(),
            namespace: namespace.to_string(),
            section: section.to_string(),
            port: encode_port(*port),
        }),
    };
    Metadata { kind: Some(kind) }
}
