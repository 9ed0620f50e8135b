//! A server and a client over TCP, each with a store in a folder, live: what is appended later comes too.
//!
//! `cargo run -p multifeed-tokio --example tcp`

use std::error::Error;
use std::path::Path;

use multifeed_tokio::{Listener, Multifeed, Options, Role, RootKey};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let (folder, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let (server, client) = (open(folder.path()).await?, open(other.path()).await?);
    let writer = server.writer("server").await?;
    writer.append("from before").await?;

    // The server: each peer that comes has a task of its own. With port 0 the system picks a free one.
    let listener = Listener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let served = server.clone();
    let serving = tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.next_peer().await {
            let connection = served.replicate_with(stream, Role::Responder, peer);
            tokio::spawn(async move {
                match connection.await {
                    Ok(()) => println!("{peer} left"),
                    Err(error) => println!("{peer} is gone: {error}"),
                }
            });
        }
    });

    // The client: its connection goes on in the background, and the handle ends it.
    let stream = multifeed_tokio::connect(address).await?;
    let connection = client.replicate(stream, Role::Initiator);
    let handle = connection.handle();
    let syncing = tokio::spawn(connection);

    // Feeds come as events, blocks by asking for them or as a stream.
    let mut events = client.events();
    let feed = loop {
        match client.feed(&writer.key()) {
            Some(feed) => break feed,
            None => events.next().await.ok_or("the store was closed")?,
        };
    };
    let mut blocks = feed.subscribe(0..);
    let mut next = async || blocks.next().await.ok_or("the store was closed");
    assert_eq!(next().await??, "from before");
    writer.append("from just now").await?;
    assert_eq!(next().await??, "from just now");
    println!("{address} sent {} blocks", handle.counters().blocks_received);

    handle.disconnect();
    syncing.await??;
    serving.abort();
    server.close().await?;
    client.close().await?;

    // What came is in the folder.
    let again = open(other.path()).await?;
    let feed = again.feed(&writer.key()).ok_or("the feed was to be kept")?;
    assert_eq!(feed.load().await?.blocks, 2);
    again.close().await?;
    Ok(())
}

async fn open(folder: &Path) -> Result<Multifeed, multifeed_tokio::Error> {
    let options = Options::default().root_key(RootKey::new([7; 32])); // use 32 unpredictable bytes
    Multifeed::open(folder, options).await
}
