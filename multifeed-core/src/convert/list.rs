//! The list of feeds of a store in the layout of corestore.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use multifeed_proto::RootKey;

use super::ConvertError;
use super::place::Place;
use super::source::Source;
use crate::check::write_list;
use crate::format::{corestore, list};
use crate::storage::Op;

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
    let entries = sources.iter().zip(places).filter_map(|(source, place)| {
        Some(list::Entry { key: source.key?, name: place.name.clone() })
    });
    let entries: Vec<list::Entry> = entries.collect();
    let key = corestore::derive(master, &corestore::list_name(root)).public();
    let folder = corestore::folder(&key.discovery_key());
    write_list(root, master, &folder, &entries).map_err(ConvertError::List)
}
