//! Crash tests: what a disk holds when the process, or the power, ends in the middle.

use alloc::vec::Vec;

use bytes::Bytes;

use super::memory::Memory;
use super::{Answer, Batch, BatchId, BatchResult, Failed, Fault, FilePath, Op, StorageError};

/// An executor in memory that remembers every effect, for crash tests.
///
/// [`state_after`](Self::state_after) is the disk after a process was killed between two effects,
/// [`state_torn`](Self::state_torn) in the middle of one, and
/// [`state_after_power_loss`](Self::state_after_power_loss) after the machine lost its power:
///
/// ```
/// use multifeed_core::storage::{Batch, BatchId, FilePath, Journal, Op};
///
/// let mut journal = Journal::default();
/// let path = FilePath::new(&["data"]);
/// let write = Op::Write { path: path.clone(), offset: 0, data: "hello".into() };
/// journal.execute(&Batch { id: BatchId(0), after: None, ops: vec![write] });
/// assert_eq!(journal.state_after(0).contents(&path), None);
/// assert_eq!(journal.state_torn(0, 2).contents(&path), Some(b"he".to_vec()));
/// assert_eq!(journal.state_after(1).contents(&path), Some(b"hello".to_vec()));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Journal {
    start: Memory,
    memory: Memory,
    failed: Failed,
    effects: Vec<Effect>,
}

/// One change of the files. Effects happen one after the other, whatever order the operations of a
/// batch are allowed; to test another order, reverse or shuffle `ops` before executing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The batch it belongs to.
    pub batch: BatchId,
    /// The operation: one that changes files, or [`Op::Sync`], which makes changes last.
    pub op: Op,
}

/// What a loss of power leaves of an effect that no sync covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All of it.
    Whole,
    /// This many bytes of a write, from its first on; all of it from [`Journal::torn_len`] on, and nothing of
    /// what is no write.
    Part(usize),
    /// Nothing.
    Nothing,
}

impl From<bool> for Kept {
    fn from(kept: bool) -> Self {
        if kept { Self::Whole } else { Self::Nothing }
    }
}

impl Journal {
    /// A journal that begins with the files of `memory`.
    #[must_use]
    pub fn new(memory: Memory) -> Self {
        Self { start: memory.clone(), memory, failed: Failed::default(), effects: Vec::new() }
    }

    /// Runs the operations of a batch in their order.
    pub fn execute(&mut self, batch: &Batch) -> BatchResult {
        if let Some(skipped) = self.failed.skip(batch) {
            return skipped;
        }
        let answers = batch.ops.iter().map(|op| self.run(batch.id, op)).collect();
        self.failed.answer(batch.id, answers)
    }

    /// The journal of a process that goes on with the files of one that was killed after the first `count`
    /// effects. A loss of power takes what neither of them had synced.
    #[must_use]
    pub fn killed_after(&self, count: usize) -> Self {
        let effects = self.effects[..count.min(self.effects.len())].to_vec();
        let (start, memory) = (self.start.clone(), self.state_after(count));
        Self { start, memory, failed: Failed::default(), effects }
    }

    /// Makes changes fail from a moment on: see [`Memory::set_fault`].
    pub fn set_fault(&mut self, fault: Option<Fault>) {
        self.memory.set_fault(fault);
    }

    /// Gives the lock up, as the end of the process that holds it would.
    pub fn unlock(&mut self) {
        self.memory.unlock();
    }

    /// The effects so far, oldest first.
    #[must_use]
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// The files at this moment.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The files after the first `count` effects.
    #[must_use]
    pub fn state_after(&self, count: usize) -> Memory {
        let mut memory = self.empty();
        for effect in self.effects.iter().take(count) {
            apply(&mut memory, &effect.op);
        }
        memory.unlock();
        memory
    }

    /// The files after the first `whole` effects and `bytes` bytes of the one after them.
    ///
    /// Effects that no file system tears (a rename, a secret file, which is renamed into place) and
    /// those that are shorter have then happened completely only if `bytes` reaches
    /// [`torn_len`](Self::torn_len).
    #[must_use]
    pub fn state_torn(&self, whole: usize, bytes: usize) -> Memory {
        let mut memory = self.state_after(whole);
        let Some(effect) = self.effects.get(whole) else { return memory };
        apply_part(&mut memory, &effect.op, bytes);
        memory
    }

    /// Number of places at which the effect `index` can be torn: the bytes of a write, 1 for all else.
    #[must_use]
    pub fn torn_len(&self, index: usize) -> usize {
        self.effects.get(index).map_or(1, |effect| torn_len(&effect.op))
    }

    /// The files when the power is lost after the first `count` effects: those that a later
    /// [`Op::Sync`] of their file covers are there, of the others what `kept`, called
    /// with their number, says.
    #[must_use]
    pub fn state_after_power_loss<K: Into<Kept>>(
        &self,
        count: usize,
        mut kept: impl FnMut(usize) -> K,
    ) -> Memory {
        let effects = &self.effects[..count.min(self.effects.len())];
        let lasts = |index: usize, effect: &Effect| {
            // A secret file is synced before it gets its name.
            matches!(effect.op, Op::CreateSecret { .. })
                || effects[index..].iter().any(|later| {
                    // The sync of a file also makes the names of the folders above it last.
                    let is_folder = matches!(effect.op, Op::Rename { .. });
                    matches!(&later.op, Op::Sync { path } if path == target(&effect.op)
                        || is_folder && path.is_within(target(&effect.op)))
                })
        };
        let mut memory = self.empty();
        for (index, effect) in effects.iter().enumerate() {
            let kept = if lasts(index, effect) { Kept::Whole } else { kept(index).into() };
            match kept {
                Kept::Whole => apply(&mut memory, &effect.op),
                Kept::Part(bytes) => apply_part(&mut memory, &effect.op, bytes),
                Kept::Nothing => {}
            }
        }
        memory.unlock();
        memory
    }

    fn run(&mut self, batch: BatchId, op: &Op) -> Result<Answer, StorageError> {
        let answer = self.memory.run(op)?;
        if changes(op) {
            self.effects.push(Effect { batch, op: op.clone() });
        }
        Ok(answer)
    }

    /// The files that it began with.
    fn empty(&self) -> Memory {
        let mut memory = self.start.clone();
        memory.set_fault(None);
        memory
    }
}

/// Applies an effect that once went well; that it fails on a file whose folder was lost with the
/// power is part of the loss.
fn apply(memory: &mut Memory, op: &Op) {
    let _lost = memory.run(op);
}

/// Applies the first bytes of an effect.
fn apply_part(memory: &mut Memory, op: &Op, bytes: usize) {
    if bytes >= torn_len(op) {
        apply(memory, op);
    } else if let Op::Write { path, offset, data } = op {
        let data = Bytes::copy_from_slice(&data[..bytes]);
        apply(memory, &Op::Write { path: path.clone(), offset: *offset, data });
    }
}

fn torn_len(op: &Op) -> usize {
    if let Op::Write { data, .. } = op { data.len().max(1) } else { 1 }
}

/// The file whose sync makes an effect last.
const fn target(op: &Op) -> &FilePath {
    match op {
        Op::Rename { to, .. } => to,
        Op::Read { .. }
        | Op::Length { .. }
        | Op::NextData { .. }
        | Op::Write { .. }
        | Op::Truncate { .. }
        | Op::Punch { .. }
        | Op::CreateSecret { .. }
        | Op::Remove { .. }
        | Op::List { .. }
        | Op::Sync { .. }
        | Op::Lock { .. } => op.path(),
    }
}

const fn changes(op: &Op) -> bool {
    match op {
        Op::Read { .. } | Op::Length { .. } | Op::NextData { .. } | Op::List { .. } => false,
        Op::Write { .. }
        | Op::Truncate { .. }
        | Op::Punch { .. }
        | Op::CreateSecret { .. }
        | Op::Remove { .. }
        | Op::Rename { .. }
        | Op::Sync { .. }
        | Op::Lock { .. } => true,
    }
}
