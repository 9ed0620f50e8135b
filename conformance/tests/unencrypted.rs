//! Streams that both sides were told not to encrypt.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs)]

use std::net::Ipv4Addr;

use conformance::{Contents, Held, JsPeer, Store, contents, root_key};
use multifeed_tokio::{ConnectOptions, ReplicationEvent, Role};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn rust_and_both_javascript_packages_sync_without_encryption() {
    for package in ["hypermultifeed", "multifeed"] {
        let key = root_key(package);
        let (theirs, ours) = (Store::new(&key), Store::new(&key));
        let arguments = ["--package", package, "--unencrypted"];
        let mut peer = JsPeer::open(&theirs.path(), &key, &arguments);
        let feed = peer.write("theirs", 30, &[100, 0]);
        let multifeed = ours.open().await;
        let writer = multifeed.writer("ours").await.unwrap();
        writer.append("in clear").await.unwrap();
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, peer.listen())).await.unwrap();
        let options = ConnectOptions { unencrypted: true, ..ConnectOptions::default() };
        let mut connection = multifeed.replicate_with(stream, Role::Initiator, options);
        while let Some(event) = connection.next().await {
            match event {
                ReplicationEvent::InSync => connection.disconnect(),
                ReplicationEvent::Closed { result } => result.unwrap(),
                _ => {}
            }
        }
        let expected = Contents::from([
            (feed, Held::written("theirs", 30, &[100, 0])),
            (writer.key().to_hex(), Held::all(["in clear"])),
        ]);
        assert_eq!(contents(&multifeed).await, expected, "{package}");
        assert_eq!(peer.contents(), expected, "{package}");
        multifeed.close().await.unwrap();
        peer.close();
    }
}
