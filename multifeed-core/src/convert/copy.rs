//! Copies the files of the feeds piece by piece.

use alloc::vec::Vec;

use bytes::Bytes;

use super::place::Place;
use super::source::Source;
use super::{ConvertError, Progress};
use crate::format::sleep;
use crate::storage::{Answer, FilePath, Op};

/// Where the copying is.
#[derive(Debug)]
pub(super) struct Copy {
    /// Which of [`sleep::LOG`] are copied, in this order.
    files: &'static [usize],
    feed: usize,
    file: usize,
    offset: u64,
    /// Whether there is known to be data at `offset`, or nothing behind it.
    looked: bool,
    asked: Vec<Piece>,
    /// Files that are written and not synced.
    written: Vec<FilePath>,
}

/// A part of a file that is being read.
#[derive(Debug)]
struct Piece {
    from: FilePath,
    to: FilePath,
    offset: u64,
    len: usize,
    /// Bytes of the whole file, if the piece is its last.
    end: Option<u64>,
}

impl Default for Copy {
    fn default() -> Self {
        Self {
            files: &ALL,
            feed: 0,
            file: 0,
            offset: 0,
            looked: false,
            asked: Vec::new(),
            written: Vec::new(),
        }
    }
}

impl Copy {
    /// Copies the bitfields first, of a store that somebody may be writing to: what they speak of is there by then.
    pub(super) fn begin_with_bitfields(&mut self) {
        self.files = &BITFIELDS;
    }

    /// Goes on with the other files. `false`: there are none.
    pub(super) fn go_on(&mut self) -> bool {
        if self.files != BITFIELDS {
            return false;
        }
        self.files = &OTHERS;
        self.feed = 0;
        true
    }

    /// The file that is copied now.
    fn current(&self) -> Option<usize> {
        self.files.get(self.file).copied()
    }

    /// What finds the end of a hole in a large file, if the next piece may begin with one.
    pub(super) fn look(&self, sources: &[Source]) -> Option<Op> {
        let source = sources.get(self.feed)?;
        let file = self.current()?;
        let length = source.lengths[file]?;
        let is_large = length.saturating_sub(self.offset) > CHUNK as u64;
        let path = source.file(sleep::LOG[file]).filter(|_| is_large && !self.looked)?;
        Some(Op::NextData { path, offset: self.offset })
    }

    /// Goes on behind the hole.
    pub(super) fn looked(
        &mut self,
        sources: &[Source],
        answer: Option<&Answer>,
        progress: &mut Progress,
    ) {
        self.looked = true;
        let source = sources.get(self.feed).zip(self.current());
        let length = source.and_then(|(source, file)| source.lengths[file]);
        // A file that is gone or shorter is found out when it is read.
        if let (Some(Answer::Length(data)), Some(length)) = (answer, length) {
            let data = (data / PAGE as u64 * PAGE as u64).clamp(self.offset, length);
            progress.bytes_done += data - self.offset;
            self.offset = data;
        }
    }

    /// What reads the next pieces; nothing after the last.
    pub(super) fn read(&mut self, sources: &[Source], places: &[Place]) -> Vec<Op> {
        let mut room = CHUNK;
        while self.asked.len() < PIECES && room > 0 {
            let Some((source, place)) = sources.get(self.feed).zip(places.get(self.feed)) else {
                break;
            };
            let Some(file) = self.current() else {
                (self.feed, self.file) = (self.feed + 1, 0);
                continue;
            };
            let name = sleep::LOG[file];
            let paths = source.file(name).zip(place.folder.as_ref());
            let (Some((from, folder)), Some(length)) = (paths, source.lengths[file]) else {
                self.file += 1;
                continue;
            };
            let left = length - self.offset;
            if left > CHUNK as u64 && !self.looked {
                // There may be a hole first.
                break;
            }
            self.looked = false;
            let len = usize::try_from(left).unwrap_or(usize::MAX).min(room);
            let last = len as u64 == left;
            self.asked.push(Piece {
                from,
                to: folder.join(name),
                offset: self.offset,
                len,
                end: last.then_some(length),
            });
            room -= len;
            if last {
                (self.file, self.offset) = (self.file + 1, 0);
            } else {
                self.offset += len as u64;
            }
        }
        let read = |piece: &Piece| Op::Read {
            path: piece.from.clone(),
            offset: piece.offset,
            len: piece.len,
        };
        self.asked.iter().map(read).collect()
    }

    /// What writes the pieces that were read.
    pub(super) fn write(
        &mut self,
        answers: &[Answer],
        progress: &mut Progress,
    ) -> Result<Vec<Op>, ConvertError> {
        let mut ops = Vec::new();
        for (piece, answer) in core::mem::take(&mut self.asked).into_iter().zip(answers) {
            let whole = answer.bytes().filter(|bytes| bytes.len() == piece.len);
            let Some(bytes) = whole else {
                return Err(ConvertError::Changed { path: piece.from.as_str().into() });
            };
            for run in runs(bytes) {
                let (path, offset) = (piece.to.clone(), piece.offset + run.start as u64);
                ops.push(Op::Write { path, offset, data: bytes.slice(run) });
            }
            progress.bytes_done += piece.len as u64;
            if let Some(len) = piece.end {
                // A hole at its end, or nothing at all, is written by nobody.
                ops.push(Op::Truncate { path: piece.to.clone(), len });
                self.written.push(piece.to);
            }
        }
        progress.feeds_done = self.feed as u64;
        Ok(ops)
    }

    /// What syncs the files that are complete.
    pub(super) fn sync(&mut self) -> Vec<Op> {
        core::mem::take(&mut self.written).into_iter().map(|path| Op::Sync { path }).collect()
    }
}

/// What measures the files of these feeds that are copied after their bitfields. A signature is there only after
/// what it signs.
pub(super) fn measure_others(sources: &[Source]) -> Vec<Op> {
    let files = sources
        .iter()
        .flat_map(|source| OTHERS.iter().filter_map(|file| source.file(sleep::LOG[*file])));
    files.map(|path| Op::Length { path }).collect()
}

/// Takes the answers to that.
pub(super) fn others_measured(sources: &mut [Source], answers: &[Answer]) {
    let here = sources.iter_mut().filter(|source| source.folder.is_some());
    for (source, answers) in here.zip(answers.chunks(OTHERS.len())) {
        for (file, answer) in OTHERS.iter().zip(answers) {
            source.lengths[*file] = match answer {
                Answer::Length(length) => Some(*length),
                Answer::Done | Answer::Bytes(_) | Answer::Names(_) | Answer::NotFound => None,
            };
        }
    }
}

/// What measures the files of these feeds again, and the lengths that they should have.
pub(super) fn measure(sources: &[Source]) -> (Vec<Op>, Vec<Option<u64>>) {
    let (mut ops, mut lengths) = (Vec::new(), Vec::new());
    for source in sources.iter().filter(|source| source.folder.is_some()) {
        ops.extend(
            sleep::LOG.iter().filter_map(|name| source.file(name)).map(|path| Op::Length { path }),
        );
        lengths.extend(source.lengths);
    }
    (ops, lengths)
}

/// Whether nothing grew or shrank; else the first file that did.
pub(super) fn is_unchanged(
    asked: &[FilePath],
    expected: &[Option<u64>],
    answers: &[Answer],
) -> Result<(), ConvertError> {
    for ((path, expected), answer) in asked.iter().zip(expected).zip(answers) {
        let length = match answer {
            Answer::Length(length) => Some(*length),
            Answer::NotFound | Answer::Done | Answer::Bytes(_) | Answer::Names(_) => None,
        };
        if length != *expected {
            return Err(ConvertError::Changed { path: path.as_str().into() });
        }
    }
    Ok(())
}

/// The parts of a piece that are not zero, in whole pages.
fn runs(bytes: &Bytes) -> Vec<core::ops::Range<usize>> {
    let mut runs: Vec<core::ops::Range<usize>> = Vec::new();
    for (at, page) in bytes.chunks(PAGE).enumerate() {
        if page == &ZEROS[..page.len()] {
            continue;
        }
        let (start, end) = (at * PAGE, at * PAGE + page.len());
        match runs.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => runs.push(start..end),
        }
    }
    runs
}

/// Which of [`sleep::LOG`] are copied: all; or the bitfields, and then the others.
const ALL: [usize; sleep::LOG.len()] = [0, 1, 2, 3, 4, 5, 6];
const BITFIELDS: [usize; 1] = [3];
/// In the order in which they are measured: signatures first.
const OTHERS: [usize; sleep::LOG.len() - BITFIELDS.len()] = [2, 0, 1, 4, 5, 6];
/// Bytes that are read at once.
const CHUNK: usize = 1024 * 1024;
/// Files that are read at once.
const PIECES: usize = 64;
/// Bytes that are a hole if all of them are zero.
const PAGE: usize = 4096;
const ZEROS: [u8; PAGE] = [0; PAGE];

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn pages_of_zeros_are_left_out() {
        let mut bytes = vec![0; 5 * PAGE + 3];
        assert!(runs(&bytes.clone().into()).is_empty());
        bytes[PAGE] = 1;
        bytes[3 * PAGE - 1] = 1;
        bytes[5 * PAGE + 2] = 1;
        assert_eq!(runs(&bytes.into()), [PAGE..3 * PAGE, 5 * PAGE..5 * PAGE + 3]);
        assert!(runs(&Bytes::new()).is_empty());
    }
}
