//! Conversion of Gateway API routes into the model. An unsupported feature is an error; its route is ignored, and the
//! error reported as a problem. Expressions have been checked before (`check.rs`) and are passed on as text.

use destination_k8s::{
    Kind, ObjectRef, keys,
    route::{self as k8s, PathKind, ValueKind},
};
use http::{HeaderName, HeaderValue, Method};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proxy_model::{
    Meta,
    budget::{Exceeded, PatternFault},
    limits,
    route::{
        GrpcMatch, HeaderMatch, HeaderValueMatch, HostMatch, HttpMatch, InvalidPattern, PathMatch, Pattern, QueryMatch,
        QueryValueMatch,
    },
};

use crate::access_fault;

/// Reason for which a route is ignored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsupported {
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
    #[error("it has {0}")]
    Budget(#[from] Exceeded),
    #[error("{0:?} is not a valid header name")]
    HeaderName(String),
    #[error("it matches the header host, which is not supported")]
    Host,
    #[error(transparent)]
    Access(#[from] access_fault::Fault),
    #[error("{0:?} is not a valid header value")]
    HeaderValue(String),
    #[error("{0:?} is not an HTTP method")]
    Method(String),
    #[error("a gRPC method cannot be matched by a regular expression")]
    GrpcMethodRegex,
    #[error("the filter {0} has no settings")]
    FilterSettings(String),
    #[error("the filter {0} is not supported")]
    Filter(String),
    #[error("the filter {filter} has the {field} {value:?}, {fault}")]
    FilterValue {
        filter: &'static str,
        field: &'static str,
        value: String,
        fault: &'static str,
    },
    #[error("the filter {0} replaces a prefix, so the matches of its rule must be of type PathPrefix")]
    PrefixMatch(&'static str),
    #[error("a rule and its backends can have {0}")]
    Filters(&'static str),
    #[error("a backend of kind {0} is not supported")]
    Backend(String),
    #[error("a {kind} must have exactly one rule, but this one has {rules}")]
    Rules { kind: &'static str, rules: usize },
}

impl Unsupported {
    /// Reason of the condition `Accepted`.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Filters(_) => "IncompatibleFilters",
            _ => "UnsupportedValue",
        }
    }
}

impl From<PatternFault> for Unsupported {
    fn from(fault: PatternFault) -> Self {
        match fault {
            PatternFault::Invalid(error) => Self::Pattern(error),
            PatternFault::Exceeded(exceeded) => Self::Budget(exceeded),
        }
    }
}

/// Kind of traffic of a route. At one port of a parent they don't mix: the first of these with a route wins.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Traffic {
    Grpc,
    Http,
    Tls,
    Tcp,
}

/// Route of any kind.
#[derive(Copy, Clone, Debug)]
pub(crate) enum AnyRoute<'a> {
    /// HTTPRoute of either group.
    Http(&'static str, &'a k8s::HttpRoute),
    /// GRPCRoute.
    Grpc(&'a k8s::GrpcRoute),
    /// TLSRoute.
    Tls(&'a k8s::TlsRoute),
    /// TCPRoute.
    Tcp(&'a k8s::TlsRoute),
}

impl<'a> AnyRoute<'a> {
    pub(crate) fn from_object(object: &'a destination_k8s::Object) -> Option<Self> {
        use destination_k8s::Object;
        match object {
            Object::HttpRoute(route) => Some(Self::Http(keys::GATEWAY_GROUP, route)),
            Object::PolicyHttpRoute(route) => Some(Self::Http(keys::POLICY_GROUP, route)),
            Object::GrpcRoute(route) => Some(Self::Grpc(route)),
            Object::TlsRoute(route) => Some(Self::Tls(route)),
            Object::TcpRoute(route) => Some(Self::Tcp(route)),
            _ => None,
        }
    }

    /// Returns the parents, of those within the limit.
    pub(crate) fn parents(self) -> &'a [k8s::ParentRef] {
        let all = self.all_parents();
        &all[..all.len().min(limits::OBJECT_PARENTS.value)]
    }

    /// Returns the parents, of any number.
    pub(crate) fn all_parents(self) -> &'a [k8s::ParentRef] {
        match self {
            Self::Http(_, route) => &route.spec.parent_refs,
            Self::Grpc(route) => &route.spec.parent_refs,
            Self::Tls(route) | Self::Tcp(route) => &route.spec.parent_refs,
        }
    }

    pub(crate) fn metadata(self) -> &'a ObjectMeta {
        match self {
            Self::Http(_, route) => &route.metadata,
            Self::Grpc(route) => &route.metadata,
            Self::Tls(route) | Self::Tcp(route) => &route.metadata,
        }
    }

    pub(crate) fn group_and_kind(self) -> (&'static str, &'static str) {
        match self {
            Self::Http(group, _) => (group, "HTTPRoute"),
            Self::Grpc(_) => (keys::GATEWAY_GROUP, "GRPCRoute"),
            Self::Tls(_) => (keys::GATEWAY_GROUP, "TLSRoute"),
            Self::Tcp(_) => (keys::GATEWAY_GROUP, "TCPRoute"),
        }
    }

    /// Returns the reference of the object.
    pub(crate) fn object_ref(self) -> ObjectRef {
        let kind = match self {
            Self::Http(keys::POLICY_GROUP, _) => Kind::PolicyHttpRoute,
            Self::Http(..) => Kind::HttpRoute,
            Self::Grpc(_) => Kind::GrpcRoute,
            Self::Tls(_) => Kind::TlsRoute,
            Self::Tcp(_) => Kind::TcpRoute,
        };
        ObjectRef::new(kind, self.namespace(), self.name())
    }

    /// Returns the kind of traffic.
    pub(crate) fn traffic(self) -> Traffic {
        match self {
            Self::Http(..) => Traffic::Http,
            Self::Grpc(_) => Traffic::Grpc,
            Self::Tls(_) => Traffic::Tls,
            Self::Tcp(_) => Traffic::Tcp,
        }
    }

    /// Returns the backends of each rule.
    pub(crate) fn rules(self) -> Vec<&'a [k8s::BackendRef]> {
        match self {
            Self::Http(_, route) => route.spec.rules.iter().map(|rule| &*rule.backend_refs).collect(),
            Self::Grpc(route) => route.spec.rules.iter().map(|rule| &*rule.backend_refs).collect(),
            Self::Tls(route) | Self::Tcp(route) => route.spec.rules.iter().map(|rule| &*rule.backend_refs).collect(),
        }
    }

    /// Returns all backends.
    pub(crate) fn backends(self) -> Vec<&'a k8s::BackendRef> {
        self.rules().into_iter().flatten().collect()
    }

    /// Returns the backends of all mirrors.
    pub(crate) fn mirrors(self) -> Vec<&'a k8s::BackendRef> {
        let of = |filters: &'a [k8s::Filter]| filters.iter().filter_map(|filter| filter.request_mirror.as_ref());
        let mirrors: Vec<_> = match self {
            Self::Http(_, route) => route.spec.rules.iter().flat_map(|rule| of(&rule.filters)).collect(),
            Self::Grpc(route) => route.spec.rules.iter().flat_map(|rule| of(&rule.filters)).collect(),
            Self::Tls(_) | Self::Tcp(_) => vec![],
        };
        mirrors.into_iter().map(|mirror| &mirror.backend_ref).collect()
    }

    pub(crate) fn namespace(self) -> &'a str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    pub(crate) fn name(self) -> &'a str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// Returns the name for client policies.
    pub(crate) fn meta(self) -> Meta {
        let (group, kind) = self.group_and_kind();
        Meta::resource(group, kind, self.namespace(), self.name())
    }
}

/// Converts the hosts of a route.
pub(crate) fn hosts(names: &[String]) -> Vec<HostMatch> {
    let host = |name: &String| match name.strip_prefix("*.") {
        Some(suffix) => HostMatch::Suffix(suffix.split('.').rev().map(str::to_owned).collect()),
        None => HostMatch::Exact(name.clone()),
    };
    names.iter().map(host).collect()
}

pub(crate) fn header_name(name: &str) -> Result<HeaderName, Unsupported> {
    name.parse().map_err(|_| Unsupported::HeaderName(name.to_owned()))
}

pub(crate) fn header_value(value: &str) -> Result<HeaderValue, Unsupported> {
    value.parse().map_err(|_| Unsupported::HeaderValue(value.to_owned()))
}

/// Converts a match of an HTTPRoute.
pub(crate) fn http_match(found: &k8s::HttpMatch) -> Result<HttpMatch, Unsupported> {
    let path = found.path.as_ref().map(|path| match path.kind {
        PathKind::Exact => PathMatch::Exact(path.value.clone()),
        PathKind::PathPrefix => PathMatch::Prefix(path.value.clone()),
        PathKind::RegularExpression => PathMatch::Regex(Pattern::uncompiled(&path.value)),
    });
    let query = |found: &k8s::ValueMatch| {
        let value = match found.kind {
            ValueKind::Exact => QueryValueMatch::Exact(found.value.clone()),
            ValueKind::RegularExpression => QueryValueMatch::Regex(Pattern::uncompiled(&found.value)),
        };
        QueryMatch {
            name: found.name.clone(),
            value,
        }
    };
    let method = found
        .method
        .as_ref()
        .map(|method| Method::from_bytes(method.as_bytes()).map_err(|_| Unsupported::Method(method.clone())));
    Ok(HttpMatch {
        path,
        headers: headers(&found.headers)?,
        query: found.query_params.iter().map(query).collect(),
        method: method.transpose()?,
    })
}

fn headers(found: &[k8s::ValueMatch]) -> Result<Vec<HeaderMatch>, Unsupported> {
    let header = |found: &k8s::ValueMatch| {
        let value = match found.kind {
            ValueKind::Exact => HeaderValueMatch::Exact(header_value(&found.value)?),
            ValueKind::RegularExpression => HeaderValueMatch::Regex(Pattern::uncompiled(&found.value)),
        };
        Ok(HeaderMatch {
            name: header_name(&found.name)?,
            value,
        })
    };
    found.iter().map(header).collect()
}

/// Converts a match of a GRPCRoute.
pub(crate) fn grpc_match(found: &k8s::GrpcMatch) -> Result<GrpcMatch, Unsupported> {
    if found
        .method
        .as_ref()
        .is_some_and(|method| method.kind == ValueKind::RegularExpression)
    {
        return Err(Unsupported::GrpcMethodRegex);
    }
    let method = found.method.as_ref();
    Ok(GrpcMatch {
        service: method.and_then(|method| method.service.clone()),
        method: method.and_then(|method| method.method.clone()),
        headers: headers(&found.headers)?,
        has_rpc: method.is_some(),
    })
}
