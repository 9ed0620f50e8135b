//! What the handles of a feed can do, on a virtual clock: sparse feeds, clears, extensions, connections
//! that end by themselves.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs, unreachable_pub)]

mod util;

use multifeed_driver::{
    ConnectOptions, Event, Fetch, Options, PeerSecret, Peers, Policy, ReplicationEvent,
    ReplicationHandle, ReplicationOptions, Role, SyncState,
};
use util::stores::{connect, in_sync, same, taken, writer};
use util::{Runtime, stream};

#[test]
fn a_sparse_store_fetches_what_its_handles_ask_for() {
    let mut runtime = Runtime::new(3);
    let (here, there) = (runtime.storage(false), runtime.storage(false));
    let a = runtime.try_open(&here, Options::default()).unwrap();
    let b = runtime.try_open(&there, Options::default().sparse(true)).unwrap();
    let ours = writer(&mut runtime, &a, "a", 100);
    let ends = connect(&mut runtime, (&a, &b), stream(1_000));
    in_sync(&mut runtime, &ends);
    let theirs = b.feed(&ours.key()).expect("the feed");
    let feed = theirs.clone();
    runtime.wait(async move {
        assert_eq!(feed.update(Some(100)).await.unwrap(), 100);
        assert_eq!(feed.info().blocks, 0);
        // Ten blocks of 3 bytes, then blocks of 4.
        assert_eq!(feed.seek(32).await.unwrap(), (10, 2));
        assert_eq!(feed.info().blocks, 0);
        assert_eq!(feed.get(7).await.unwrap(), "a 7");
        feed.download(20..30).await.unwrap();
        let mut subscription = feed.subscribe(40..43);
        while let Some(block) = subscription.next().await {
            block.unwrap();
        }
        assert_eq!(feed.info().blocks, 14);
        assert!(feed.has(7).await.unwrap() && !feed.has(8).await.unwrap());
        assert!(!feed.has(u64::MAX).await.unwrap());
        assert!(feed.has_all(20..30).await.unwrap() && !feed.has_all(20..).await.unwrap());
        assert!(feed.has_all(100..).await.unwrap() && !feed.has_all(99..=100).await.unwrap());
        drop(feed.download(..));
    });
    in_sync(&mut runtime, &ends);
    let blocks = theirs.info().blocks;
    assert!(blocks < 100, "the dropped download goes on: {blocks} blocks");
    theirs.set_sparse(false);
    in_sync(&mut runtime, &ends);
    assert_eq!(theirs.info().blocks, 100);
}

#[test]
fn the_head_is_the_last_block_that_is_proven_fetched_if_it_is_not_here() {
    let mut runtime = Runtime::new(11);
    let (here, there) = (runtime.storage(false), runtime.storage(false));
    let a = runtime.try_open(&here, Options::default()).unwrap();
    let b = runtime.try_open(&there, Options::default().sparse(true)).unwrap();
    let ours = writer(&mut runtime, &a, "a", 0);
    let feed = ours.clone();
    assert_eq!(runtime.wait(async move { feed.head().await }).unwrap(), None);
    let feed = ours.clone();
    runtime.wait(async move { feed.append_batch(["0", "1", "2"]).await }).unwrap();
    let feed = ours.clone();
    assert_eq!(runtime.wait(async move { feed.head().await }).unwrap().unwrap(), "2");

    let ends = connect(&mut runtime, (&a, &b), stream(1_000));
    in_sync(&mut runtime, &ends);
    let theirs = b.feed(&ours.key()).expect("the feed");
    runtime.wait(async move {
        assert_eq!(theirs.update(Some(3)).await.unwrap(), 3);
        assert_eq!(theirs.info().blocks, 0);
        assert_eq!(theirs.head().await.unwrap().unwrap(), "2");
        assert_eq!(theirs.info().blocks, 1);
    });
}

#[test]
fn a_replication_that_is_not_live_ends_by_itself() {
    let mut runtime = Runtime::new(4);
    let (here, there) = (runtime.storage(true), runtime.storage(true));
    let a = runtime.try_open(&here, Options::default()).unwrap();
    let b = runtime.try_open(&there, Options::default()).unwrap();
    let ours = writer(&mut runtime, &a, "a", 100);
    let theirs = writer(&mut runtime, &b, "b", 10);
    let (one, two) = stream(100);
    let options = ReplicationOptions { live: false, ..ReplicationOptions::default() };
    let one = runtime.spawn(a.replicate_with(one, Role::Initiator, options));
    let two = runtime.spawn(b.replicate_with(two, Role::Responder, options));
    runtime.run_until(|| one.lock().unwrap().is_some() && two.lock().unwrap().is_some());
    taken(&one).unwrap();
    taken(&two).unwrap();
    same(&mut runtime, &ours, &b);
    same(&mut runtime, &theirs, &a);
}

#[test]
fn messages_of_extensions_reach_the_application_at_the_other_end() {
    let mut runtime = Runtime::new(5);
    let (here, there) = (runtime.storage(false), runtime.storage(false));
    let a = runtime.try_open(&here, Options::default()).unwrap();
    let b = runtime.try_open(&there, Options::default()).unwrap();
    let ours = writer(&mut runtime, &a, "a", 1);
    for multi in [&a, &b] {
        multi.register_extension("peer-id").unwrap();
    }
    let ends = connect(&mut runtime, (&a, &b), stream(100));
    in_sync(&mut runtime, &ends);
    let theirs = b.feed(&ours.key()).unwrap();
    theirs.register_extension("note").unwrap();
    ours.register_extension("note").unwrap();
    let mut events = a.events();
    assert_eq!(b.send_extension(None, "peer-id", "b").unwrap(), 1);
    assert_eq!(theirs.send_extension(None, "note", "hello").unwrap(), 1);
    let messages = runtime.wait(async move {
        let mut messages = Vec::new();
        while messages.len() < 2 {
            if let Some(Event::Extension { key, name, payload, .. }) = events.next().await {
                messages.push((key, name, payload.0));
            }
        }
        messages
    });
    let expected = [
        (None, "peer-id".to_owned(), "b".into()),
        (Some(ours.key()), "note".to_owned(), "hello".into()),
    ];
    assert_eq!(messages, expected);
}

#[test]
fn cleared_blocks_are_not_here_and_the_application_is_told() {
    let mut runtime = Runtime::new(1);
    let storage = runtime.storage(false);
    let multi = runtime.try_open(&storage, Options::default()).unwrap();
    let feed = writer(&mut runtime, &multi, "w", 10);
    let mut events = multi.events();
    runtime.wait(async move {
        feed.clear(2..=4).await.unwrap();
        assert_eq!(
            events.next().await,
            Some(Event::Cleared { key: feed.key(), start: 2, length: 3 })
        );
        for index in 0..10 {
            let here = feed.try_get(index).await.unwrap().is_some();
            assert_eq!(here, !(2..=4).contains(&index), "block {index}");
        }
        assert_eq!((feed.info().length, feed.info().blocks), (10, 7));
    });
}

#[test]
fn an_application_decides_who_is_let_in_and_which_feeds_it_shares() {
    let mut runtime = Runtime::new(6);
    let (here, there) = (runtime.storage(false), runtime.storage(false));
    let a = runtime.try_open(&here, Options::default()).unwrap();
    let b = runtime.try_open(&there, Options::default()).unwrap();
    let open = writer(&mut runtime, &a, "open", 10);
    let secret = writer(&mut runtime, &a, "secret", 10);
    let identity = PeerSecret::new([5; 32]);
    let known = Peers::Listed([identity.public()].into());
    let (one, two) = stream(1_000);
    let asking = ConnectOptions { policy: Policy::Ask, peers: known, ..ConnectOptions::default() };
    let mut ours = a.replicate_with(one, Role::Initiator, asking);
    let named = ConnectOptions {
        identity: Some(identity.clone()),
        peers: Peers::Ask,
        ..ConnectOptions::default()
    };
    let mut theirs = b.replicate_with(two, Role::Responder, named);
    let (to_b, to_a) = (ours.handle(), theirs.handle());
    let key = open.key();
    let asked = runtime.spawn(async move {
        while let Some(event) = ours.next().await {
            if let ReplicationEvent::Question(question) = event {
                assert_eq!(question.remote_public_key, identity.public());
                let handle = ours.handle();
                let open: Vec<_> = handle.questions().iter().map(|open| open.id).collect();
                assert_eq!(open, [question.id]);
                let newest = Fetch::Newest(0);
                handle.answer(question.id, &[(key, newest.clone())]).unwrap();
                assert!(handle.questions().is_empty());
                assert!(handle.answer(question.id, &[(key, newest)]).is_err());
            }
        }
    });
    let admitted = runtime.spawn(async move {
        while let Some(event) = theirs.next().await {
            if let ReplicationEvent::Connected { .. } = event {
                theirs.handle().admit().unwrap();
            }
        }
    });
    let both = |to_b: &ReplicationHandle, to_a: &ReplicationHandle| {
        [to_b, to_a].iter().all(|end| end.sync_state() == SyncState::InSync)
    };
    runtime.run_until(|| both(&to_b, &to_a));
    same(&mut runtime, &open, &b);
    assert!(b.feed(&secret.key()).is_none());
    to_b.allow(&a, &[(secret.key(), Fetch::All)]).unwrap();
    runtime.run_until(|| b.feed(&secret.key()).is_some() && both(&to_b, &to_a));
    same(&mut runtime, &secret, &b);
    to_b.disconnect();
    runtime.run_until(|| asked.lock().unwrap().is_some() && admitted.lock().unwrap().is_some());
    assert!(to_b.allow(&a, &[]).is_err());
}

#[test]
fn a_feed_that_is_blocked_is_gone_for_peers_and_handles_and_can_come_back() {
    let mut runtime = Runtime::new(7);
    let (here, there) = (runtime.storage(true), runtime.storage(true));
    let a = runtime.try_open(&here, Options::default()).unwrap();
    let b = runtime.try_open(&there, Options::default()).unwrap();
    let kept = writer(&mut runtime, &a, "kept", 10);
    let spam = writer(&mut runtime, &a, "spam", 100);
    let ends = connect(&mut runtime, (&a, &b), stream(1_000));
    in_sync(&mut runtime, &ends);
    let theirs = b.feed(&spam.key()).unwrap();
    let (store, key) = (b.store(), spam.key());
    let mut events = b.events();
    runtime.wait(async move {
        store.block(&key).await.unwrap();
        while events.next().await != Some(Event::FeedBlocked { key }) {}
        assert_eq!(theirs.get(3).await.unwrap_err().code(), "ERR_FEED_BLOCKED");
        assert!(theirs.info().blocked && theirs.is_empty());
        assert_eq!(store.blocked(), [key]);
    });
    assert!(b.feed(&spam.key()).is_none());
    assert_eq!(b.feeds().len(), 1);
    in_sync(&mut runtime, &ends);
    same(&mut runtime, &kept, &b);
    let store = b.store();
    runtime.wait(async move { store.unblock(&key).await.unwrap() });
    let again = connect(&mut runtime, (&a, &b), stream(1_000));
    in_sync(&mut runtime, &again);
    same(&mut runtime, &spam, &b);
}

#[test]
fn a_feed_tells_who_has_it_and_what_is_missing() {
    let mut runtime = Runtime::new(8);
    let (here, there) = (runtime.storage(false), runtime.storage(false));
    let a = runtime.try_open(&here, Options::default()).unwrap();
    let b = runtime.try_open(&there, Options::default()).unwrap();
    let ours = writer(&mut runtime, &a, "a", 100);
    let mut events = b.events();
    let ends = connect(&mut runtime, (&a, &b), stream(1_000));
    in_sync(&mut runtime, &ends);
    let key = ours.key();
    let told = runtime.wait(async move {
        loop {
            match events.next().await.unwrap() {
                Event::FeedInSync { connection, key: of } if of == key => return connection,
                _ => {}
            }
        }
    });
    assert_eq!(Some(told), ends[1].0.id());
    let theirs = b.feed(&key).unwrap();
    let [from] = &theirs.peers()[..] else { panic!("{:?}", theirs.peers()) };
    assert_eq!((from.connection, from.waiting.clone()), (told, None));
    assert_eq!((from.remote_length, from.remote_blocks, from.missing), (100, 100, 0));
    assert_eq!((from.blocks_received, from.blocks_sent), (100, 0));
    let [to] = &ours.peers()[..] else { panic!("{:?}", ours.peers()) };
    assert_eq!((to.blocks_sent, to.lacking, to.in_flight), (100, 0, 0));
    assert_eq!(to.block_bytes_sent, from.block_bytes_received);
    let counters = ends[1].0.counters();
    assert_eq!((counters.in_flight, counters.parked, counters.held_bytes), (0, 0, 0));
    assert!(counters.window >= 16);
}
