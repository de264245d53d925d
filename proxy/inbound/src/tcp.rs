//! Opaque connections to the application, for as long as the policy allows them.

use proxy_transport::copy::{self, CopyError};
use tokio::net::TcpStream;

use crate::{Error, authorize, connection::Connection, io::SessionIo};

/// Forwards an opaque connection until both sides have closed, one failed, or the policy revokes it.
pub(crate) async fn forward(connection: &Connection, mut client: SessionIo) -> Result<(), Error> {
    let Some(permit) = authorize::tcp(connection) else {
        reset(&client);
        return Err(Error::Unauthorized);
    };
    let mut server = connection
        .worker
        .applications
        .open(&permit, connection.target_labels(&connection.policy()))
        .await
        .inspect_err(|_| reset(&client))?;
    let ended = tokio::select! {
        copied = copy::bidirectional(&mut client, &mut server, &()) => copied.map_err(Error::Broken),
        () = revoked(connection) => Err(Error::Terminated),
    };
    // The other side must not take a truncated stream for a complete one.
    match &ended {
        Err(Error::Broken(CopyError::Client(_))) => abort(server.get_ref()),
        Err(Error::Broken(CopyError::Server(_))) => reset(&client),
        _ => {}
    }
    if let Err(Error::Terminated) = &ended {
        let policy = connection.policy();
        let labels = authorize::tcp_labels(connection, &policy);
        connection.worker.metrics.tcp_authz_terminate(&labels).inc();
        reset(&client);
    }
    ended
}

/// Completes when the policy no longer allows this connection.
async fn revoked(connection: &Connection) {
    let mut updates = connection.policy.borrow().subscribe();
    loop {
        if updates.changed().await.is_err() {
            // No further updates: the last decision stays in force.
            std::future::pending::<()>().await;
        }
        let policy = updates.borrow_and_update().clone();
        if !authorize::still_allows_tcp(connection, &policy) {
            return;
        }
    }
}

/// A rejected client receives a reset, not an orderly end that it could take for a response.
fn reset(client: &SessionIo) {
    abort(client.get_ref().get_ref().get_ref().get_ref());
}

/// Makes the socket end by a reset when it is dropped.
fn abort(socket: &TcpStream) {
    // If that fails, the peer receives an orderly end.
    let _ = socket.set_zero_linger();
}
