//! Who plays the sides of a case.

use std::time::Duration;

use conformance::upstream::Family;
use conformance::{Player, Side, Store, connect, root_key};
use multifeed_tokio::Layout;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Cast {
    pub(crate) family: Family,
    pub(crate) players: [Player; 2],
}

impl Cast {
    /// `role` is the last part of the name of a test.
    pub(crate) fn new(family: Family, role: &str) -> Self {
        let layout = match family {
            Family::Hypermultifeed => Layout::Corestore,
            Family::Multifeed6 => Layout::Numbered,
        };
        let (rust, javascript) = (Player::Rust(layout), Player::JavaScript(family.package()));
        let players = match role {
            "rust" | "rust_rust" => [rust, rust],
            "rust_javascript" => [rust, javascript],
            "javascript_rust" => [javascript, rust],
            _ => panic!("no role {role:?}"),
        };
        Self { family, players }
    }

    /// The one side of a case that has one, and its folder.
    pub(crate) async fn alone(self) -> (Side, Store) {
        let store = self.store();
        (self.open(0, &store, &[]).await, store)
    }

    /// Both sides with one root key and a folder each.
    pub(crate) async fn both(self, arguments: &[&str]) -> [(Side, Store); 2] {
        let stores = [self.store(), self.store()];
        let [one, two] = stores;
        [(self.open(0, &one, arguments).await, one), (self.open(1, &two, arguments).await, two)]
    }

    pub(crate) async fn open(self, which: usize, store: &Store, arguments: &[&str]) -> Side {
        Side::open_json(self.players[which], store, arguments).await
    }

    /// A new folder; all of a case have the same root key.
    pub(crate) fn store(self) -> Store {
        Store::new(&root_key("a case"))
    }

    /// What JavaScript finds in a folder that nobody has open.
    pub(crate) async fn javascript(self, store: &Store) -> Side {
        Side::open_json(Player::JavaScript(self.family.package()), store, &[]).await
    }
}

/// Appends to an unnamed writer and reads back: the setup that most cases begin with. Gives its key.
pub(crate) async fn setup(side: &mut Side, value: &str) -> String {
    let key = side.writer(None).await;
    side.append(&key, &[value.into()]).await;
    assert_eq!(side.value(&key, 0).await, value);
    assert_eq!(keys(side).await, std::slice::from_ref(&key));
    key
}

/// The keys of all feeds, as the side orders them.
pub(crate) async fn keys(side: &mut Side) -> Vec<String> {
    side.feeds().await.into_iter().map(|feed| feed.key).collect()
}

/// Connects two sides that are not live, and waits until both have ended.
pub(crate) async fn exchange(one: &mut Side, two: &mut Side) {
    connect(one, two, false).await;
    one.ended().await;
    two.ended().await;
}

/// Runs a case, which must end by itself.
pub(crate) fn play(case: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(LIMIT, case).await.expect("the case ends");
    });
}

const LIMIT: Duration = Duration::from_secs(120);
