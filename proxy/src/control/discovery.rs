//! Discovery over gRPC.

use futures_util::StreamExt;
use proxy_api::{Error, Kind, client};
use proxy_discovery::{ControlPlane, Failure, Service, Stream};
use proxy_model::{ClientPolicy, EndpointUpdate, OutboundTarget, Profile, ServerPolicy};

use super::Channel;

/// The control plane's discovery services.
#[derive(Debug)]
pub(crate) struct Grpc {
    pub(crate) destination: Channel,
    pub(crate) policy: Channel,
    /// Token that names the workload to the policy API.
    pub(crate) workload: String,
    /// Token that names the workload to `Destination`.
    pub(crate) context: String,
}

impl ControlPlane for Grpc {
    async fn connected(&self, service: Service) {
        match service {
            Service::Destination => self.destination.connected().await,
            Service::Policy => self.policy.connected().await,
        }
    }

    async fn watch_outbound(&self, target: &OutboundTarget) -> Result<Stream<ClientPolicy>, Failure> {
        started(client::watch_outbound(self.policy.clone(), &self.workload, target).await)
    }

    async fn watch_inbound(&self, port: u16) -> Result<Stream<ServerPolicy>, Failure> {
        started(client::watch_inbound(self.policy.clone(), &self.workload, port).await)
    }

    async fn profile(&self, path: &str) -> Result<Stream<Profile>, Failure> {
        started(client::get_profile(self.destination.clone(), path, &self.context).await)
    }

    async fn endpoints(&self, path: &str) -> Result<Stream<EndpointUpdate>, Failure> {
        started(client::get(self.destination.clone(), path, &self.context).await)
    }
}

fn started<T: 'static>(stream: Result<client::Updates<T>, Error>) -> Result<Stream<T>, Failure> {
    match stream {
        Ok(stream) => Ok(stream.map(|message| message.map_err(failure)).boxed_local()),
        Err(error) => Err(failure(error)),
    }
}

fn failure(error: Error) -> Failure {
    let invalid = matches!(error, Error::Invalid { .. });
    let reason = error.to_string();
    match error.kind() {
        _ if invalid => Failure::Invalid(reason),
        Kind::NotFound | Kind::Unimplemented => Failure::Unknown(reason),
        Kind::InvalidArgument | Kind::FailedPrecondition => Failure::Refused(reason),
        _ => Failure::Unavailable(reason),
    }
}
