//! What the writers appended: the truth that all hosts are compared with.

use std::collections::VecDeque;

use bytes::Bytes;
use multifeed_core::{CommandId, FeedId};
use multifeed_proto::FeedKey;

use super::rng::Rng;

/// A local writer of one host.
pub struct Writer {
    pub host: usize,
    pub name: String,
    /// Known from the first time that the host was told of it.
    pub key: Option<FeedKey>,
    /// Its number in the node that runs; `None` while that has not answered.
    pub feed: Option<FeedId>,
    /// Acknowledged. What is in here never changes.
    pub blocks: Vec<Bytes>,
    /// Appends without an answer, in order.
    pub pending: VecDeque<(CommandId, Vec<Bytes>)>,
    /// Appends that failed.
    pub failed: u64,
    /// Failed appends since the last that went well: perhaps in the log.
    doubtful: Vec<Bytes>,
    /// Blocks that others have got, acknowledged or not.
    seen: u64,
    made: u64,
}

impl Writer {
    pub fn new(host: usize, name: String) -> Self {
        Self {
            host,
            name,
            key: None,
            feed: None,
            blocks: Vec::new(),
            pending: VecDeque::new(),
            failed: 0,
            doubtful: Vec::new(),
            seen: 0,
            made: 0,
        }
    }

    /// Blocks that nobody has appended before.
    pub fn draw(&mut self, rng: &mut Rng) -> Vec<Bytes> {
        let count = if rng.chance(70) { 1 } else { rng.magnitude(4) };
        (0..count).map(|_| self.block(rng)).collect()
    }

    fn block(&mut self, rng: &mut Rng) -> Bytes {
        self.made += 1;
        let len = match rng.within(0..400) {
            0 => rng.within(40_000..200_000),
            1..=20 => return Bytes::new(),
            21..=50 => rng.magnitude(13),
            _ => rng.magnitude(7),
        };
        let mut block = format!("{} {} ", self.name, self.made).into_bytes();
        let tail: [u8; 8] = rng.bytes();
        block.extend(tail.iter().cycle().take(len as usize));
        block.into()
    }

    /// An append was acknowledged.
    pub fn appended(&mut self, command: CommandId, start: u64, length: u64) -> Result<(), String> {
        let Some((first, blocks)) = self.pending.pop_front() else {
            return Err(format!("{}: an append was answered that nobody made", self.name));
        };
        if first != command {
            return Err(format!("{}: {command:?} was answered before {first:?}", self.name));
        }
        if start != self.blocks.len() as u64 || length != blocks.len() as u64 {
            return Err(format!(
                "{}: {length} blocks are at {start}, not {} at {}; {} blocks of failed appends",
                self.name,
                blocks.len(),
                self.blocks.len(),
                self.doubtful.len(),
            ));
        }
        self.doubtful.clear();
        self.blocks.extend(blocks);
        Ok(())
    }

    /// An append failed.
    pub fn refused(&mut self, command: CommandId) {
        self.failed += 1;
        if let Some(at) = self.pending.iter().position(|(id, _)| *id == command) {
            self.doubtful
                .extend(self.pending.remove(at).map(|(_, blocks)| blocks).unwrap_or_default());
        }
    }

    /// Blocks that the log may have.
    pub fn most(&self) -> u64 {
        let pending: usize = self.pending.iter().map(|(_, blocks)| blocks.len()).sum();
        (self.blocks.len() + self.doubtful.len() + pending) as u64
    }

    /// Somebody else has the blocks before `end`: only acknowledged ones, and those of failed appends that the
    /// feed was found to hold.
    pub fn got_out(&mut self, end: u64) -> Result<(), String> {
        self.seen = self.seen.max(end);
        let most = self.blocks.len() + self.doubtful.len();
        if end > most as u64 {
            return Err(format!("{}: block {end} got out, {most} were made", self.name));
        }
        if self.feed.is_some() && end > self.blocks.len() as u64 {
            return Err(format!("{}: block {end} got out before it was acknowledged", self.name));
        }
        Ok(())
    }

    /// The node is gone, with or without what was not acknowledged.
    pub fn stopped(&mut self) {
        self.feed = None;
        for (_, blocks) in std::mem::take(&mut self.pending) {
            self.doubtful.extend(blocks);
        }
    }

    /// A new node finds a log of this length that ends in these blocks behind the acknowledged ones.
    pub fn found(&mut self, length: u64, tail: Vec<Bytes>) -> Result<(), String> {
        if length < self.blocks.len() as u64 {
            let acknowledged = self.blocks.len();
            return Err(format!("{}: {length} blocks are left of {acknowledged}", self.name));
        }
        if length < self.seen {
            return Err(format!(
                "{}: {length} blocks are left of {} that got out",
                self.name, self.seen
            ));
        }
        let mut made = std::mem::take(&mut self.doubtful).into_iter();
        for block in &tail {
            if !made.any(|other| other == *block) {
                return Err(format!("{}: a block is in the log that nobody appended", self.name));
            }
        }
        self.blocks.extend(tail);
        Ok(())
    }
}
