//! Authorizations of a Server or a route: ServerAuthorizations and AuthorizationPolicies, with their references.

use std::sync::Arc;

use destination_k8s::{
    AuthorizationPolicy, Kind, Object, Server, ServerAuthorization, keys,
    policy::{ClientSpec, Network, TargetRef},
    selector,
};
use proxy_model::{Authentication, Authorization, Id, Meta, NetworkMatch, defaults::EVERYWHERE};

use crate::{reader::Reader, route::AnyRoute, store};

use super::{default::whole, labels};

/// Reason for which an AuthorizationPolicy allows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidReference {
    #[error("a reference to a {0} is not supported")]
    Kind(String),
    #[error("the {kind} {namespace}/{name} does not exist")]
    Missing {
        kind: Kind,
        namespace: String,
        name: String,
    },
}

impl InvalidReference {
    fn missing(kind: Kind, namespace: &str, name: &str) -> Self {
        Self::Missing {
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

/// Builds the authorizations of a Server, without its access policy.
pub(super) fn server_authorizations(reader: &Reader<'_>, server: &Server) -> Vec<Authorization> {
    let ns = server.metadata.namespace.as_deref().unwrap_or_default();
    let name = server.metadata.name.as_deref().unwrap_or_default();
    let mut found: Vec<Authorization> = Vec::new();
    for authorization in by_age(reader.server_authorizations(ns), |a| &a.metadata) {
        let selected = &authorization.spec.server;
        let by_name = selected.name.as_deref() == Some(name);
        let by_labels = selected.selector.as_ref();
        if by_name || by_labels.is_some_and(|labels| selector::matches(labels, server.metadata.labels.as_ref())) {
            found.push(client_authorization(reader, authorization, &authorization.spec.client));
        }
    }
    let is_target = |target: &TargetRef| {
        (target.is(keys::POLICY_GROUP, "Server") && target.name == name)
            || (target.is("", "Namespace") && (target.name.is_empty() || target.name == ns))
    };
    found.extend(policies(reader, ns, is_target));
    found
}

/// Builds the authorizations of a route alone.
pub(super) fn route_authorizations(reader: &Reader<'_>, route: AnyRoute<'_>) -> Vec<Authorization> {
    let (group, kind) = route.group_and_kind();
    policies(reader, route.namespace(), |target| {
        target.is(group, kind) && target.name == route.name()
    })
}

fn by_age<'a, T>(
    objects: impl Iterator<Item = &'a Arc<T>>,
    meta: impl Fn(&T) -> &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
) -> Vec<&'a Arc<T>> {
    let mut objects: Vec<_> = objects.collect();
    objects.sort_by(|a, b| store::age(meta(a)).cmp(&store::age(meta(b))));
    objects
}

fn policies(reader: &Reader<'_>, ns: &str, is_target: impl Fn(&TargetRef) -> bool) -> Vec<Authorization> {
    let all = by_age(reader.authorization_policies(ns), |policy| &policy.metadata);
    let ours = all.into_iter().filter(|policy| is_target(&policy.spec.target_ref));
    // A policy with a dangling reference allows nothing.
    ours.filter_map(|policy| policy_authorization(reader, policy).ok())
        .collect()
}

fn policy_authorization(reader: &Reader<'_>, policy: &AuthorizationPolicy) -> Result<Authorization, InvalidReference> {
    let ns = policy.metadata.namespace.as_deref().unwrap_or_default();
    let mut networks = whole(&EVERYWHERE);
    let mut authentication = Authentication::Unauthenticated;
    for reference in &policy.spec.required_authentication_refs {
        let other_ns = reference.namespace.as_deref().unwrap_or(ns);
        if reference.is("", "ServiceAccount") {
            authentication = identities(vec![reader.config.identity(other_ns, &reference.name)], vec![]);
        } else if reference.is(keys::POLICY_GROUP, "MeshTLSAuthentication") {
            authentication = mesh_tls(reader, other_ns, &reference.name)?;
        } else if reference.is(keys::POLICY_GROUP, "NetworkAuthentication") {
            networks = network_authentication(reader, other_ns, &reference.name)?;
        } else {
            return Err(InvalidReference::Kind(reference.kind.clone()));
        }
    }
    let name = policy.metadata.name.as_deref().unwrap_or_default();
    Ok(authorization("authorizationpolicy", name, networks, authentication))
}

fn authorization(kind: &str, name: &str, networks: Vec<NetworkMatch>, authentication: Authentication) -> Authorization {
    Authorization {
        networks,
        authentication,
        labels: labels(keys::POLICY_GROUP, kind, name),
        meta: Some(Meta::resource(keys::POLICY_GROUP, kind, "", name)),
    }
}

fn mesh_tls(reader: &Reader<'_>, ns: &str, name: &str) -> Result<Authentication, InvalidReference> {
    let Some(Object::MeshTlsAuthentication(found)) = reader.object(Kind::MeshTlsAuthentication, ns, name) else {
        return Err(InvalidReference::missing(Kind::MeshTlsAuthentication, ns, name));
    };
    let (mut names, mut suffixes) = patterns(found.spec.identities.as_deref().unwrap_or_default());
    for reference in found.spec.identity_refs.iter().flatten() {
        let other_ns = reference.namespace.as_deref().unwrap_or(ns);
        if reference.is("", "ServiceAccount") {
            names.push(reader.config.identity(other_ns, &reference.name));
        } else if reference.is("", "Namespace") {
            let named = if reference.name.is_empty() { ns } else { &reference.name };
            suffixes.push(reader.config.identity_suffix(named));
        }
    }
    Ok(identities(names, suffixes))
}

/// Splits patterns into exact names and suffixes (of those that begin with `*`).
fn patterns(all: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut names, mut suffixes) = (vec![], vec![]);
    for text in all {
        match text.strip_prefix('*') {
            Some(suffix) => suffixes.push(suffix.strip_prefix('.').unwrap_or(suffix).to_owned()),
            None => names.push(text.clone()),
        }
    }
    (names, suffixes)
}

fn identities(names: Vec<String>, mut suffixes: Vec<String>) -> Authentication {
    let mut identities: Vec<Id> = names.iter().filter_map(|name| name.parse().ok()).collect();
    identities.sort();
    suffixes.sort();
    Authentication::TlsAuthenticated { identities, suffixes }
}

fn network_authentication(reader: &Reader<'_>, ns: &str, name: &str) -> Result<Vec<NetworkMatch>, InvalidReference> {
    match reader.object(Kind::NetworkAuthentication, ns, name) {
        Some(Object::NetworkAuthentication(found)) => Ok(networks(&found.spec.networks)),
        _ => Err(InvalidReference::missing(Kind::NetworkAuthentication, ns, name)),
    }
}

fn networks(found: &[Network]) -> Vec<NetworkMatch> {
    let network = |found: &Network| NetworkMatch {
        net: found.cidr.0,
        except: found.except.iter().map(|except| except.0).collect(),
    };
    found.iter().map(network).collect()
}

fn client_authorization(reader: &Reader<'_>, found: &ServerAuthorization, client: &ClientSpec) -> Authorization {
    let ns = found.metadata.namespace.as_deref().unwrap_or_default();
    let nets = match &client.networks {
        Some(nets) => networks(nets),
        None => whole(&reader.config.cluster_networks),
    };
    let authentication = match &client.mesh_tls {
        _ if client.unauthenticated => Authentication::Unauthenticated,
        Some(tls) if tls.unauthenticated_tls => Authentication::TlsUnauthenticated,
        Some(tls) => {
            let (mut names, suffixes) = patterns(tls.identities.as_deref().unwrap_or_default());
            for account in tls.service_accounts.iter().flatten() {
                names.push(
                    reader
                        .config
                        .identity(account.namespace.as_deref().unwrap_or(ns), &account.name),
                );
            }
            identities(names, suffixes)
        }
        // Neither is set: no client can authenticate.
        None => identities(vec![], vec![]),
    };
    let name = found.metadata.name.as_deref().unwrap_or_default();
    authorization("serverauthorization", name, nets, authentication)
}

/// Returns the reason for which a policy allows nothing, if any.
pub(crate) fn problem(reader: &Reader<'_>, policy: &AuthorizationPolicy) -> Option<InvalidReference> {
    policy_authorization(reader, policy).err()
}
