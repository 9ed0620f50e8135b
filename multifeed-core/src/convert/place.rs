//! Where each feed goes in the new store, and the small files that make it what it is there.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use bytes::Bytes;

use super::source::{Kind, Source};
use super::{ConvertError, Renamed};
use crate::format::{corestore, numbered, sleep};
use crate::node::Layout;
use crate::storage::{FilePath, Op, SecretBytes};

/// The place of one feed in the new store.
pub(super) struct Place {
    /// `None` for a feed of which there is nothing to store.
    pub(super) folder: Option<FilePath>,
    /// Its name in the new store, and whether a file keeps it there.
    pub(super) name: String,
    pub(super) name_kept: bool,
}

/// Finds a place for every feed.
pub(super) fn places(
    sources: &[Source],
    from: Layout,
    to: Layout,
) -> Result<(Vec<Place>, Vec<Renamed>), ConvertError> {
    if from == to || to == Layout::Corestore {
        let place = |(at, source): (usize, &Source)| Place {
            folder: if from == to {
                source.folder.clone()
            } else {
                source.key.map(|key| corestore::folder(&key.discovery_key()))
            },
            name: source.name.clone().unwrap_or_else(|| at.to_string()),
            name_kept: true,
        };
        return Ok((sources.iter().enumerate().map(place).collect(), Vec::new()));
    }
    let mut taken = BTreeSet::new();
    for (at, source) in sources.iter().enumerate().filter(|(_, source)| source.secret.is_some()) {
        check_name(at, name_of(source, at), &mut taken)?;
    }
    let (mut places, mut renamed) = (Vec::with_capacity(sources.len()), Vec::new());
    for (at, source) in sources.iter().enumerate() {
        let number = u32::try_from(at).unwrap_or(u32::MAX);
        let name = name_of(source, at);
        let name_kept = source.secret.is_some()
            || (numbered::parse_folder(&name).is_none()
                && name.len() <= numbered::MAX_NAME
                && !name.is_empty()
                && taken.insert(name.clone()));
        let name = if name_kept {
            name
        } else {
            let to = number.to_string();
            if name != to {
                renamed.push(Renamed { from: name, to: to.clone() });
            }
            to
        };
        places.push(Place { folder: Some(numbered::folder(number)), name, name_kept });
    }
    Ok((places, renamed))
}

/// The JavaScript calls feeds by name there, and forgets one of two with the same name.
fn check_name(at: usize, name: String, taken: &mut BTreeSet<String>) -> Result<(), ConvertError> {
    let number = numbered::parse_folder(&name);
    let problem = if number.is_some_and(|number| number as usize != at) {
        "in the layout of multifeed 6 a number is no name for a writer"
    } else if name.len() > numbered::MAX_NAME || name.is_empty() {
        "in the layout of multifeed 6 a name has 1 to 4,096 bytes"
    } else if !taken.insert(name.clone()) {
        "in the layout of multifeed 6 two writers cannot have the same name"
    } else {
        return Ok(());
    };
    Err(ConvertError::Name { name, number: at as u64, problem })
}

fn name_of(source: &Source, at: usize) -> String {
    source.name.clone().unwrap_or_else(|| at.to_string())
}

/// What writes the small files of a feed: all that the layouts do differently.
pub(super) fn small_files(source: &Source, place: &Place, from: Layout, to: Layout) -> Vec<Op> {
    let Some(folder) = &place.folder else { return Vec::new() };
    let write = |name: &str, data: Bytes| Op::Write { path: folder.join(name), offset: 0, data };
    let secret = |data: &[u8]| Op::CreateSecret {
        path: folder.join(sleep::SECRET_KEY),
        data: SecretBytes::from(data),
    };
    let name_file = match to {
        Layout::Corestore => corestore::NAME,
        Layout::Numbered => numbered::LOCAL_NAME,
    };
    let mut ops = Vec::new();
    if from == to {
        ops.extend(source.secret_file.as_ref().map(|file| secret(file)));
        ops.extend(source.name_file.clone().map(|file| write(name_file, file)));
        ops.extend(source.key_file.clone().map(|file| write(sleep::KEY, file)));
        return ops;
    }
    ops.extend(source.secret.as_ref().map(|key| secret(&key.to_libsodium()[..])));
    if to == Layout::Numbered {
        if place.name_kept && (source.secret.is_some() || source.name.is_some()) {
            ops.push(write(name_file, Bytes::copy_from_slice(place.name.as_bytes())));
        }
        if source.file(sleep::DATA).is_none() || source.lengths[1].is_none() {
            // The JavaScript reads no block, not even an empty one, of a feed without it.
            ops.push(write(sleep::DATA, Bytes::new()));
        }
    }
    ops.extend(source.key.map(|key| write(sleep::KEY, Bytes::copy_from_slice(&key.0))));
    ops
}

/// Whether a feed belongs to the multifeed, and can be written to.
pub(super) fn is_writer(source: &Source) -> bool {
    source.kind == Kind::Member && source.secret.is_some()
}
