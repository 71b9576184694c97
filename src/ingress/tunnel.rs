//! Connections that have stopped being HTTP: WebSockets and whatever else a backend agrees to.

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::endpoint::InUse;
use crate::server::Client;

/// Passes bytes both ways until one side is done. The client's connection and the endpoint count
/// as in use until then.
pub(crate) fn spawn(from: OnUpgrade, to: OnUpgrade, client: Arc<Client>, endpoint: InUse) {
    tokio::spawn(async move {
        let result = async {
            let (from, to) = tokio::try_join!(from, to)?;
            let (mut from, mut to) = (TokioIo::new(from), TokioIo::new(to));
            let copied = tokio::io::copy_bidirectional(&mut from, &mut to).await;
            Ok::<_, hyper::Error>(copied)
        };
        match result.await {
            Ok(Ok((sent, received))) => tracing::debug!(sent, received, "tunnel closed"),
            Ok(Err(error)) => tracing::debug!(%error, "tunnel broken"),
            Err(error) => tracing::debug!(%error, "tunnel not opened"),
        }
        drop((client, endpoint));
    });
}
