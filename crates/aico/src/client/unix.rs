//! The local socket on Unix.

use std::os::unix::fs::MetadataExt as _;

use tokio::net::UnixStream;

use super::not_running;
use crate::exit::{Exit, Failure};
use crate::places::Places;

pub(crate) type Stream = UnixStream;

/// Connects, and checks that the daemon at the other end is of our own user: passwords go there.
pub(super) async fn connect(places: &Places) -> Result<Stream, Failure> {
    let path = places.socket();
    let failed = |error: std::io::Error| match error.kind() {
        // Another user's run folder lets nobody else in.
        std::io::ErrorKind::PermissionDenied => of_another_user().because(&error),
        _ => not_running(places, Some(&error)),
    };
    let stream = UnixStream::connect(&path).await.map_err(failed)?;
    let peer = stream.peer_cred().map_err(failed)?;
    // Whose folder the socket lies in is who we act for.
    let folder = path.parent().unwrap_or(&path);
    let ours = std::fs::metadata(folder).map_err(failed)?.uid();
    let me = aico_vault::current_uid();
    if peer.uid() != me || ours != me {
        return Err(of_another_user());
    }
    Ok(stream)
}

fn of_another_user() -> Failure {
    Failure::new(
        Exit::Folder,
        "The process that listens for this data folder belongs to another user.",
    )
    .do_this("Run this as the user who started AICO, or choose another --data folder.")
}
