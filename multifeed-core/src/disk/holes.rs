//! Holes: ranges of a file that are zero and take no space, where the file system has them.

use std::fs::File;
use std::io;
use std::ops::Range;

use super::system::{block_size, punch_hole, read_fully, seek_data, write_fully};

/// Turns a range into zeros as far as the file goes, and gives its space back if that is possible.
///
/// Space is given back in whole blocks only. Blocks of a log are cleared in pieces that may all be smaller,
/// so a block at an edge of the range goes as a whole when its other bytes are zero, too.
pub(super) fn punch(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let found = file.metadata()?;
    let range = offset..offset.saturating_add(len).min(found.len());
    if range.is_empty() {
        return Ok(());
    }
    let block = block_size(&found).unwrap_or(MIN_BLOCK).clamp(MIN_BLOCK, MAX_BLOCK);
    let (first, last) = (range.start / block * block, range.end.next_multiple_of(block));
    let start = if is_zero(file, first..range.start)? { first } else { range.start };
    // What is behind the end of the file is zero.
    let end = if is_zero(file, range.end..last)? { last } else { range.end };
    if punch_hole(file, start, end - start)? {
        return Ok(());
    }
    write_zeros(file, range)
}

/// The first byte from `offset` on that is in no hole, or the length of the file.
pub(super) fn next_data(file: &File, offset: u64) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if offset >= length {
        return Ok(length);
    }
    Ok(seek_data(file, offset)?.unwrap_or(length).min(length))
}

/// Whether a range of at most [`MAX_BLOCK`] bytes is zero as far as the file goes.
fn is_zero(file: &File, range: Range<u64>) -> io::Result<bool> {
    let mut found = vec![0; usize::try_from(range.end - range.start).unwrap_or(0)];
    let read = read_fully(file, &mut found, range.start)?;
    Ok(found[..read].iter().all(|byte| *byte == 0))
}

/// Writes zeros over a range where it is not zero, so that holes stay holes.
fn write_zeros(file: &File, range: Range<u64>) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    let mut found = vec![0; ZEROS];
    let mut at = range.start;
    while at < range.end {
        let count = usize::try_from(range.end - at).map_or(ZEROS, |rest| rest.min(ZEROS));
        let read = read_fully(file, &mut found[..count], at)?;
        if found[..read] != zeros[..read] {
            write_fully(file, &zeros[..read], at)?;
        }
        if read < count {
            break;
        }
        at += count as u64;
    }
    Ok(())
}

/// Bytes of zeros written at once.
const ZEROS: usize = 0x1_0000;
/// Least and greatest number of bytes in which a file system is taken to give out space; what it says may
/// be what it likes to transfer.
const MIN_BLOCK: u64 = 4096;
const MAX_BLOCK: u64 = 0x1_0000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_written_where_there_are_no_holes() {
        let file = tempfile::tempfile().unwrap();
        write_fully(&file, &[7; 200_000], 0).unwrap();
        write_zeros(&file, 10..150_010).unwrap();
        let mut wanted = vec![7; 200_000];
        wanted[10..150_010].fill(0);
        let mut found = vec![0; 200_001];
        assert_eq!(read_fully(&file, &mut found, 0).unwrap(), 200_000);
        assert!(found[..200_000] == wanted[..]);
    }
}
