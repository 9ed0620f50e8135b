//! The list of feeds of a store in the layout of corestore.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::RootKey;

use super::ConvertError;
use super::place::Place;
use super::source::Source;
use crate::feed::{Feed, FlushPlan, OpenStep, Opening};
use crate::format::{corestore, list, sleep};
use crate::node::Durability;
use crate::storage::{Answer, Op};

/// What writes the list, one batch after another.
pub(super) fn batches(
    root: &RootKey,
    master: &[u8; 32],
    sources: &[Source],
    places: &[Place],
) -> Result<VecDeque<Vec<Op>>, ConvertError> {
    if sources.is_empty() {
        return Ok(VecDeque::new());
    }
    let lines = sources.iter().zip(places).filter_map(|(source, place)| {
        let entry = list::Entry { key: source.key?, name: place.name.clone() };
        Some(Bytes::from(list::encode(&entry)))
    });
    let lines: Vec<Bytes> = lines.collect();
    let name = corestore::list_name(root);
    let secret = corestore::derive(master, &name);
    let key = secret.public();
    let folder = corestore::folder(&key.discovery_key());
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
    let (opening, ops) = Opening::new(key, folder.clone());
    let mut feed = empty(opening, ops, &secret)?;
    feed.append(None, &lines).map_err(ConvertError::List)?;
    let mut next_batch = 0;
    let mut plan =
        FlushPlan { next_batch: &mut next_batch, durability: Durability::Power, after: None };
    batches.extend(feed.flush(&mut plan).into_iter().map(|batch| batch.ops));
    Ok(batches)
}

/// Opens a feed of which there is no file.
fn empty(
    mut opening: Opening,
    mut ops: Vec<Op>,
    secret: &crate::crypto::SecretKey,
) -> Result<Feed, ConvertError> {
    loop {
        let answers = ops.iter().map(|_| Ok(Answer::NotFound)).collect();
        match opening.answered(answers, |_| Some(secret.clone())) {
            OpenStep::Read(more) => ops = more,
            OpenStep::Done(feed) => return Ok(*feed),
            OpenStep::Failed(error) => return Err(ConvertError::List(error)),
        }
    }
}
