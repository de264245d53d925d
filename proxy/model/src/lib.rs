//! The nouns that the proxy and the control plane share: one definition for both ends of every contract.
//!
//! Plain values that depend on no other crate of the mesh. `proxy-api` encodes them as protobuf, the index makes them,
//! the proxy acts on them. Mesh-wide facts live here, too: names of identities, ports, defaults, limits, reasons.
//!
//! ```text
//! [ServerPolicy] --authorizes--> inbound            [ClientPolicy] -route-> [Backend] -discovers-> [EndpointSet]
//! [Profile]      --the legacy, per-authority form of routes and splits
//! ```

pub mod addr;
mod backend;
pub mod budget;
pub mod cache;
pub mod defaults;
pub mod duration;
pub mod endpoint;
pub mod env;
pub mod identity;
pub mod inbound;
pub mod limits;
pub mod meta;
pub mod outbound;
pub mod pattern;
pub mod policy;
pub mod ports;
pub mod profile;
pub mod reason;
pub mod retry;
pub mod route;
pub mod tap;

pub use addr::{Authority, ClientAddr, OrigDstAddr, OutboundTarget, ServerAddr};
pub use backend::Backend;
pub use cache::{CachedOutbound, DiscoveryCache};
pub use endpoint::{Endpoint, EndpointSet, EndpointUpdate, Hint, Http2Params, Labels};
pub use identity::{Id, MeshNames, ServiceAccount, TlsIdentity};
pub use inbound::{Authentication, Authorization, NetworkMatch, ServerPolicy, ServerProtocol};
pub use meta::Meta;
pub use outbound::{ClientPolicy, ClientProtocol};
pub use policy::DefaultPolicy;
pub use profile::Profile;
pub use reason::Reason;
