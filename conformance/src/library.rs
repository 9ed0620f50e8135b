//! What a store holds, read with our library.

use multifeed_driver::{Bytes, Feed, Multifeed};

use crate::contents::{Contents, Held};

/// Everything that an open store holds.
pub async fn contents(multifeed: &Multifeed) -> Contents {
    let mut contents = Contents::new();
    for feed in multifeed.feeds() {
        let (length, blocks) = blocks(&feed).await;
        contents.insert(feed.key().to_hex(), Held::some(length, blocks));
    }
    contents
}

/// The length of the feed and the blocks that are held, with their indices.
pub(crate) async fn blocks(feed: &Feed) -> (u64, Vec<(u64, Bytes)>) {
    let length = feed.load().await.expect("a feed opens").length;
    let mut blocks: Vec<(u64, Bytes)> = Vec::new();
    let mut next = 0;
    while next < length {
        let read = feed.read(next, length - next, READ_BYTES).await.expect("a held block is read");
        let after = next + (read.len() as u64).max(1); // a block that is not held is passed over
        blocks.extend((next..).zip(read));
        next = after;
    }
    (length, blocks)
}

const READ_BYTES: usize = 0x10_0000;
