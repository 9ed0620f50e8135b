//! Two peers in one process, in memory: no files, no network.
//!
//! Each writes into a feed of its own, and both end with both feeds.
//! `cargo run -p multifeed-tokio --example memory`

use std::error::Error;
use std::sync::Arc;

use multifeed_tokio::{MemoryStorage, Multifeed, Options, ReplicationOptions, Role, RootKey};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (alice, bob) = (open().await?, open().await?);
    let (of_alice, of_bob) = (alice.writer("alice").await?, bob.writer("bob").await?);
    of_alice.append("hello, I am Alice").await?;
    of_bob.append_batch(["hello, I am Bob", "how are you?"]).await?;

    // Any stream that reads and writes bytes will do. One side is the initiator, the other is not.
    let (one, two) = tokio::io::duplex(65_536);
    // A connection that is not live ends by itself when both have everything.
    let once = ReplicationOptions { live: false, ..ReplicationOptions::default() };
    tokio::try_join!(
        alice.replicate_with(one, Role::Initiator, once),
        bob.replicate_with(two, Role::Responder, once),
    )?;

    for (name, multifeed) in [("Alice", &alice), ("Bob", &bob)] {
        for feed in multifeed.feeds() {
            for index in 0..feed.load().await?.length {
                let block = feed.get(index).await?;
                println!("{name} has {block:?} of the feed {}", feed.name());
            }
        }
    }
    let copy = alice.feed(&of_bob.key()).ok_or("the feed of Bob was to come")?;
    assert_eq!(copy.get(1).await?, "how are you?");
    assert!(!copy.is_writable(), "only Bob can append to it");
    let copy = bob.feed(&of_alice.key()).ok_or("the feed of Alice was to come")?;
    assert_eq!(copy.get(0).await?, "hello, I am Alice");
    alice.close().await?;
    bob.close().await?;
    Ok(())
}

async fn open() -> Result<Multifeed, multifeed_tokio::Error> {
    let options = Options::default().root_key(RootKey::new([7; 32])); // use 32 unpredictable bytes
    Multifeed::open_on(Arc::new(MemoryStorage::default()), options).await
}
