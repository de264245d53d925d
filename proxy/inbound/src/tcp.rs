//! Opaque connections to the application, for as long as the policy allows them.

use proxy_transport::copy::{self, CopyError, reset_on_drop};

use crate::{Error, authorize, connection::Connection, io::SessionIo};

/// Forwards an opaque connection until both sides have closed, one failed, or the policy revokes it.
pub(crate) async fn forward(connection: &Connection, mut client: SessionIo) -> Result<(), Error> {
    let permit = authorize::tcp(connection).inspect_err(|_| reset(&client))?;
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
        Err(Error::Broken(CopyError::Client(_))) => reset_on_drop(server.get_ref()),
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
        if policy.is_some_and(|policy| !authorize::still_allows_tcp(connection, &policy)) {
            return;
        }
    }
}

/// A rejected client receives a reset, not an orderly end that it could take for a response.
fn reset(client: &SessionIo) {
    reset_on_drop(client.get_ref().get_ref().get_ref().get_ref());
}
