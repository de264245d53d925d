//! `mesh-test-app`: the application that the tests put behind sidecars.
//!
//! One program with servers and clients for every protocol that the mesh carries, so that a test needs nothing but the
//! workspace. Clients print one JSON object and exit with 0 only if the echo equals what was sent.

mod client;
mod grpc;
mod load;
mod serve;

use clap::{Parser, Subcommand};

/// Servers and clients for the tests of the mesh.
#[derive(Parser)]
#[command(name = "mesh-test-app")]
enum App {
    /// Serve HTTP/1 (upload, WebSocket, echo), gRPC, opaque TCP and server-first TCP.
    Serve(serve::Args),
    /// Make one exchange of one protocol, checked byte for byte.
    #[command(subcommand)]
    Client(Client),
    /// Generate load and count successes and failures.
    Load(load::Args),
}

/// Exchanges.
#[derive(Subcommand)]
enum Client {
    /// gRPC streaming both ways.
    Grpc(client::Grpc),
    /// A WebSocket.
    WebSocket(client::Target),
    /// An HTTP/1.1 upload.
    Upload(client::Upload),
    /// Opaque TCP; `--speaks-first` expects the server's greeting before it sends.
    Tcp(client::Tcp),
    /// A datagram and its echo.
    Udp(client::Target),
    /// Silent connections to many ports at once.
    Scan(client::Scan),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    match App::parse() {
        App::Serve(args) => serve::run(args).await,
        App::Client(Client::Grpc(args)) => client::grpc(args).await,
        App::Client(Client::WebSocket(args)) => client::web_socket(args).await,
        App::Client(Client::Upload(args)) => client::upload(args).await,
        App::Client(Client::Tcp(args)) => client::tcp(args).await,
        App::Client(Client::Udp(args)) => client::udp(args).await,
        App::Client(Client::Scan(args)) => client::scan(args).await,
        App::Load(args) => load::run(args).await,
    }
}
