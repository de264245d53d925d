//! The calls of the API.

/// Call of the API.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rpc {
    Get,
    GetProfile,
    OutboundGet,
    OutboundWatch,
    InboundGet,
    InboundWatch,
}

impl Rpc {
    pub(crate) const ALL: [Self; 6] = [
        Self::Get,
        Self::GetProfile,
        Self::OutboundGet,
        Self::OutboundWatch,
        Self::InboundGet,
        Self::InboundWatch,
    ];

    /// Returns the call of a path.
    pub(crate) fn from_path(path: &str) -> Option<Self> {
        Some(match path {
            "/io.linkerd.proxy.destination.Destination/Get" => Self::Get,
            "/io.linkerd.proxy.destination.Destination/GetProfile" => Self::GetProfile,
            "/io.linkerd.proxy.outbound.OutboundPolicies/Get" => Self::OutboundGet,
            "/io.linkerd.proxy.outbound.OutboundPolicies/Watch" => Self::OutboundWatch,
            "/io.linkerd.proxy.inbound.InboundServerPolicies/GetPort" => Self::InboundGet,
            "/io.linkerd.proxy.inbound.InboundServerPolicies/WatchPort" => Self::InboundWatch,
            _ => return None,
        })
    }

    /// Returns the name, as in metrics and `/streams`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Get => "Destination.Get",
            Self::GetProfile => "Destination.GetProfile",
            Self::OutboundGet => "OutboundPolicies.Get",
            Self::OutboundWatch => "OutboundPolicies.Watch",
            Self::InboundGet => "InboundServerPolicies.GetPort",
            Self::InboundWatch => "InboundServerPolicies.WatchPort",
        }
    }
}
