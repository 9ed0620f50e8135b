//! What one side of a channel has and the other lacks.

use core::ops::Range;

use multifeed_proto::session::Peer;

use super::link::Channel;
use super::pages::{first_lacked, first_untold};
use super::select::{Scope, Wishes};
use crate::feed::Feed;

/// Runs of blocks that are counted for a report; peers can make any number of them.
pub(super) const MAX_RUNS: usize = 16_384;

/// Blocks that were sent and that the peer neither acknowledged nor announced: it may have lost ours with
/// its storage, and got them from elsewhere. At least 1 if there are any; exact only if that is asked for.
pub(super) fn unacknowledged(state: &Channel, peer: &Peer, count: bool) -> u64 {
    let open = state.unacked.iter().filter(|run| !peer.remote().contains_all(run.clone()));
    open.map(|run| run.end - run.start).take(if count { MAX_RUNS } else { 1 }).sum()
}

/// Blocks that the peer was sent and gave back, that are here, and that it has not got since; in their
/// first [`MAX_RUNS`].
pub(super) fn given_back(feed: &Feed, state: &Channel, peer: &Peer) -> u64 {
    let blocks = state.given_back.iter().flatten().take(MAX_RUNS);
    let open = blocks.filter(|block| feed.has(*block) && !peer.remote().contains(*block));
    open.count() as u64
}

/// The runs of blocks that the peer has and that are wanted and not here, in order.
fn missing_runs<'a>(
    feed: &'a Feed,
    wishes: &'a Wishes,
    state: &'a Channel,
    peer: &'a Peer,
    steps: &'a mut u64,
) -> impl Iterator<Item = Range<u64>> + 'a {
    let (mut at, scope) = (0, Scope::new(state, feed, peer));
    core::iter::from_fn(move || {
        loop {
            let missing = first_lacked(&feed.bits, peer.remote(), at..u64::MAX, steps)?;
            // What nobody wants is passed over at once, however many runs a peer makes of it.
            let wanted = wishes.next(feed, missing, &scope)?;
            if wanted > missing {
                at = wanted;
                continue;
            }
            let run = peer.remote().run_in(missing..u64::MAX)?;
            let until = feed.bits.first_block(missing..run.end).unwrap_or(run.end);
            at = until;
            if let Some(mut wanted) = wishes.run_in(feed, missing..until, &scope) {
                // What came wrong is not asked for again.
                wanted.start = state.wrong.next_gap(wanted.start);
                wanted.end = state.wrong.next_in(wanted.start).unwrap_or(u64::MAX).min(wanted.end);
                at = wanted.end.max(wanted.start);
                if !wanted.is_empty() {
                    return Some(wanted);
                }
            }
        }
    })
}

/// How many blocks the peer has that are not stored here, and how many of them it did not send; in
/// the first [`MAX_RUNS`] runs.
pub(super) fn missing(
    feed: &Feed,
    wishes: &Wishes,
    state: &Channel,
    peer: &Peer,
    steps: &mut u64,
) -> (u64, u64) {
    let runs = missing_runs(feed, wishes, state, peer, steps).take(MAX_RUNS);
    runs.fold((feed.unstored.count(), 0), |(count, refused), run| {
        let length = run.end - run.start;
        (
            u64::saturating_add(count, length),
            u64::saturating_add(refused, state.refused.count_in(run)),
        )
    })
}

/// As [`missing`], but stops at the first run that the peer may still send some of, which counts as one.
pub(super) fn first_missing(
    feed: &Feed,
    wishes: &Wishes,
    state: &Channel,
    peer: &Peer,
    steps: &mut u64,
) -> (u64, u64) {
    let mut refused = 0_u64;
    let mut runs = 0;
    let mut found = false;
    for run in missing_runs(feed, wishes, state, peer, steps) {
        runs += 1;
        let length = run.end - run.start;
        let unanswered = state.refused.count_in(run);
        refused = refused.saturating_add(unanswered);
        if unanswered < length {
            found = true;
            break;
        }
    }
    *steps += runs;
    (refused.saturating_add(found.into()), refused)
}

/// The runs of blocks that are stored here.
pub(super) fn stored_runs(feed: &Feed) -> impl Iterator<Item = Range<u64>> + '_ {
    let mut at = 0;
    core::iter::from_fn(move || {
        let start = feed.bits.first_block(at..feed.length())?;
        at = feed.bits.first_missing_block(start..feed.length()).unwrap_or(feed.length());
        Some(start..at)
    })
}

/// Whether there are blocks here that the peer neither announced nor acknowledged.
pub(super) fn lacks_some(feed: &Feed, peer: &Peer, steps: &mut u64) -> bool {
    first_untold(&feed.bits, peer.remote(), 0..feed.length(), steps).is_some()
}

/// How many blocks there are here that the peer neither announced nor acknowledged; in the first
/// [`MAX_RUNS`] runs.
pub(super) fn lacking(feed: &Feed, peer: &Peer) -> u64 {
    let mut steps = MAX_RUNS;
    stored_runs(feed)
        .map_while(|run| {
            let (mut at, mut count) = (run.start, 0);
            while at < run.end {
                steps = steps.checked_sub(1)?;
                let known = peer.remote().run_in(at..run.end).unwrap_or(run.end..run.end);
                count += known.start - at;
                at = known.end;
            }
            Some(count)
        })
        .sum()
}
