//! Feeds that Rust keeps out of a store: the JavaScript still opens the directory, and Rust takes nothing
//! of them from JavaScript peers.

#![allow(clippy::unwrap_used, missing_docs)]

use conformance::{Contents, Held, JsPeer, Store, root_key};

const NAMES: [&str; 3] = ["first", "second", "third"];

/// Writes three feeds with a JavaScript peer and closes it; gives their keys.
fn write(mut peer: JsPeer) -> [String; 3] {
    let keys = NAMES.map(|name| peer.write(name, 10, &[200, 0]));
    peer.close();
    keys
}

fn held(keys: &[String; 3], left: &[usize]) -> Contents {
    left.iter().map(|at| (keys[*at].clone(), Held::written(NAMES[*at], 10, &[200, 0]))).collect()
}

#[test]
fn the_javascript_opens_a_directory_in_which_a_writer_was_blocked_and_finds_it_empty() {
    for numbered in [true, false] {
        let store = Store::new(&root_key("blocked here"));
        let open = || if numbered { store.multifeed6() } else { store.javascript() };
        let keys = write(open());
        store.run("block", &[&keys[1]], &[]);
        assert_eq!(store.contents(), held(&keys, &[0, 2]));
        store.run("verify", &[], &[]);

        let mut peer = open();
        let mut contents = peer.contents();
        assert_eq!(contents.remove(&keys[1]), Some(Held::all(&[] as &[&[u8]])), "{numbered}");
        assert_eq!(contents, held(&keys, &[0, 2]), "{numbered}");
        // The others go on.
        assert_eq!(peer.write("third", 1, &[200, 0]), keys[2]);
        peer.close();
        let mut expected = held(&keys, &[0, 2]);
        expected.insert(keys[2].clone(), Held::written("third", 11, &[200, 0]));
        assert_eq!(store.contents(), expected, "{numbered}");
    }
}

#[test]
fn a_blocked_feed_is_neither_taken_from_a_javascript_peer_nor_given_to_one() {
    for package in ["hypermultifeed", "multifeed"] {
        let key = root_key(package);
        let (theirs, ours, third) = (Store::new(&key), Store::new(&key), Store::new(&key));
        let keys = write(theirs.javascript_of(package));
        let mut peer = theirs.javascript_of(package);
        ours.sync(peer.listen());
        peer.close();
        assert_eq!(ours.contents(), held(&keys, &[0, 1, 2]));
        ours.run("block", &[&keys[0]], &[]);
        let mut peer = theirs.javascript_of(package);
        ours.sync(peer.listen());
        peer.close();
        assert_eq!(ours.contents(), held(&keys, &[1, 2]), "{package}");

        let mut reader = third.javascript_of(package);
        ours.sync(reader.listen());
        assert_eq!(reader.contents(), held(&keys, &[1, 2]), "{package}");
        reader.close();
        ours.run("unblock", &[&keys[0]], &[]);
        let mut peer = theirs.javascript_of(package);
        ours.sync(peer.listen());
        peer.close();
        assert_eq!(ours.contents(), held(&keys, &[0, 1, 2]), "{package}");
    }
}
