//! The list of feeds of a multifeed in the layout of corestore: written as a whole, or what is left of it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::RootKey;

use crate::feed::{Feed, FlushPlan, OpenStep, Opening};
use crate::format::{corestore, list, sleep};
use crate::node::{Durability, NodeError};
use crate::storage::{Answer, FilePath, Op};

/// What writes a list of these feeds into a folder where there is nothing, one batch after another.
pub(crate) fn write(
    root: &RootKey,
    master: &[u8; 32],
    folder: &FilePath,
    entries: &[list::Entry],
) -> Result<VecDeque<Vec<Op>>, NodeError> {
    let name = corestore::list_name(root);
    let secret = corestore::derive(master, &name);
    let key = secret.public();
    let write = |name: &str, data: &[u8]| {
        let path = folder.join(name);
        let data = Bytes::copy_from_slice(data);
        [
            Vec::from([Op::Write { path: path.clone(), offset: 0, data }]),
            Vec::from([Op::Sync { path }]),
        ]
    };
    let mut batches = VecDeque::new();
    batches.extend(write(corestore::NAME, &corestore::encode_name(&name)));
    batches.extend(write(sleep::KEY, &key.0));
    let (mut opening, mut ops) = Opening::new(key, folder.clone());
    let feed = loop {
        // There is no file of it.
        let answers = ops.iter().map(|_| Ok(Answer::NotFound)).collect();
        match opening.answered(answers, |_| Some(secret.clone())) {
            OpenStep::Read(more) => ops = more,
            OpenStep::Done(feed) => break *feed,
            OpenStep::Failed(error) => return Err(error),
        }
    };
    batches.extend(append(feed, entries)?);
    Ok(batches)
}

/// What adds these feeds to a list that is open.
pub(crate) fn append(mut feed: Feed, entries: &[list::Entry]) -> Result<Vec<Vec<Op>>, NodeError> {
    let lines: Vec<Bytes> = entries.iter().map(|entry| list::encode(entry).into()).collect();
    feed.append(None, &lines)?;
    let mut next_batch = 0;
    let mut plan =
        FlushPlan { next_batch: &mut next_batch, durability: Durability::Power, after: None };
    Ok(feed.flush(&mut plan).into_iter().map(|batch| batch.ops).collect())
}

/// The entries in the data file of a list of which nothing is proven any more: each is a line. Whoever takes one
/// must know from elsewhere that its key is right.
#[cfg(feature = "std")]
pub(super) fn salvage(data: &[u8]) -> Vec<list::Entry> {
    let lines = data.split(|byte| *byte == b'\n');
    lines.filter_map(list::decode).filter(|entry| !entry.key.is_weak()).collect()
}
