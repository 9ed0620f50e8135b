//! What the remote said on one feed channel.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::bits::PAGE_BLOCKS;
use super::blocks::{MAX_BLOCKS, RemoteBlocks};
use crate::PeerError;
use crate::messages::{Have, Request, Span, Status};
use crate::rle::{self, Run};

/// What the remote said on one feed channel, and what it owes us there.
///
/// Everything is as the remote claims it; only proofs make blocks true.
///
/// Source: `hypercore@9.12.0`, `lib/replicate.js` (`Peer`).
#[derive(Clone, Debug)]
pub struct Peer {
    pub(crate) open: bool,
    /// Our own status.
    pub(crate) ours: Status,
    status: Status,
    blocks: RemoteBlocks,
    remote_length: u64,
    pub(crate) remote_wants: bool,
    pub(crate) remote_acks: bool,
    unanswered: Vec<Span>,
    in_flight: BTreeMap<Kind, Asked>,
    seeks: usize,
    /// Requests given up whose answer may still come.
    forgotten: BTreeSet<Kind>,
}

/// A block, and whether only its hashes were asked for. Both may be in flight at once.
type Kind = (u64, bool);

#[derive(Clone, Copy, Debug)]
struct Asked {
    seek: bool,
}

/// What to do with a `Data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It answers a request, perhaps one that was given up.
    Expected,
    /// Nobody asked.
    Unrequested,
}

impl Peer {
    pub(crate) fn new(ours: Status) -> Self {
        Self {
            open: false,
            ours,
            status: READY,
            blocks: RemoteBlocks::default(),
            remote_length: 0,
            remote_wants: false,
            remote_acks: false,
            unanswered: Vec::new(),
            in_flight: BTreeMap::new(),
            seeks: 0,
            forgotten: BTreeSet::new(),
        }
    }

    /// Whether both sides have the channel open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// What the remote is ready to do; everything before its first `Status`.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// The blocks that the remote has, also those that we have.
    #[must_use]
    pub fn remote(&self) -> &RemoteBlocks {
        &self.blocks
    }

    /// The highest block that the remote announced, plus one.
    #[must_use]
    pub fn remote_length(&self) -> u64 {
        self.remote_length
    }

    /// Whether the remote sent a `Want`: only then it should be told of our blocks.
    #[must_use]
    pub fn remote_wants(&self) -> bool {
        self.remote_wants
    }

    /// Whether the remote asked for a `Have` with `ack` for each block that it sends.
    #[must_use]
    pub fn remote_acks(&self) -> bool {
        self.remote_acks
    }

    /// Wants of ours that the remote has not answered.
    ///
    /// The answer is a `Have` with the same start and length, or an old peer's bitfield of
    /// everything. A remote that does not upload owes none.
    #[must_use]
    pub fn unanswered_wants(&self) -> usize {
        self.unanswered.len()
    }

    /// The same wants, in the order in which they were sent.
    pub fn wants_without_answer(&self) -> impl Iterator<Item = Span> + '_ {
        self.unanswered.iter().copied()
    }

    /// Requests of ours without an answer.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether the answer to a request for block `index` is awaited, or to one for its hashes.
    #[must_use]
    pub fn is_requested(&self, index: u64) -> bool {
        [false, true].into_iter().any(|hash| self.in_flight.contains_key(&(index, hash)))
    }

    pub(crate) fn wanted(&mut self, span: Span) {
        if self.status.uploading {
            self.unanswered.push(span);
        }
    }

    pub(crate) fn requested(&mut self, request: &Request) {
        let kind = (request.index, request.hash);
        // One that was given up before may still be answered, besides.
        let seek = request.bytes > 0;
        let before = self.in_flight.insert(kind, Asked { seek });
        self.seeks += usize::from(seek);
        self.seeks -= usize::from(before.is_some_and(|asked| asked.seek));
    }

    pub(crate) fn forget(&mut self, index: u64, hash: bool) {
        let Some(asked) = self.in_flight.remove(&(index, hash)) else { return };
        self.seeks -= usize::from(asked.seek);
        if self.forgotten.len() >= MAX_FORGOTTEN {
            self.forgotten.pop_first();
        }
        self.forgotten.insert((index, hash));
    }

    /// Sorts a `Data` for block `index`, with the block or only hashes, and no longer waits for it.
    pub(crate) fn answered(&mut self, index: u64, hash: bool) -> Answer {
        let kind = (index, hash);
        if let Some(asked) = self.in_flight.remove(&kind) {
            self.seeks -= usize::from(asked.seek);
            return Answer::Expected;
        }
        if self.forgotten.remove(&kind) {
            return Answer::Expected;
        }
        if self.seeks == 0 {
            return Answer::Unrequested;
        }
        // A seek is answered with the block that it found, whichever index it was sent with.
        let mut seeks = self.in_flight.iter().filter(|(kind, asked)| asked.seek && kind.1 == hash);
        match seeks.next().map(|(kind, _)| *kind) {
            Some(seek) => {
                self.in_flight.remove(&seek);
                self.seeks -= 1;
                Answer::Expected
            }
            None => Answer::Unrequested,
        }
    }

    /// Takes a status and says whether it differs from the one before.
    pub(crate) fn set_status(&mut self, status: Status) -> bool {
        if !status.uploading {
            self.in_flight.clear();
            self.seeks = 0;
            self.unanswered = Vec::new();
        }
        core::mem::replace(&mut self.status, status) != status
    }

    /// Takes an announcement. `None`: it is to be ignored.
    ///
    /// # Errors
    ///
    /// [`PeerError::Bitfield`] if the bitfield is malformed or decodes to more than can be wanted
    /// at once.
    pub(crate) fn have(&mut self, have: &Have) -> Result<Option<Span>, PeerError> {
        let span = match &have.bitfield {
            Some(_) if have.start % PAGE_BLOCKS != 0 => return Ok(None),
            Some(encoded) => {
                let length = self.insert_runs(have.start, encoded)?;
                // Old peers answer with everything at once and a length of 0 or 1.
                Span { start: have.start, length: have.length.max(length) }
            }
            None => {
                let span = Span { start: have.start, length: have.length.max(1) };
                let end = span.start.saturating_add(span.length).min(MAX_BLOCKS);
                self.blocks.insert(span.start..end);
                self.remote_length = self.remote_length.max(end);
                span
            }
        };
        if !have.ack {
            let everything = have.bitfield.is_some() && have.length <= 1;
            let answers = |want: &Span| {
                want.start == have.start && (want.length == have.length || everything)
            };
            if let Some(place) = self.unanswered.iter().position(answers) {
                self.unanswered.remove(place);
            }
        }
        Ok(Some(clamp(span)))
    }

    /// Adds the blocks of an encoded bitfield run by run: three bytes can stand for a million blocks,
    /// and must not cost a million's work. The number of blocks that it describes.
    fn insert_runs(&mut self, start: u64, encoded: &[u8]) -> Result<u64, PeerError> {
        let mut length = 0;
        for run in rle::runs(encoded) {
            let run = run.map_err(|_| PeerError::Bitfield)?;
            let from = start.saturating_add(length);
            length = run
                .len()
                .checked_mul(8)
                .and_then(|bits| bits.checked_add(length))
                .filter(|length| *length <= MAX_BITFIELD)
                .ok_or(PeerError::Bitfield)?;
            let end = match run {
                Run::Fill { bit: false, .. } => continue,
                Run::Fill { bit: true, .. } => {
                    let end = start.saturating_add(length);
                    self.blocks.insert(from..end);
                    end
                }
                Run::Literal(bytes) => {
                    let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { continue };
                    self.blocks.insert_bits(from, bytes);
                    let bits = last as u64 * 8 + 8 - u64::from(bytes[last].trailing_zeros());
                    from.saturating_add(bits)
                }
            };
            if !run.is_empty() {
                self.remote_length = self.remote_length.max(end.min(MAX_BLOCKS));
            }
        }
        Ok(length)
    }

    /// Takes blocks back; the result is the range, cut to what can exist.
    pub(crate) fn unhave(&mut self, span: Span) -> Span {
        let end = span.start.saturating_add(span.length).min(MAX_BLOCKS);
        if span.start == 0 && span.length >= self.remote_length {
            self.blocks.clear();
            self.remote_length = 0;
        } else {
            self.blocks.remove(span.start..end);
        }
        clamp(span)
    }
}

/// The range without what lies beyond the highest block number.
fn clamp(span: Span) -> Span {
    let start = span.start.min(MAX_BLOCKS);
    Span { start, length: span.length.min(MAX_BLOCKS - start) }
}

/// What a side is taken to be ready for before it says so.
pub(crate) const READY: Status = Status { uploading: true, downloading: true };

/// Blocks that a bitfield may describe: as many as a `Want` can ask for.
const MAX_BITFIELD: u64 = 1_048_576;

/// Given-up requests remembered for each channel.
const MAX_FORGOTTEN: usize = 1024;

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_bitfield_taken_run_by_run_says_what_its_bits_say() {
        for seed in 0..200_u64 {
            let mut random = seed;
            let mut below = |n: u64| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 33) % n
            };
            let mut bits: Vec<u8> = Vec::new();
            for _ in 0..below(12) {
                let (kind, byte) = (below(3), below(256) as u8);
                let len = [1, 9, 700, 3000][below(4) as usize];
                bits.extend((0..len).map(|i| match kind {
                    0 => 0,
                    1 => 0xff,
                    _ => byte.rotate_left(i % 7),
                }));
            }
            let start = PAGE_BLOCKS * below(3);
            let mut peer = Peer::new(READY);
            let have =
                Have { start, length: 5, bitfield: Some(rle::encode(&bits).into()), ack: false };
            peer.have(&have).unwrap();
            let set = |at: usize| bits[at / 8] & (0x80 >> (at % 8)) != 0;
            let count = (0..bits.len() * 8).filter(|at| set(*at)).count() as u64;
            assert_eq!(peer.remote().count(), count, "seed {seed}");
            for at in 0..bits.len() * 8 {
                assert_eq!(peer.remote().contains(start + at as u64), set(at), "seed {seed}, {at}");
            }
            let last = (0..bits.len() * 8).rev().find(|at| set(*at));
            let length = last.map_or(0, |last| start + last as u64 + 1);
            assert_eq!(peer.remote_length(), length, "seed {seed}");
        }
    }
}
