//! One directory in the layout of multifeed 6, opened by `multifeed@6.0.0` and by Rust in turn.

#![allow(clippy::unwrap_used, missing_docs)]

use conformance::{Contents, Held, JsPeer, Store, block, contents, line, lines, root_key};
use multifeed_tokio::{Layout, Multifeed, Options, RootKey, SecretKey};

#[test]
fn rust_continues_a_directory_of_multifeed_6_and_multifeed_6_continues_it_again() {
    let key = root_key("multifeed 6 first");
    let (store, third) = (Store::new(&key), Store::new(&key));
    let mut peer = store.multifeed6();
    let first = peer.write("first", 5, &[100, 0]);
    let second = peer.write("second", 3, &[10]);
    peer.close();
    let mut blocks: Vec<Vec<u8>> =
        (0..5).map(|index: u64| block("first", index, [100, 0][(index % 2) as usize])).collect();
    let others = (second, Held::written("second", 3, &[10]));
    verify(&store, &third, &[(first.clone(), Held::all(&blocks)), others.clone()]);
    assert_eq!(store.feed_key("first"), first);

    store.append_lines("first", &lines("first", 5..9_000, 10));
    blocks.extend((5..9_000).map(|index| line("first", index, 10)));
    verify(&store, &third, &[(first.clone(), Held::all(&blocks)), others.clone()]);

    let mut peer = store.multifeed6();
    assert_eq!(peer.write("first", 2, &[50]), first);
    peer.close();
    blocks.extend((9_000..9_002).map(|index| block("first", index, 50)));
    verify(&store, &third, &[(first.clone(), Held::all(&blocks)), others.clone()]);

    store.append_block("first", b"the last word");
    blocks.push(b"the last word".to_vec());
    verify(&store, &third, &[(first, Held::all(&blocks)), others]);
}

#[test]
fn multifeed_6_continues_a_directory_of_rust_and_rust_continues_it_again() {
    let key = root_key("numbered by rust");
    let (store, third, source) = (Store::new(&key), Store::new(&key), Store::new(&key));
    store.run("init", &["--layout", "numbered"], &[]);
    let mut theirs = source.javascript();
    let feed = (theirs.write("theirs", 30, &[300, 0]), Held::written("theirs", 30, &[300, 0]));
    store.append_lines("ours", &lines("ours", 0..20, 30));
    store.sync(theirs.listen());
    theirs.close();
    store.append_block("late", b"");
    let mut ours: Vec<Vec<u8>> = (0..20).map(|index| line("ours", index, 30)).collect();
    let late = (store.feed_key("late"), Held::all([b""]));
    let key_of_ours = store.feed_key("ours");
    verify(&store, &third, &[(key_of_ours.clone(), Held::all(&ours)), feed.clone(), late.clone()]);

    let mut peer = store.multifeed6();
    let names: Vec<_> = peer.feeds().iter().map(|feed| feed["name"].clone()).collect();
    for name in ["ours", "1", "late"] {
        assert!(names.contains(&name.into()), "{name} of {names:?}");
    }
    assert_eq!(peer.write("ours", 4, &[50]), key_of_ours);
    let made = peer.write("made by multifeed 6", 2, &[10]);
    peer.close();
    ours.extend((20..24).map(|index| block("ours", index, 50)));
    let made = (made, Held::written("made by multifeed 6", 2, &[10]));
    let mut expected = vec![(key_of_ours, Held::all(&ours)), feed, late, made];
    verify(&store, &third, &expected);

    store.append_block("ours", b"the last word");
    ours.push(b"the last word".to_vec());
    expected[0].1 = Held::all(&ours);
    verify(&store, &third, &expected);
    assert!(!store.path().join("master_key").exists());
}

#[test]
fn what_rust_downloaded_into_numbered_folders_is_read_by_multifeed_6() {
    let key = root_key("numbered download");
    let (source, store) = (Store::new(&key), Store::new(&key));
    let mut expected = Contents::new();
    let mut writers = source.javascript();
    for number in 0..12 {
        let name = format!("w{number}");
        expected
            .insert(writers.write(&name, 20, &[2_000, 0]), Held::written(&name, 20, &[2_000, 0]));
    }
    store.run("sync", &[&format!("127.0.0.1:{}", writers.listen()), "--layout", "numbered"], &[]);
    writers.close();
    assert_eq!(store.contents(), expected);
    assert_eq!(contents_of(store.multifeed6()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_without_a_name_and_with_a_key_pair_are_the_same_in_multifeed_6() {
    let key = root_key("numbered writers");
    let store = Store::new(&key);
    let seed = root_key("the seed of a writer");
    let mut peer = store.multifeed6();
    let unnamed = peer.write_unnamed(2, 10);
    let with_key = peer.write_with_key("mine", &seed, 3, 20);
    peer.close();
    let secret = SecretKey::from_seed(RootKey::from_hex(&seed).unwrap().expose());
    assert_eq!(secret.public().to_hex(), with_key);

    let multifeed = open(&store, None).await;
    assert_eq!(multifeed.writer("0").await.unwrap().key().to_hex(), unnamed);
    let mine = multifeed.writer_with_key("mine", secret).await.unwrap();
    assert_eq!(mine.append(block("mine", 3, 20)).await.unwrap(), 3);
    let next = multifeed.writer(None).await.unwrap();
    assert_eq!(next.name(), "2");
    next.append(block("2", 0, 20)).await.unwrap();
    multifeed.close().await.unwrap();

    let mut peer = store.multifeed6();
    assert_eq!(peer.write("0", 0, &[]), unnamed);
    assert_eq!(peer.write("mine", 1, &[20]), with_key);
    assert_eq!(peer.write("2", 1, &[20]), next.key().to_hex());
    let contents = peer.contents();
    assert_eq!(contents[&with_key], Held::written("mine", 5, &[20]));
    assert_eq!(contents[&next.key().to_hex()], Held::written("2", 2, &[20]));
    peer.close();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_was_never_written_to_is_writable_in_multifeed_6() {
    let key = root_key("numbered and empty");
    let store = Store::new(&key);
    let multifeed = open(&store, Some(Layout::Numbered)).await;
    let writer = multifeed.writer("empty").await.unwrap().key().to_hex();
    multifeed.close().await.unwrap();
    let mut peer = store.multifeed6();
    assert_eq!(peer.write("empty", 2, &[10]), writer);
    peer.close();
    let multifeed = open(&store, None).await;
    assert_eq!(contents(&multifeed).await[&writer], Held::written("empty", 2, &[10]));
    multifeed.close().await.unwrap();
}

async fn open(store: &Store, layout: Option<Layout>) -> Multifeed {
    let options = Options::default().root_key(RootKey::from_hex(store.key()).unwrap());
    let options = match layout {
        Some(layout) => options.layout(layout),
        None => options,
    };
    Multifeed::open(store.path(), options).await.unwrap()
}

fn contents_of(mut peer: JsPeer) -> Contents {
    let contents = peer.contents();
    peer.close();
    contents
}

/// `third`, which may hold an earlier state, syncs from `store` with the program and must end with
/// exactly these feeds; so must both implementations that open `store` itself.
fn verify(store: &Store, third: &Store, feeds: &[(String, Held)]) {
    let expected: Contents = feeds.iter().cloned().collect();
    assert_eq!(store.contents(), expected, "as Rust opens it");
    assert_eq!(contents_of(store.multifeed6()), expected, "as multifeed 6 opens it");
    let mut serving = store.serve(&["--once"]);
    third.sync(serving.port);
    serving.finish();
    assert_eq!(third.contents(), expected, "what a third peer verified");
}
