//! Opaque connections to the application, for as long as the policy allows them.

use proxy_transport::copy;

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
        .open(&permit)
        .await
        .inspect_err(|_| reset(&client))?;
    let ended = tokio::select! {
        copied = copy::bidirectional(&mut client, &mut server, &()) => copied.map_err(Error::Broken),
        () = revoked(connection) => Err(Error::Terminated),
    };
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
    let socket = client.get_ref().get_ref().get_ref().get_ref();
    // If that fails, the client receives an orderly end.
    let _ = socket.set_zero_linger();
}
