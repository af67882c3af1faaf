//! The local socket on Windows: a named pipe.
//!
//! A pipe made without a security descriptor of its own can be written by its creator, by
//! administrators and by the system, and only read by others; a client that can't write can't
//! ask. Clients of other machines are refused. `first_pipe_instance` fails when another program
//! holds the name already, so nobody can listen in our place unnoticed.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use tokio::net::windows::named_pipe::{NamedPipeServer, ServerOptions};

/// Listens for the CLI and other programs of this user.
pub struct LocalListener {
    name: OsString,
    next: NamedPipeServer,
}

impl LocalListener {
    /// Creates the pipe `path`, a name under `\\.\pipe\`.
    ///
    /// # Errors
    /// When another program has that name or the system refuses.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let name = path.as_os_str().to_owned();
        let next = options().first_pipe_instance(true).create(&name)?;
        Ok(Self { name, next })
    }

    /// The next connection. The pipe's access list has kept other users out.
    pub(crate) async fn accept(&mut self) -> io::Result<Option<NamedPipeServer>> {
        self.next.connect().await?;
        // The next instance is made before this one is handed out: the name is never free.
        let next = options().create(&self.name)?;
        Ok(Some(std::mem::replace(&mut self.next, next)))
    }
}

fn options() -> ServerOptions {
    let mut options = ServerOptions::new();
    options.reject_remote_clients(true);
    options
}
