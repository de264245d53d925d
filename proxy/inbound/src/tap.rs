//! Tap events of inbound requests. Runs only while there are observers.

use std::{collections::BTreeMap, sync::Arc};

use http::Request;
use proxy_http::{Body, h1, tap::TappedRequest};
use proxy_metrics::ResourceLabels;
use proxy_model::{
    Authorization, Labels, Meta,
    tap::{Direction, TapRequest},
};

use crate::{
    authorize,
    connection::{Connection, TlsStatus},
    http::Snapshot,
};

/// Route and authorization that admitted a request.
#[derive(Copy, Clone, Debug)]
pub(crate) struct TapAuthorization<'p> {
    pub(crate) route: &'p Meta,
    pub(crate) authorization: &'p Authorization,
}

/// Reports the start of a request.
#[cold]
pub(crate) fn begin(
    connection: &Connection,
    snapshot: &Snapshot,
    authorized: &TapAuthorization<'_>,
    request: &Request<Body>,
) -> Option<TappedRequest> {
    let uri = request.uri();
    let tapped = TapRequest {
        direction: Direction::Inbound,
        source: connection.client.0,
        source_labels: source_labels(&connection.tls),
        destination: connection.target.0,
        destination_labels: destination_labels(connection, snapshot, authorized),
        route_labels: Labels::default(),
        method: request.method().clone(),
        scheme: uri.scheme_str().unwrap_or("").to_owned(),
        authority: h1::authority(request).unwrap_or("").to_owned(),
        path: uri.path_and_query().map_or("", |path| path.as_str()).to_owned(),
    };
    connection.worker.tap.request(tapped, request.headers())
}

fn source_labels(tls: &TlsStatus) -> Labels {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let labels = match tls {
        TlsStatus::Mesh(Some(id)) => vec![pair("tls", "true"), pair("client_id", id.as_str())],
        TlsStatus::Mesh(None) => vec![pair("tls", "true")],
        TlsStatus::Opaque(sni) => vec![pair("tls", "opaque"), pair("sni", sni)],
        TlsStatus::None(why) => vec![pair("tls", "no_identity"), pair("no_tls_reason", why.as_str())],
    };
    Arc::new(labels.into_iter().collect())
}

fn destination_labels(connection: &Connection, snapshot: &Snapshot, authorized: &TapAuthorization<'_>) -> Labels {
    let server = snapshot.labels(connection, None).server;
    let server_resource = ResourceLabels {
        group: server.group,
        kind: server.kind,
        name: server.name,
    };
    let mut labels = BTreeMap::new();
    let resources = [
        ("srv", server_resource),
        ("route", authorized.route.into()),
        ("authz", authorize::authorization_labels(authorized.authorization)),
    ];
    for (prefix, resource) in resources {
        for (name, value) in [
            ("group", resource.group),
            ("kind", resource.kind),
            ("name", resource.name),
        ] {
            labels.insert(format!("{prefix}_{name}"), value.to_owned());
        }
    }
    labels.insert("srv_port".to_owned(), connection.target.0.port().to_string());
    Arc::new(labels)
}
