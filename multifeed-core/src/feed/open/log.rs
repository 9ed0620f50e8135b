//! Which length of the log is proven: what the bitfield tells, or else the longest before or beyond it
//! that is signed.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{CHUNK, Next, Opening, State};
use crate::feed::roots::{Found, Log, Search, Signer};
use crate::format::sleep;
use crate::storage::Op;
use crate::tree::{Node, NodeIndex};

/// Signatures looked at on either side of the length that the bitfield tells.
const SIGNATURES_MAX: u64 = (CHUNK / 64) as u64;
/// Why a feed with blocks or signatures does not open.
const NOTHING_FITS: &str = "no signature in it fits its key";
pub(crate) const NOTHING_PROVEN: &str = "its tree or its signatures are lost";
/// Signed lengths tried.
const TRIES: usize = 64;

/// Lengths that may be proven, longest first, and which is looked at.
#[derive(Debug)]
pub(super) struct Trial {
    why: Why,
    lengths: Vec<u64>,
    next: usize,
    search: Search,
}

/// Why lengths are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The bitfield tells it.
    Told,
    /// What the bitfield tells is not proven.
    Behind,
    /// A writer may have signed more than the bitfield knows of, and so may the writer of a feed whose
    /// bitfield knows of nothing.
    Beyond,
}

impl Opening {
    pub(super) fn look_at_log(&mut self) -> Next {
        if self.told == 0 {
            if self.feed.bits.last_block().is_some() {
                self.feed.bits.clear_from(0);
            }
            return self.look_beyond();
        }
        self.try_lengths(Why::Told, Vec::from([self.told]), 0)
    }

    fn try_lengths(&mut self, why: Why, lengths: Vec<u64>, next: usize) -> Next {
        let Some(&length) = lengths.get(next) else { return self.none_proven(why) };
        let (search, ops) = Search::new(&self.feed.folder, length);
        self.state = State::Trial(Trial { why, lengths, next, search });
        Next::Read(ops)
    }

    pub(super) fn tried(&mut self, trial: Trial, read: &[Bytes]) -> Next {
        let Trial { why, lengths, next, search } = trial;
        let length = lengths[next];
        // Of one length only: a block can be long.
        let look_at_last = why == Why::Told && self.feed.bits.has_block(length - 1);
        let signer = Signer {
            key: &self.feed.key,
            verifier: self.feed.verifier.as_ref(),
            data_len: look_at_last.then_some(self.data_len),
        };
        match search.answered(signer, read) {
            Found::Read(search, ops) => {
                self.state = State::Trial(Trial { why, lengths, next, search });
                Next::Read(ops)
            }
            Found::Nothing(stored, contradicts) => {
                self.contradicted |= contradicts;
                if why == Why::Told {
                    self.unproven = stored;
                }
                self.try_lengths(why, lengths, next + 1)
            }
            Found::Log(log, anew) => match why {
                Why::Told => {
                    self.adopt(log, &anew);
                    self.look_beyond()
                }
                Why::Behind => self.step_back(log, &anew),
                Why::Beyond => self.take_up(log, &anew),
            },
        }
    }

    fn none_proven(&mut self, why: Why) -> Next {
        match why {
            Why::Told => {
                let start = self.told.saturating_sub(SIGNATURES_MAX);
                self.read_signatures(Why::Behind, start, self.told)
            }
            Why::Behind => {
                // Perhaps the bitfield is what is damaged.
                self.feed.bits.clear_from(0);
                self.bits_lost = true;
                if self.signed > self.told {
                    return self.read_signatures(Why::Beyond, self.first_beyond(), self.signed);
                }
                self.nothing_proven()
            }
            Why::Beyond if self.told > 0 && self.feed.length == 0 => self.nothing_proven(),
            Why::Beyond if self.feed.secret.is_some() => self.drop_tail(),
            // A kill before the bitfield was first written: the signature before it may be cut off.
            Why::Beyond if self.bits_lost && self.last_signed > 0 => self.nothing_proven(),
            Why::Beyond => Next::Done,
        }
    }

    /// A key that is not theirs is told from signatures or nodes that are not there.
    fn nothing_proven(&self) -> Next {
        Next::Failed(if self.contradicted { NOTHING_FITS } else { NOTHING_PROVEN })
    }

    fn read_signatures(&mut self, why: Why, start: u64, end: u64) -> Next {
        self.state = State::Signatures(why);
        let (path, offset) = (self.feed.file(sleep::SIGNATURES), sleep::signature_offset(start));
        Next::Read(Vec::from([Op::Read { path, offset, len: (end - start) as usize * 64 }]))
    }

    pub(super) fn signatures(&mut self, why: Why, read: &Bytes) -> Next {
        let start = match why {
            Why::Told | Why::Behind => self.told.saturating_sub(SIGNATURES_MAX),
            Why::Beyond => self.first_beyond(),
        };
        let entries = read.chunks_exact(64).zip(start + 1..).collect::<Vec<_>>();
        let there = |entry: &[u8]| sleep::read_signature(entry).is_some();
        let lengths = entries.into_iter().rev().filter(|(entry, _)| there(entry));
        let lengths = lengths.map(|(_, length)| length);
        let lengths: Vec<u64> = match why {
            Why::Beyond => lengths.take(TRIES).collect(),
            Why::Told | Why::Behind => {
                lengths.filter(|length| *length < self.told).take(TRIES).collect()
            }
        };
        if why == Why::Beyond {
            self.last_signed = lengths.first().copied().unwrap_or_default();
        }
        self.try_lengths(why, lengths, 0)
    }

    /// A writer asks whether it signed more than the bitfield knows of, and a reader whose bitfield knows of
    /// nothing asks what was signed.
    fn look_beyond(&mut self) -> Next {
        let asks = self.feed.secret.is_some() || self.told == 0;
        if !asks || self.signed <= self.feed.length {
            return Next::Done;
        }
        self.read_signatures(Why::Beyond, self.first_beyond(), self.signed)
    }

    fn first_beyond(&self) -> u64 {
        self.signed.saturating_sub(SIGNATURES_MAX).max(self.feed.length)
    }

    /// Believes a log: its length and its roots.
    pub(super) fn adopt(&mut self, log: Log, anew: &[Node]) {
        self.feed.bits.clear_from(log.length);
        for root in &log.roots {
            self.feed.bits.set_node(NodeIndex(root.index));
        }
        self.feed.mend_nodes(anew);
        self.feed.set_log(log.length, log.roots);
    }

    fn step_back(&mut self, log: Log, anew: &[Node]) -> Next {
        let length = log.length;
        self.adopt(log, anew);
        if self.feed.secret.is_some() {
            self.feed.sealed_until = self.feed.sealed_until.max(self.told);
            return self.look_beyond();
        }
        if self.signed > length {
            self.feed.buffer.truncate_signatures = Some(length);
        }
        Next::Done
    }

    /// What is written beyond the log is no signature of it, but what a crash left of one. It goes, so
    /// that it cannot be taken for the signature of other blocks.
    fn drop_tail(&mut self) -> Next {
        if self.bits_lost {
            // Not that of a crash: the signatures may be damaged as well.
            return self.seal(self.signed);
        }
        if self.feed.sealed_until <= self.feed.length {
            self.feed.buffer.truncate_signatures = Some(self.feed.length);
        }
        Next::Done
    }

    /// Blocks up to `length` were signed once and are damaged: others must not take their places. The
    /// files stay as they are, so that the next opening finds the same.
    pub(super) fn seal(&mut self, length: u64) -> Next {
        self.feed.sealed_until = self.feed.sealed_until.max(length);
        Next::Done
    }
}
