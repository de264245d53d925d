//! What the driver needs of a control plane. The program implements it over gRPC, tests play it.

use std::future::Future;

use futures_util::stream::LocalBoxStream;
use proxy_model::{ClientPolicy, EndpointUpdate, OutboundTarget, Profile, ServerPolicy};

/// Answers, until the stream ends or fails.
pub type Stream<T> = LocalBoxStream<'static, Result<T, Failure>>;

/// Why a stream failed, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nothing is known about the target (`NotFound`, `Unimplemented`).
    #[error("the control plane does not know it: {0}")]
    Unknown(String),
    /// The target will never be answered (`InvalidArgument`, `FailedPrecondition`).
    #[error("the control plane refuses it: {0}")]
    Refused(String),
    /// An answer came that makes no sense.
    #[error("the control plane's answer is invalid: {0}")]
    Invalid(String),
    /// Anything else; asking again may help.
    #[error("the control plane is not available: {0}")]
    Unavailable(String),
}

/// What answers a stream.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// Profiles and endpoints.
    Destination,
    /// Policies.
    Policy,
}

/// A control plane. Streams run on the thread that polls the driver.
pub trait ControlPlane: 'static {
    /// Waits until there is a connection to a service. Asking without one takes time and cannot succeed.
    fn connected(&self, service: Service) -> impl Future<Output = ()>;
    /// `OutboundPolicies.Watch`.
    fn watch_outbound(&self, target: &OutboundTarget) -> impl Future<Output = Result<Stream<ClientPolicy>, Failure>>;
    /// `InboundServerPolicies.WatchPort`.
    fn watch_inbound(&self, port: u16) -> impl Future<Output = Result<Stream<ServerPolicy>, Failure>>;
    /// `Destination.GetProfile`.
    fn profile(&self, path: &str) -> impl Future<Output = Result<Stream<Profile>, Failure>>;
    /// `Destination.Get`.
    fn endpoints(&self, path: &str) -> impl Future<Output = Result<Stream<EndpointUpdate>, Failure>>;
}
