//! Listens and serves until the program stops: then running requests are finished within a bound, and the Unix socket
//! disappears before its last connection ends, so that a successor never loses its own.

use std::fs::Permissions;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use axum::Router;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use crate::http::{Api, ConnectionLimits, listener};

/// Serves `router` until `stopping` is cancelled and the running requests are finished or their grace is over.
pub async fn serve(listener: TcpListener, router: Router, limits: ConnectionLimits, stopping: CancellationToken) {
    listener::serve(listener, router, limits, stopping, std::future::ready(())).await;
}

/// Serves the API with `/control` on `socket` in the same way, and removes the socket at the stop.
pub async fn serve_unix(socket: LocalSocket, api: Api, limits: ConnectionLimits, stopping: CancellationToken) {
    let LocalSocket { listener, path, owner } = socket;
    // The listener closes after this: the name is gone by then, and a successor may have taken it.
    let farewell = async move {
        if let Err(error) = tokio::fs::remove_file(&path).await {
            tracing::warn!(%error, path = %path.display(), "could not remove the socket");
        }
    };
    listener::serve(listener, api.local_router(owner), limits, stopping, farewell).await;
}

/// The Unix socket, bound and not served yet.
#[derive(Debug)]
pub struct LocalSocket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

/// Why the Unix socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LocalSocketError {
    /// Another daemon answers there.
    #[error("another daemon serves {}; stop it, or set another api.socket", .0.display())]
    InUse(PathBuf),
    /// Something else than a socket has the name.
    #[error("{} is there and is no socket; move it away, or set another api.socket", .0.display())]
    NoSocket(PathBuf),
    /// The operating system refused.
    #[error("cannot listen on {}; check that its folder exists and belongs to this user, or set another api.socket", path.display())]
    Refused {
        /// The socket's path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl LocalSocket {
    /// Binds the socket, for its owner alone. One that a dead daemon left behind is replaced.
    ///
    /// # Errors
    /// Where another daemon answers there, something else has the name, or the operating system refuses.
    pub async fn bind(path: &Path) -> Result<Self, LocalSocketError> {
        let refused = |source| LocalSocketError::Refused { path: path.to_owned(), source };
        match UnixStream::connect(path).await {
            Ok(_) => return Err(LocalSocketError::InUse(path.to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                if !std::fs::symlink_metadata(path).map_err(refused)?.file_type().is_socket() {
                    return Err(LocalSocketError::NoSocket(path.to_owned()));
                }
                std::fs::remove_file(path).map_err(refused)?;
            }
            Err(error) => return Err(refused(error)),
        }
        let listener = UnixListener::bind(path).map_err(refused)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(refused)?;
        // Whoever made the socket owns it: that is this process's user.
        let owner = std::fs::metadata(path).map_err(refused)?.uid();
        Ok(Self { listener, path: path.to_owned(), owner })
    }
}
