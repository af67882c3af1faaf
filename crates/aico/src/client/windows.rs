//! The named pipe on Windows.

use tokio::net::windows::named_pipe::{ClientOptions, NamedPipeClient};

use super::not_running;
use crate::exit::Failure;
use crate::places::Places;

pub(crate) type Stream = NamedPipeClient;

/// Connects. The pipe's access list admits its own user only, and it is created as the first of
/// its name, so nobody else can stand in for the daemon.
pub(super) async fn connect(places: &Places) -> Result<Stream, Failure> {
    const BUSY: i32 = 231;
    for _ in 0..50 {
        match ClientOptions::new().open(places.socket()) {
            Ok(pipe) => return Ok(pipe),
            Err(error) if error.raw_os_error() == Some(BUSY) => {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            Err(error) => return Err(not_running(places, Some(&error))),
        }
    }
    Err(not_running(places, None))
}
