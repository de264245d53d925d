//! Kubernetes as the mesh sees it: one enum over every kind that is read, the custom kinds as plain serde structs,
//! labels, annotations and selectors. Types only, no client: where objects come from is `destination-source`'s business.

mod check;
pub mod custom;
pub mod duration;
pub mod keys;
mod object;
pub mod pod;
pub mod policy;
pub mod profile;
pub mod quantity;
pub mod route;
pub mod selector;
pub mod split;

pub use custom::Custom;
pub use object::{Invalid, Kind, Object, ObjectRef, Path, PlainRoute, PolicyRoute, Segment};
pub use pod::PodView;
pub use policy::{
    AuthorizationPolicy, EgressNetwork, HttpLocalRateLimitPolicy, MeshTlsAuthentication, NetworkAuthentication, Server,
    ServerAuthorization,
};
pub use profile::ServiceProfile;
pub use route::{GrpcRoute, HttpRoute, TcpRoute, TlsRoute};
pub use split::TrafficSplit;
