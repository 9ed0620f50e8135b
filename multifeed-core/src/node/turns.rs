//! Channels that take turns.

use alloc::collections::BTreeMap;

use multifeed_proto::ChannelId;

/// A queue of channels in which each stands once. A peer chooses how many there are and how often one of them
/// begins anew, so every operation costs no more than the logarithm of their number.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: BTreeMap<u64, ChannelId>,
    places: BTreeMap<ChannelId, u64>,
    next: u64,
}

impl Turns {
    /// Puts a channel at the end, unless it is in the queue.
    pub(super) fn push_back(&mut self, channel: ChannelId) {
        let next = self.next;
        if *self.places.entry(channel).or_insert(next) == next {
            self.queue.insert(next, channel);
            self.next += 1;
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<ChannelId> {
        let (_, channel) = self.queue.pop_first()?;
        self.places.remove(&channel);
        Some(channel)
    }

    pub(super) fn remove(&mut self, channel: ChannelId) {
        if let Some(place) = self.places.remove(&channel) {
            self.queue.remove(&place);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_stands_once_and_keeps_its_place() {
        let mut turns = Turns::default();
        for id in [3, 1, 3, 2, 1] {
            turns.push_back(ChannelId(id));
        }
        turns.remove(ChannelId(1));
        turns.remove(ChannelId(9));
        turns.push_back(ChannelId(1));
        let order: Vec<u32> =
            core::iter::from_fn(|| turns.pop_front()).map(|channel| channel.0).collect();
        assert_eq!(order, [3, 2, 1]);
        assert!(turns.is_empty());
    }
}
