//! What drives a connection to another program while it is asked.

use std::error::Error as _;
use std::time::Duration;

use hyper::body::Body;
use hyper::client::conn::http1::Connection;
use hyper::rt::{Read, Write};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long the end of a connection takes, once a question on it has failed.
const END: Duration = Duration::from_secs(1);

/// Ends with what it drives: the other side hears at once that nobody listens any more.
pub(super) struct Driver(JoinHandle<hyper::Result<()>>);

impl Driver {
    /// Drives this connection from now on.
    pub(super) fn of<T, B>(connection: Connection<T, B>) -> Self
    where
        T: Read + Write + Unpin + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self(tokio::spawn(connection))
    }

    /// Whether a question failed with `error` because what came is no HTTP. A program that talks
    /// first may have done so before the question was on its way: then the connection knows it, and
    /// the question was only not sent.
    pub(super) async fn heard_no_http(&mut self, error: &hyper::Error) -> bool {
        if is_no_http(error) {
            return true;
        }
        let end = timeout(END, &mut self.0).await;
        matches!(end, Ok(Ok(Err(end))) if is_no_http(&end))
    }
}

/// Whether it is neither an end nor an error of the socket, which has a source. What a question was
/// not sent for is inside the error that says so.
fn is_no_http(error: &hyper::Error) -> bool {
    if let Some(why) = error.source() {
        let why = why.downcast_ref::<hyper::Error>();
        return error.is_parse() || why.is_some_and(is_no_http);
    }
    let ended = error.is_incomplete_message()
        || error.is_closed()
        || error.is_canceled()
        || error.is_timeout();
    error.is_parse() || !ended
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}
