//! Accepting peers in a way that one of them cannot end.

use std::future::Future;
use std::io;
use std::time::Duration;

use multifeed_core::disk::is_too_many_files;

use crate::traits::Timer;

/// The next connection that `accept` gives, for the listeners of adapters.
///
/// Goes on after errors of a single connection, and waits while too many files are open, so that a
/// burst of peers does not end a server. `prepare` sets the connection up; where it fails the peer is
/// gone already.
///
/// # Errors
///
/// If the listener itself is broken.
pub async fn accept<T, F>(
    timer: &impl Timer,
    mut accept: impl FnMut() -> F,
    prepare: impl Fn(&T) -> io::Result<()>,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    loop {
        match accept().await {
            Ok(connection) => {
                if prepare(&connection).is_ok() {
                    return Ok(connection);
                }
            }
            Err(error) if is_about_one_peer(&error) => {}
            Err(error) if is_too_many_files(&error) => {
                timer.sleep_until(timer.now().after(RETRY)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

pub(crate) fn is_about_one_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Time until peers are accepted again after too many files were open.
pub(crate) const RETRY: Duration = Duration::from_millis(100);
