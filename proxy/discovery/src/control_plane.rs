//! Interface of the driver to a control plane. The program implements it over gRPC, tests simulate it.

use std::future::Future;

use futures_util::stream::LocalBoxStream;
use proxy_model::{ClientPolicy, EndpointUpdate, OutboundTarget, Profile, ServerPolicy};

/// Stream of answers.
pub type Stream<T> = LocalBoxStream<'static, Result<T, Failure>>;

/// Failure of a stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The control plane does not know the target (`NotFound`, `Unimplemented`).
    #[error("target unknown to the control plane: {0}")]
    Unknown(String),
    /// The target will never be answered (`InvalidArgument`, `FailedPrecondition`).
    #[error("target rejected by the control plane: {0}")]
    Refused(String),
    /// An answer was invalid.
    #[error("invalid answer from the control plane: {0}")]
    Invalid(String),
    /// Any other failure; a retry may help.
    #[error("control plane unavailable: {0}")]
    Unavailable(String),
}

/// Service that answers a stream.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Service {
    /// Profiles and endpoints.
    Destination,
    /// Policies.
    Policy,
}

/// Control plane client. Streams run on the thread that polls the driver.
pub trait ControlPlane: 'static {
    /// Waits for a connection to a service. A request without one is slow and cannot succeed.
    fn connected(&self, service: Service) -> impl Future<Output = ()>;
    /// Calls `OutboundPolicies.Watch`.
    fn watch_outbound(&self, target: &OutboundTarget) -> impl Future<Output = Result<Stream<ClientPolicy>, Failure>>;
    /// Calls `InboundServerPolicies.WatchPort`.
    fn watch_inbound(&self, port: u16) -> impl Future<Output = Result<Stream<ServerPolicy>, Failure>>;
    /// Calls `Destination.GetProfile`.
    fn profile(&self, path: &str) -> impl Future<Output = Result<Stream<Profile>, Failure>>;
    /// Calls `Destination.Get`.
    fn endpoints(&self, path: &str) -> impl Future<Output = Result<Stream<EndpointUpdate>, Failure>>;
}
