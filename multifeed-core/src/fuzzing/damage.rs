//! Damage to the files of a store, of the kinds that disks, people and other programs do.

use bytes::Bytes;
use multifeed_proto::fuzzing::Input;

use crate::format::sleep;
use crate::storage::{Answer, Batch, BatchId, FilePath, Memory, Op, StorageError};

/// Runs operations on files that no node has open.
pub(super) fn run(memory: &mut Memory, ops: Vec<Op>) -> Vec<Result<Answer, StorageError>> {
    memory.execute(&Batch { id: BatchId(0), after: None, ops }).answers
}

/// Damages one file, which is given. `older` is the store at an earlier time, `other` another store.
pub(super) fn damage(
    memory: &mut Memory,
    older: &Memory,
    other: &Memory,
    input: &mut Input<'_>,
) -> Option<FilePath> {
    let paths: Vec<FilePath> = memory.paths().cloned().collect();
    let path = paths.get(input.below(paths.len().max(1)))?.clone();
    let before = memory.contents(&path)?;
    let at = usize::from(input.short()) % (before.len() + 1);
    match input.byte() % 16 {
        0..=2 => {
            let flipped = before.get(at)? ^ (1 << (input.byte() % 8));
            write(memory, &path, at, &[flipped]);
        }
        3 => write(memory, &path, at, &vec![0; input.below(256)]),
        4 | 5 => drop(run(memory, vec![Op::Truncate { path: path.clone(), len: at as u64 }])),
        6 => drop(run(memory, vec![Op::Remove { path: path.clone() }])),
        7 => replace(memory, &path, &[]),
        8 => write(memory, &path, before.len(), input.bytes()),
        9 => write(memory, &path, at, input.bytes()),
        10 => replace(memory, &path, &older.contents(&path)?),
        11 => {
            // The file of the same name in another folder.
            let name = path.as_str().rsplit('/').next()?.to_string();
            let same: Vec<_> =
                other.paths().filter(|path| path.as_str().ends_with(&name)).collect();
            let contents = other.contents(same.get(input.below(same.len().max(1)))?)?;
            replace(memory, &path, &contents);
        }
        12 => {
            drop(run(memory, vec![Op::Remove { path: path.clone() }]));
            write(memory, &path.join("x"), 0, b"a folder in its place");
        }
        13 => replace(memory, &path, &vec![input.byte(); before.len()]),
        14 => {
            // A number in the tree, or anywhere: a size, most of all.
            let entry = at / sleep::TREE_ENTRY_BYTES * sleep::TREE_ENTRY_BYTES;
            let size = sleep::HEADER_BYTES + entry + 32;
            write(memory, &path, size.min(before.len()), &input.number().to_be_bytes());
        }
        _ => {
            let from = paths.get(input.below(paths.len()))?;
            drop(run(memory, vec![Op::Rename { from: from.clone(), to: path.clone() }]));
        }
    }
    Some(path)
}

fn write(memory: &mut Memory, path: &FilePath, at: usize, data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    drop(run(memory, vec![Op::Write { path: path.clone(), offset: at as u64, data }]));
}

fn replace(memory: &mut Memory, path: &FilePath, contents: &[u8]) {
    drop(run(memory, vec![Op::Truncate { path: path.clone(), len: 0 }]));
    write(memory, path, 0, contents);
}
