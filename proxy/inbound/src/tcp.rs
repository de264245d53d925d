//! Bytes to the application, for as long as the policy lets them.

use proxy_transport::copy;

use crate::{Error, authorize, connection::Connection, io::SessionIo};

/// Forwards an opaque connection until both sides have closed, one broke, or the policy ends it.
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
        connection.worker.recorder.tcp_authz_terminate(&labels).inc();
        reset(&client);
    }
    ended
}

/// Ends when the policy no longer lets this connection be.
async fn revoked(connection: &Connection) {
    let mut updates = connection.policy.borrow().subscribe();
    loop {
        if updates.changed().await.is_err() {
            // Nobody will say anything any more: what was allowed stays so.
            std::future::pending::<()>().await;
        }
        let policy = updates.borrow_and_update().clone();
        if !authorize::tcp_again(connection, &policy) {
            return;
        }
    }
}

/// A refused client sees a reset, not an orderly end that it could take for an answer.
fn reset(client: &SessionIo) {
    let socket = client.get_ref().get_ref().socket();
    // If the system refuses, the client sees an orderly end instead.
    let _ = socket.set_zero_linger();
}
