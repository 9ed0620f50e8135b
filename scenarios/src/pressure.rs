//! What is slow stays where it is, on real sockets and files. To be run in a program whose allocator is
//! [`PeakAlloc`], one at a time.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::future;
use multifeed_core::disk::Disk;
use multifeed_core::storage::{Batch, Op};
use multifeed_driver::{
    Event, Events, Execution, Feed, Hosted, NodeConfig, Options, Role, Runtime, Storage,
};
use peak_alloc::PeakAlloc;

use crate::host::{Host, spawn, timeout};
use crate::peer::{PATIENCE, Peer, connected, in_sync, options, same};

/// Limits that are small beside the data.
fn small() -> Options {
    options().node_config(NodeConfig {
        max_outbox_bytes: 256 * 1024,
        max_unstored_bytes: 1024 * 1024,
        cache_bytes: 1024 * 1024,
        leave_timeout: Duration::from_millis(500),
        ..NodeConfig::default()
    })
}

/// Bytes that were in use at most while a future ran, beyond those at its beginning.
async fn peak(run: impl Future<Output = ()>) -> usize {
    PeakAlloc.reset_peak_usage();
    let before = PeakAlloc.current_usage();
    run.await;
    PeakAlloc.peak_usage().saturating_sub(before)
}

/// A writer with so many blocks of 10,000 bytes.
async fn fill<H: Host>(peer: &Peer<H>, blocks: u32) -> Feed {
    let writer = peer.multi.writer("large").await.unwrap();
    for first in (0..blocks).step_by(100) {
        let numbers = first..blocks.min(first + 100);
        let batch = numbers.map(|number| number.to_le_bytes().repeat(2500));
        writer.append_batch(batch).await.unwrap();
    }
    writer
}

/// Waits until blocks were downloaded.
async fn downloaded(events: &mut Events) {
    while !matches!(events.next().await.expect("the store is open"), Event::Downloaded { .. }) {}
}

/// Another store gets all of it; the memory that took.
async fn sync_beside<H: Host>(from: &Peer<H>, writer: &Feed) -> usize {
    let other = Peer::<H>::with(small()).await;
    let extra = peak(async {
        let (mut one, mut two) = connected(from, &other).await;
        in_sync::<H, _>(&mut one, &mut two).await;
    })
    .await;
    same(writer, &other.multi).await;
    extra
}

/// A peer that reads one byte a second costs its outbox; others sync at full speed, and the store closes.
pub async fn a_peer_that_reads_one_byte_a_second<H: Host>() {
    let (a, b) = (Peer::<H>::with(small()).await, Peer::<H>::new().await);
    let writer = fill(&a, 4000).await;
    let (listener, port) = H::listen().await;
    let proxy = SlowProxy::start(port);
    let (near, far) = future::zip(H::connect(proxy.port), H::accept(&listener)).await;
    let mut events = b.multi.events();
    let stuck = spawn::<H, _>(a.multi.replicate(near, Role::Initiator));
    let slow = spawn::<H, _>(b.multi.replicate(far, Role::Responder));
    downloaded(&mut events).await;
    proxy.slow.store(true, Ordering::SeqCst);
    writer.append("behind all that").await.unwrap();

    let extra = timeout::<H, _>("sync with a third", PATIENCE, sync_beside(&a, &writer)).await;
    assert!(extra < LIMIT, "{extra} bytes for 40 MB beside a peer that does not read");
    timeout::<H, _>("close", Duration::from_secs(5), a.multi.close()).await.unwrap();
    let _given_up = timeout::<H, _>("end", PATIENCE, stuck).await;
    drop(proxy);
    let _cut_off = timeout::<H, _>("end", PATIENCE, slow).await;
    b.multi.close().await.unwrap();
}

/// A disk that takes one second for each write slows its own store's download, and nothing else.
pub async fn a_disk_that_takes_a_second_for_each_write<H: Host>() {
    let a = Peer::<H>::with(small()).await;
    let writer = fill(&a, 4000).await;
    let Peer { multi, folder } = Peer::<H>::new().await;
    multi.close().await.unwrap();
    let disk = SlowDisk::<H>::open(folder.path());
    let multi = Hosted::open_on(Arc::clone(&disk) as _, small()).await.unwrap();
    let b = Peer::<H> { multi, folder };
    let mut events = b.multi.events();
    let (one, two) = connected(&a, &b).await;
    let ends = (spawn::<H, _>(one), spawn::<H, _>(two));
    downloaded(&mut events).await;

    let extra = timeout::<H, _>("sync with a third", PATIENCE, sync_beside(&a, &writer)).await;
    assert!(extra < LIMIT, "{extra} bytes for 40 MB beside a slow disk");
    let extra = peak(downloaded(&mut events)).await;
    assert!(extra < LIMIT, "{extra} bytes while the disk writes");
    let held = b.multi.feed(&writer.key()).unwrap().info().blocks;
    assert!(held < 4000, "in the middle of it");
    timeout::<H, _>("close", Duration::from_secs(15), b.multi.close()).await.unwrap();
    let _either_way = timeout::<H, _>("end", PATIENCE, future::zip(ends.0, ends.1)).await;

    let again = Hosted::<H::Runtime>::open(b.folder.path(), options()).await.unwrap();
    let blocks = again.feed(&writer.key()).unwrap().load().await.unwrap().blocks;
    assert!(blocks >= held, "{blocks} blocks of {held} acknowledged ones");
}

/// An application that never reads its events costs their queues.
pub async fn an_application_that_reads_no_events<H: Host>() {
    let a = Peer::<H>::with(small().event_capacity(100)).await;
    let b = Peer::<H>::with(small()).await;
    let unread: Vec<_> = (0..10).map(|_| a.multi.events()).collect();
    let (one, two) = connected(&a, &b).await;
    let ends = (spawn::<H, _>(one), spawn::<H, _>(two));
    let theirs = b.multi.writer("b").await.unwrap();
    let ours = a.multi.writer("a").await.unwrap();
    let extra = peak(async {
        for _ in 0..3000 {
            ours.append("x").await.unwrap();
            theirs.append("y").await.unwrap();
        }
    })
    .await;
    assert!(extra < LIMIT, "{extra} bytes");
    timeout::<H, _>("close", Duration::from_secs(5), a.multi.close()).await.unwrap();
    timeout::<H, _>("end", PATIENCE, future::zip(ends.0, ends.1)).await.0.unwrap();
    drop(unread);
}

/// Carries a connection; to the far end one byte a second, once it is told to.
struct SlowProxy {
    port: u16,
    slow: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl SlowProxy {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (slow, ended) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let (is_slow, is_over) = (Arc::clone(&slow), Arc::clone(&ended));
        thread::spawn(move || {
            let near = listener.accept().unwrap().0;
            let far = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).unwrap();
            let (back_from, back_to) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            thread::spawn(move || carry(back_from, back_to, || false, || false));
            carry(near, far, || is_slow.load(Ordering::SeqCst), || is_over.load(Ordering::SeqCst));
        });
        Self { port, slow, ended }
    }
}

impl Drop for SlowProxy {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

/// Carries bytes until one side ends.
fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    is_slow: impl Fn() -> bool,
    is_over: impl Fn() -> bool,
) {
    let mut buffer = [0; 16_384];
    while !is_over() {
        let slow = is_slow();
        let most = if slow { 1 } else { buffer.len() };
        match from.read(&mut buffer[..most]) {
            Ok(0) | Err(_) => break,
            Ok(count) if to.write_all(&buffer[..count]).is_err() => break,
            Ok(_) if slow => thread::sleep(Duration::from_secs(1)),
            Ok(_) => {}
        }
    }
    // Fails for what is closed already.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// A disk that takes one second for every batch that writes.
struct SlowDisk<H: Host> {
    disk: Arc<Disk>,
    runtime: H::Runtime,
}

impl<H: Host> SlowDisk<H> {
    fn open(folder: &Path) -> Arc<Self> {
        let disk = Arc::new(Disk::open(folder).unwrap());
        Arc::new(Self { disk, runtime: H::Runtime::default() })
    }
}

impl<H: Host> Storage for SlowDisk<H> {
    fn execute(&self, batch: Batch) -> Execution {
        if !batch.ops.iter().any(|op| matches!(op, Op::Write { .. })) {
            return Execution::Done(self.disk.execute(&batch));
        }
        let (sender, receiver) = async_channel::bounded(1);
        let disk = Arc::clone(&self.disk);
        self.runtime.spawn_blocking(Box::new(move || {
            thread::sleep(Duration::from_secs(1));
            let _nobody_may_wait = sender.send_blocking(disk.execute(&batch));
        }));
        Execution::Running(Box::pin(async move { receiver.recv().await.expect("an answer") }))
    }

    fn close(&self) {
        self.disk.close();
    }
}

/// Far less than what moves.
const LIMIT: usize = 8 * 1024 * 1024;
