//! Each implementation as the initiator and each as the responder, live and not: what both hold in the end,
//! byte for byte, and how it ends. `src/matrix.rs` says what is expected of whom.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use conformance::matrix::{Kind, Outcome};
use conformance::{Contents, Held, Player, Side, Store, connect, results, root_key};
use multifeed_tokio::Layout;

macro_rules! matrix {
    ($($one:ident: $one_kind:ident)*) => {$(
        mod $one { matrix!(@ $one_kind
            rust_corestore: RustCorestore
            rust_numbered: RustNumbered
            multifeed6: Multifeed6
            hypermultifeed: Hypermultifeed
            corestore_multifeed: CorestoreMultifeed
        ); }
    )*};
    (@ $one_kind:ident $($two:ident: $two_kind:ident)*) => {$(
        mod $two {
            use crate::{Kind, pair};

            #[test]
            fn live() {
                pair(Kind::$one_kind, Kind::$two_kind, true);
            }

            #[test]
            fn not_live() {
                pair(Kind::$one_kind, Kind::$two_kind, false);
            }
        }
    )*};
}

// The initiator, then the responder.
matrix! {
    rust_corestore: RustCorestore
    rust_numbered: RustNumbered
    multifeed6: Multifeed6
    hypermultifeed: Hypermultifeed
    corestore_multifeed: CorestoreMultifeed
}

#[test]
fn every_pair_is_here_and_in_the_committed_results() {
    let part = results::render_matrix(&results::own_tests());
    assert!(!part.contains("not run"), "{part}");
    results::check(&part);
}

fn pair(one: Kind, two: Kind, live: bool) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let meeting = meet(one, two, live);
        tokio::time::timeout(Duration::from_secs(60), meeting).await.expect("the two are done");
    });
}

async fn meet(one: Kind, two: Kind, live: bool) {
    let key = root_key("the matrix");
    let (first, second) = (Store::new(&key), Store::new(&key));
    let outcome = Outcome::of(one, two, live);
    let mut arguments = vec![];
    if !live {
        arguments.push("--no-live");
    }
    if outcome == Outcome::Nothing {
        // The ten seconds of hypermultifeed, cut short.
        arguments.extend(["--timeout", "1000"]);
    }
    let mut one = Side::open(player(one), &first, &arguments).await;
    let mut two = Side::open(player(two), &second, &arguments).await;
    let mut own = [Contents::new(), Contents::new()];
    for (side, contents) in [&mut one, &mut two].into_iter().zip(&mut own) {
        for (name, blocks) in [("some", 40), ("few", 3), ("none", 0)] {
            let key = side.write(name, blocks, SIZES).await;
            contents.insert(key, Held::written(name, blocks, SIZES));
        }
    }
    connect(&mut one, &mut two, live).await;
    match outcome {
        Outcome::Nothing => {
            for (side, contents) in [&mut one, &mut two].into_iter().zip(&own) {
                side.left().await;
                assert_eq!(side.contents().await, *contents);
            }
            return;
        }
        Outcome::SameAndEnds => {
            one.ended().await;
            two.ended().await;
        }
        Outcome::Same => {}
    }
    let mut all: Contents = own.into_iter().flatten().collect();
    for side in [&mut one, &mut two] {
        side.wait_for(&all).await;
    }
    if outcome == Outcome::Same {
        for side in [&mut one, &mut two] {
            let key = side.write("some", 1, SIZES).await;
            all.insert(key, Held::written("some", 41, SIZES));
        }
        for side in [&mut one, &mut two] {
            side.wait_for(&all).await;
        }
    }
    one.close().await;
    two.close().await;
    // We record no feed of others of which nobody has given a block; it is shown while its peer is there.
    let given = |contents: Contents| -> Contents {
        contents.into_iter().filter(|(_, held)| held.length > 0).collect()
    };
    let all = given(all);
    for store in [&first, &second] {
        let there = given(tokio::task::block_in_place(|| store.contents()));
        assert_eq!(there, all, "what reached the files");
    }
}

fn player(kind: Kind) -> Player {
    match (kind, kind.package()) {
        (_, Some(package)) => Player::JavaScript(package),
        (Kind::RustNumbered, None) => Player::Rust(Layout::Numbered),
        (_, None) => Player::Rust(Layout::Corestore),
    }
}

const SIZES: &[usize] = &[100, 0, 1, 70_000];
