//! Stores and connections between them, on a virtual clock.

use multifeed_driver::{
    ByteStream, Feed, Multifeed, Replication, ReplicationError, ReplicationHandle, Role, SyncState,
};

use super::{Runtime, Spawned};

/// A writer with `count` blocks of its name and their number.
pub fn writer(runtime: &mut Runtime, multi: &Multifeed, name: &'static str, count: u32) -> Feed {
    let multi = multi.clone();
    runtime.wait(async move {
        let writer = multi.writer(name).await.unwrap();
        writer.append_batch((0..count).map(|n| format!("{name} {n}"))).await.unwrap();
        writer
    })
}

pub fn same(runtime: &mut Runtime, ours: &Feed, other: &Multifeed) {
    let theirs = other.feed(&ours.key()).expect("the feed");
    let ours = ours.clone();
    runtime.wait(async move {
        for index in 0..ours.len() {
            let block = theirs.get(index).await.unwrap();
            assert_eq!(block, ours.get(index).await.unwrap(), "block {index}");
        }
    });
}

pub type Ended = Spawned<Result<(), ReplicationError>>;

pub fn spawn<S: ByteStream + 'static>(
    runtime: &mut Runtime,
    replication: Replication<S>,
) -> (ReplicationHandle, Ended) {
    let handle = replication.handle();
    (handle, runtime.spawn(replication))
}

pub fn connect(
    runtime: &mut Runtime,
    (a, b): (&Multifeed, &Multifeed),
    (one, two): (impl ByteStream + 'static, impl ByteStream + 'static),
) -> [(ReplicationHandle, Ended); 2] {
    let one = spawn(runtime, a.replicate(one, Role::Initiator));
    [one, spawn(runtime, b.replicate(two, Role::Responder))]
}

pub fn in_sync(runtime: &mut Runtime, ends: &[(ReplicationHandle, Ended); 2]) {
    runtime.run_until(|| {
        for (_, ended) in ends {
            let ended = ended.lock().unwrap();
            assert!(ended.is_none(), "{ended:?}");
        }
        ends.iter().all(|(handle, _)| handle.sync_state() == SyncState::InSync)
    });
}

pub fn taken<T>(spawned: &Spawned<T>) -> T {
    spawned.lock().unwrap().take().expect("a result")
}
