//! Kubernetes as the mesh sees it: one enum over every kind that is read, the custom kinds as plain serde structs,
//! labels, annotations, selectors, and a view of pods. Types only, no client: `destination-source` provides the
//! objects.

pub mod access;
mod check;
pub mod custom;
pub mod keys;
mod object;
mod path;
pub mod pod;
pub mod policy;
pub mod profile;
pub mod quantity;
pub mod route;
pub mod selector;
pub mod specs;
pub mod split;

pub use access::TrafficTarget;
pub use custom::Custom;
pub use object::{Invalid, Kind, Object, ObjectRef};
pub use path::{Path, Segment};
pub use pod::PodView;
pub use policy::{
    AuthorizationPolicy, EgressNetwork, HttpLocalRateLimitPolicy, MeshTlsAuthentication, NetworkAuthentication, Server,
    ServerAuthorization,
};
pub use profile::ServiceProfile;
pub use route::{GrpcRoute, HttpRoute, PolicyHttpRoute, TcpRoute, TlsRoute};
pub use specs::{HttpRouteGroup, SmiTcpRoute, UdpRoute};
pub use split::TrafficSplit;
