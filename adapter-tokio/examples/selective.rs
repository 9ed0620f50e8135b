//! Selective sync: a peer takes only a part of what the other offers, and only from whom it knows.
//!
//! `cargo run -p multifeed-tokio --example selective`

use std::error::Error;
use std::sync::Arc;

use multifeed_tokio::{
    ConnectOptions, Decision, Fetch, Listener, MemoryStorage, Multifeed, Options, PeerSecret,
    Peers, Policy, ReplicationEvent, Role, RootKey,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (here, there) = (open().await?, open().await?);
    for name in ["news", "photos", "diary"] {
        let writer = there.writer(name).await?;
        let blocks: Vec<String> = (0..100).map(|n| format!("{name} {n}")).collect();
        writer.append_batch(blocks).await?;
    }
    let photos = there.writer("photos").await?.key();

    // The other side has an identity by which it is recognised, and offers all but one feed.
    let identity = PeerSecret::new([9; 32]); // keep 32 unpredictable bytes somewhere
    let known = identity.public();
    let mut offered = std::collections::BTreeMap::new();
    for name in ["news", "photos"] {
        offered.insert(there.writer(name).await?.key(), Fetch::All);
    }
    let listener = Listener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let served = there.clone();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        let policy = Policy::AllowList(offered);
        let options =
            ConnectOptions { policy, identity: Some(identity), ..ConnectOptions::default() };
        served.replicate_with(stream, Role::Responder, options).await?;
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    });

    // This side talks with that peer only, and asks the user (here: two lines) about each feed.
    let options = ConnectOptions {
        policy: Policy::Ask,
        peers: Peers::Listed([known].into()),
        ..ConnectOptions::default()
    };
    let stream = multifeed_tokio::connect(address).await?;
    let mut connection = here.replicate_with(stream, Role::Initiator, options);
    while let Some(event) = connection.next().await {
        match event {
            ReplicationEvent::Question(question) if question.decision == Decision::Accept => {
                // Of the photos the newest ten, of the rest what is asked for.
                let fetch = |key| if key == photos { Fetch::Newest(10) } else { Fetch::OnlyAsked };
                let allowed: Vec<_> = question.keys.iter().map(|key| (*key, fetch(*key))).collect();
                connection.handle().answer(question.id, &allowed)?;
            }
            ReplicationEvent::InSync => connection.disconnect(),
            ReplicationEvent::Closed { result } => result?,
            // The others are of interest to those who debug.
            ReplicationEvent::Connected { .. } | _ => {}
        }
    }
    serving.await?.map_err(|error| error.to_string())?;
    let mut held: Vec<u64> = here.feeds().iter().map(|feed| feed.info().blocks).collect();
    held.sort_unstable();
    assert_eq!(held, [0, 10]);
    println!("{} feeds, of which {held:?} blocks are here", held.len());
    here.close().await?;
    there.close().await?;
    Ok(())
}

async fn open() -> Result<Multifeed, multifeed_tokio::Error> {
    let options = Options::default().root_key(RootKey::new([7; 32])); // use 32 unpredictable bytes
    Multifeed::open_on(Arc::new(MemoryStorage::default()), options).await
}
