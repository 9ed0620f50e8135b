//! What a host takes from its peers: drawn once, so that it is the same after a restart, and known for
//! sure in the end.

use std::collections::{BTreeMap, BTreeSet};

use multifeed_core::{Decision, Fetch, Policy};
use multifeed_proto::FeedKey;

use super::blocks::Blocks;
use super::rng::Rng;

/// How a host decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every feed that is offered, and every block of it.
    AcceptAll,
    /// Feeds on a list, to which the application adds a feed when it learns of its key.
    AllowList,
    /// Feeds that the application allows when it is asked.
    Ask,
}

/// What a host does with the feed of one writer.
#[derive(Clone, Debug)]
pub struct Rule {
    pub fetch: Fetch,
    /// Taken from peers that offer it, and offered to nobody.
    pub quiet: bool,
    /// Refused when the application is asked for the first time, and allowed a little later.
    pub late: bool,
}

/// What a host takes.
#[derive(Clone, Debug)]
pub struct Rules {
    pub mode: Mode,
    /// For each writer; `None`: its feed is refused.
    feeds: Vec<Option<Rule>>,
}

/// The writers whose feeds one end of a wire allowed so far.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    all: bool,
    offered: BTreeSet<usize>,
    accepted: BTreeSet<usize>,
    /// What the application was asked about.
    asked: BTreeSet<(bool, FeedKey)>,
}

impl Rules {
    pub fn draw(rng: &mut Rng, writers: usize) -> Self {
        let mode = match rng.within(0..4) {
            0 => Mode::AllowList,
            1 => Mode::Ask,
            _ => Mode::AcceptAll,
        };
        let feeds = (0..writers).map(|_| Self::draw_rule(rng, mode)).collect();
        Self { mode, feeds }
    }

    fn draw_rule(rng: &mut Rng, mode: Mode) -> Option<Rule> {
        if mode == Mode::AcceptAll {
            return Some(Rule { fetch: Fetch::All, quiet: false, late: false });
        }
        let fetch = match rng.within(0..10) {
            0..=3 => Fetch::All,
            4 | 5 => Fetch::Newest(rng.within(0..20)),
            6 | 7 => {
                let count = rng.within(1..4);
                Fetch::Ranges((0..count).map(|_| draw_range(rng)).collect())
            }
            _ => Fetch::OnlyAsked,
        };
        let asks = mode == Mode::Ask;
        let quiet = asks && rng.chance(15);
        let late = asks && !quiet && rng.chance(15);
        rng.chance(70).then_some(Rule { fetch, quiet, late })
    }

    /// The host of a writer shares its feed, and has all of it.
    pub fn own(&mut self, writer: usize) {
        self.feeds[writer] = Some(Rule { fetch: Fetch::All, quiet: false, late: false });
    }

    pub fn rule(&self, writer: usize) -> Option<&Rule> {
        self.feeds[writer].as_ref()
    }

    pub fn accepts(&self, writer: usize) -> bool {
        self.feeds[writer].is_some()
    }

    pub fn offers(&self, writer: usize) -> bool {
        self.rule(writer).is_some_and(|rule| !rule.quiet)
    }

    /// The blocks of a log of this length that are fetched without being asked for.
    pub fn fetches(&self, writer: usize, length: u64) -> Blocks {
        match self.rule(writer).map(|rule| &rule.fetch) {
            Some(Fetch::All) => Blocks::of(0..length),
            Some(Fetch::Newest(count)) => Blocks::of(length.saturating_sub(*count)..length),
            Some(Fetch::Ranges(ranges)) => {
                let mut blocks = Blocks::default();
                ranges.iter().for_each(|range| blocks.insert(range.start..range.end.min(length)));
                blocks
            }
            Some(Fetch::OnlyAsked) | None => Blocks::default(),
        }
    }

    /// Whether a block may be fetched without being asked for, of a log that was known to have at least this
    /// length.
    pub fn may_fetch(&self, writer: usize, block: u64, length: u64) -> bool {
        match self.rule(writer).map(|rule| &rule.fetch) {
            Some(Fetch::All) => true,
            Some(Fetch::Newest(count)) => block.saturating_add(*count) >= length,
            Some(Fetch::Ranges(ranges)) => ranges.iter().any(|range| range.contains(&block)),
            Some(Fetch::OnlyAsked) | None => false,
        }
    }

    /// For a connection that is made now, with the keys that the application knows.
    pub fn policy(&self, keys: &BTreeMap<usize, FeedKey>) -> Policy {
        match self.mode {
            Mode::AcceptAll => Policy::AcceptAll,
            Mode::AllowList => {
                let known = keys
                    .iter()
                    .filter_map(|(writer, key)| Some((*key, self.rule(*writer)?.fetch.clone())));
                Policy::AllowList(known.collect())
            }
            Mode::Ask => Policy::Ask,
        }
    }
}

impl Shares {
    /// What a connection shares that was made with [`Rules::policy`].
    pub fn new(rules: &Rules, keys: &BTreeMap<usize, FeedKey>) -> Self {
        let mut shares = Self { all: rules.mode == Mode::AcceptAll, ..Self::default() };
        if rules.mode == Mode::AllowList {
            keys.keys().filter(|writer| rules.accepts(**writer)).for_each(|at| shares.allow(*at));
        }
        shares
    }

    pub fn allow(&mut self, writer: usize) {
        self.offered.insert(writer);
        self.accepted.insert(writer);
    }

    /// The application allowed a feed in an answer.
    pub fn answer(&mut self, writer: usize, key: FeedKey, decision: Decision) {
        match decision {
            // The peer has offered it meanwhile: what counts is whether that is accepted.
            Decision::Offer if self.asked.contains(&(false, key)) => {}
            Decision::Offer => {
                self.offered.insert(writer);
            }
            Decision::Accept => {
                self.accepted.insert(writer);
            }
        }
    }

    pub fn has(&self, writer: usize) -> bool {
        self.all || self.offered.contains(&writer) || self.accepted.contains(&writer)
    }

    pub fn is_all(&self) -> bool {
        self.all
    }

    /// Notes that the application was asked; `false` if it was before.
    pub fn ask(&mut self, decision: Decision, key: FeedKey) -> bool {
        self.asked.insert((decision == Decision::Offer, key))
    }
}

fn draw_range(rng: &mut Rng) -> std::ops::Range<u64> {
    let start = rng.within(0..40);
    start..start + rng.within(0..40)
}
