//! The local socket on Unix: a socket file in a private folder; the peer's uid must be ours.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// Listens for the CLI and other programs of this user.
pub struct LocalListener {
    listener: UnixListener,
    /// Removed when listening ends.
    path: Option<PathBuf>,
    uid: u32,
}

impl LocalListener {
    /// Binds the socket `path`, in a folder that only this user can enter. A socket that a
    /// killed daemon left there is replaced: whoever holds the data folder's lock owns it.
    ///
    /// # Errors
    /// When something else lies there or the system refuses.
    pub fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path)?,
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "something that is no socket lies in the local socket's place",
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        let mut bound = Self::new(listener)?;
        bound.path = Some(path.to_owned());
        Ok(bound)
    }

    /// Takes a listener that is bound already; its file is left alone.
    ///
    /// # Errors
    /// When the system does not tell who we are.
    pub fn new(listener: UnixListener) -> io::Result<Self> {
        Ok(Self {
            listener,
            path: None,
            uid: own_uid()?,
        })
    }

    /// The next connection; `None` when it was another user's.
    pub(crate) async fn accept(&mut self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.listener.accept().await?;
        // Without an answer from the system it is not us.
        let ours = stream.peer_cred().is_ok_and(|peer| peer.uid() == self.uid);
        Ok(ours.then_some(stream))
    }
}

impl Drop for LocalListener {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            drop(std::fs::remove_file(path));
        }
    }
}

/// Our own uid, as a peer would see it.
fn own_uid() -> io::Result<u32> {
    let (one, _other) = UnixStream::pair()?;
    Ok(one.peer_cred()?.uid())
}
