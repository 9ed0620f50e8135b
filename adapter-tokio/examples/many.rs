//! Many multifeeds in one store and on one stream: one for each room of a chat, say.
//!
//! Two peers are in a hundred rooms each, ten of them the same, and sync those ten over one connection.
//! `cargo run -p multifeed-tokio --example many`

use std::collections::BTreeSet;
use std::error::Error;
use std::ops::Range;
use std::sync::Arc;

use multifeed_tokio::{MemoryStorage, Options, ReplicationEvent, Role, RootKey, Store};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let here = enter("here", 0..100).await?;
    let there = enter("there", 90..190).await?;

    // A store replicates all its multifeeds; `Multifeed::replicate` carries one alone. Peers see the
    // discovery keys of rooms that they do not know, not more.
    let (one, two) = tokio::io::duplex(65_536);
    let serving = tokio::spawn(there.replicate(two, Role::Responder));
    let mut connection = here.replicate(one, Role::Initiator);
    let mut in_sync = BTreeSet::new();
    while let Some(event) = connection.next().await {
        match event {
            // The others are proposed too, and wait for the peer to enter them.
            ReplicationEvent::MultifeedInSync { multifeed } => {
                in_sync.insert(multifeed);
                if in_sync.len() == 10 {
                    connection.disconnect();
                }
            }
            ReplicationEvent::Closed { result } => result?,
            // The others are of interest to those who debug.
            ReplicationEvent::Connected { .. } | _ => {}
        }
    }
    serving.await??;

    let mut shared = 0;
    for room in here.multifeeds() {
        let both = room.feeds().len() == 2;
        assert_eq!(both, in_sync.contains(&room.id()));
        shared += usize::from(both);
    }
    assert_eq!(shared, 10);
    let room = here.multifeed(key(95)).await?;
    let feed = room.feeds().pop().ok_or("a room has feeds")?;
    assert_eq!(feed.get(0).await?, "there is in room 95");
    println!("{} multifeeds here, {shared} of them shared", here.multifeeds().len());
    here.close().await?;
    there.close().await?;
    Ok(())
}

/// A store that is in these rooms, and has said so in each.
async fn enter(who: &str, rooms: Range<u8>) -> Result<Store, Box<dyn Error>> {
    // The root keys are those of the multifeeds; the store itself has none.
    let store = Store::open_on(Arc::new(MemoryStorage::default()), Options::default()).await?;
    for room in rooms {
        let multifeed = store.multifeed(key(room)).await?;
        let writer = multifeed.writer("local").await?;
        writer.append(format!("{who} is in room {room}")).await?;
    }
    Ok(store)
}

/// The root key of a room: use 32 unpredictable bytes that its members tell each other.
fn key(room: u8) -> RootKey {
    RootKey::new([room; 32])
}
