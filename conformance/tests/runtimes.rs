//! Every adapter and live JavaScript peers, in both roles.

#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;

use conformance::{Contents, Held, Store, block, contents, root_key};
use multifeed_driver::{Hosted, Options, Role, RootKey};
use scenarios::{
    AsyncStd, Host, PATIENCE, Smol, TokioThread, TokioThreads, blocking, run, spawn, timeout,
};

/// Both sides have writers, append while connected, agree, and part in order.
async fn both_sides_get_everything<H: Host>(role: Role) {
    let key = root_key(&format!("runtimes {} {role:?}", std::any::type_name::<H>()));
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript();
    let theirs = peer.write("theirs", 200, &[10, 0, 3_000]);
    let options = Options::default().root_key(RootKey::from_hex(&key).unwrap());
    let multifeed = Hosted::<H::Runtime>::open(rust.path(), options).await.unwrap();
    let ours = multifeed.writer("ours").await.unwrap();
    ours.append_batch((0..300).map(|index| block("ours", index, 100))).await.unwrap();

    let stream = match role {
        Role::Initiator => H::connect(peer.listen()).await,
        Role::Responder => {
            let (listener, port) = H::listen().await;
            peer.connect(port);
            H::accept(&listener).await
        }
    };
    let replication = multifeed.replicate(stream, role);
    let handle = replication.handle();
    let replication = spawn::<H, _>(replication);
    for index in 300..320 {
        ours.append(block("ours", index, 100)).await.unwrap();
    }
    let our_key = ours.key().to_hex();
    let their_key = theirs.clone();
    let (peer, expected) = blocking(move || {
        peer.write("theirs", 50, &[10]);
        let expected = Contents::from([
            (our_key, Held::written("ours", 320, &[100])),
            (their_key.clone(), peer.contents()[&their_key].clone()),
        ]);
        peer.wait_for(&expected);
        (peer, expected)
    })
    .await;
    let mut events = multifeed.events();
    let feed = loop {
        match multifeed.feeds().into_iter().find(|feed| feed.key().to_hex() == theirs) {
            Some(feed) => break feed,
            None => drop(events.next().await.expect("the store is open")),
        }
    };
    for index in 0..250 {
        feed.get(index).timeout(PATIENCE).await.unwrap();
    }
    assert_eq!(contents(&multifeed).await, expected);

    handle.disconnect();
    timeout::<H, _>("end", PATIENCE, replication).await.unwrap();
    multifeed.close().await.unwrap();
    peer.close();
    assert_eq!(js.javascript_contents(), expected, "what reached the files");
}

/// A JavaScript peer that closes in the middle is no harm, and the next one goes on.
async fn a_peer_that_leaves_early_is_followed_by_one_that_stays<H: Host>() {
    let key = root_key(&format!("leaves {}", std::any::type_name::<H>()));
    let (js, rust) = (Store::new(&key), Store::new(&key));
    let mut peer = js.javascript();
    let theirs = peer.write("theirs", 3_000, &[1_000]);
    let options = Options::default().root_key(RootKey::from_hex(&key).unwrap());
    let multifeed = Hosted::<H::Runtime>::open(rust.path(), options).await.unwrap();
    let replication = multifeed.replicate(H::connect(peer.listen()).await, Role::Initiator);
    let handle = replication.handle();
    let replication = spawn::<H, _>(replication);
    let mut events = multifeed.events();
    while handle.counters().blocks_received == 0 {
        events.next().await.expect("the store is open");
    }
    peer.disconnect();
    let _either_way = timeout::<H, _>("end", PATIENCE, replication).await;

    let replication = multifeed.replicate(H::connect(peer.listen()).await, Role::Initiator);
    let replication = spawn::<H, _>(replication);
    let feed = multifeed.feeds().into_iter().find(|feed| feed.key().to_hex() == theirs).unwrap();
    for index in 0..3_000 {
        feed.get(index).timeout(PATIENCE).await.unwrap();
    }
    assert_eq!(contents(&multifeed).await, peer.contents());
    assert_eq!(BTreeMap::len(&peer.contents()), 1);
    multifeed.close().await.unwrap();
    timeout::<H, _>("end", PATIENCE, replication).await.unwrap();
    peer.close();
}

macro_rules! hosts {
    ($($name:ident: $host:ty,)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn both_sides_get_everything_when_we_connect() {
                run::<$host>(both_sides_get_everything::<$host>(Role::Initiator));
            }

            #[test]
            fn both_sides_get_everything_when_javascript_connects() {
                run::<$host>(both_sides_get_everything::<$host>(Role::Responder));
            }

            #[test]
            fn a_peer_that_leaves_early_is_followed_by_one_that_stays() {
                run::<$host>(super::a_peer_that_leaves_early_is_followed_by_one_that_stays::<$host>());
            }
        }
    )*};
}

hosts! {
    tokio_thread: TokioThread,
    tokio_threads: TokioThreads,
    smol: Smol,
    async_std: AsyncStd,
}
