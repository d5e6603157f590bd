//! A TCP proxy before a server that listens at a Unix socket, which can stop forwarding without closing anything: so
//! looks a peer whose machine or network has vanished.

use std::net::SocketAddr;
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The proxy; it ends with this value.
#[derive(Debug)]
pub struct StallingProxy {
    address: SocketAddr,
    stalled: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl StallingProxy {
    /// A proxy on a free port of loopback, before the server at `socket`.
    ///
    /// # Errors
    /// Where no address can be bound.
    pub async fn in_front_of(socket: PathBuf) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (stalled, is_stalled) = watch::channel(false);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (socket, mut is_stalled) = (socket.clone(), is_stalled.clone());
                tokio::spawn(async move {
                    if is_stalled.wait_for(|stalled| !stalled).await.is_err() {
                        return;
                    }
                    let Ok(server) = UnixStream::connect(socket).await else { return };
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::join!(
                        forward(from_client, to_server, is_stalled.clone()),
                        forward(from_server, to_client, is_stalled)
                    );
                });
            }
        });
        Ok(Self { address, stalled, accepting })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards nothing from now on, or goes on.
    pub fn set_stalled(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }
}

impl Drop for StallingProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut is_stalled: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if is_stalled.wait_for(|stalled| !stalled).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
