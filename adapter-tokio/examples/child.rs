//! tokio over something that is not TCP: the standard input and output of a child process.
//!
//! The parent starts this program again as its child, with pipes in place of a network. The same
//! works over a Unix socket, a TLS stream, or `ssh`: anything that reads and writes bytes.
//! `cargo run -p multifeed-tokio --example child`

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Arc;
use std::task::{Context, Poll};

use multifeed_tokio::{MemoryStorage, Multifeed, Options, ReplicationEvent, Role, RootKey};
use tokio::io::{AsyncWrite, join, stdin, stdout};
use tokio::process::{ChildStdin, Command};

/// The writing end of a pipe, closed when it is shut down: a connection that ends in order has to tell
/// the peer so. tokio's own closes when it is dropped.
struct Pipe(Option<ChildStdin>);

impl Pipe {
    fn inner(&mut self) -> io::Result<Pin<&mut ChildStdin>> {
        self.0.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner()?.poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("child") { child().await } else { parent().await }
}

async fn open() -> Result<Multifeed, multifeed_tokio::Error> {
    let options = Options::default().root_key(RootKey::new([7; 32])); // use 32 unpredictable bytes
    Multifeed::open_on(Arc::new(MemoryStorage::default()), options).await
}

/// Has a block, and stays until the parent leaves. Standard output is the connection, so nothing else
/// may be printed there.
async fn child() -> Result<(), Box<dyn Error>> {
    let multifeed = open().await?;
    multifeed.writer("child").await?.append("hello from the child").await?;
    multifeed.replicate(join(stdin(), stdout()), Role::Responder).await?;
    Ok(multifeed.close().await?)
}

async fn parent() -> Result<(), Box<dyn Error>> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("child")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let from = child.stdout.take().ok_or("the child has no output")?;
    let to = Pipe(child.stdin.take());

    let multifeed = open().await?;
    let mut replication = multifeed.replicate(join(from, to), Role::Initiator);
    while let Some(event) = replication.next().await {
        println!("{event:?}");
        let in_sync = matches!(event, ReplicationEvent::InSync);
        if in_sync && replication.counters().blocks_received == 1 {
            replication.disconnect();
        }
        if let ReplicationEvent::Closed { result } = event {
            result?;
        }
    }
    let [feed] = &multifeed.feeds()[..] else { return Err("one feed was to come".into()) };
    assert_eq!(feed.get(0).await?, "hello from the child");
    multifeed.close().await?;
    let status = child.wait().await?;
    if status.success() { Ok(()) } else { Err(format!("the child ended with {status}").into()) }
}
