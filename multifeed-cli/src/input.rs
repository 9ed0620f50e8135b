//! Files that the user names on the command line: read on a thread of their own, since a pipe may never end, so that
//! Ctrl-C and SIGTERM end the program all the same.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::thread;

use tokio::sync::oneshot;

use crate::context::Context;
use crate::failure::Failure;

/// The first `limit` bytes of what is at `path`: a file, also behind a link, a pipe, or with `-` standard input.
/// The inner error is that of opening and reading it.
pub(crate) async fn read(
    context: &Context,
    path: &Path,
    limit: u64,
) -> Result<io::Result<Vec<u8>>, Failure> {
    let (sender, receiver) = oneshot::channel();
    let path = PathBuf::from(path);
    thread::spawn(move || sender.send(read_here(&path, limit)));
    tokio::select! {
        read = receiver => Ok(read.unwrap_or_else(|_| Err(io::ErrorKind::UnexpectedEof.into()))),
        signal = context.signals.received() => Err(Failure::interrupted(signal)),
    }
}

fn read_here(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        io::stdin().lock().take(limit).read_to_end(&mut bytes)?;
    } else {
        File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}
