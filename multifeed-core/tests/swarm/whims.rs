//! What the application of a host asks for besides: single blocks that its rules do not fetch, and blocks
//! that it gives up. It comes back to both after a restart.

use std::ops::Range;

use multifeed_core::FeedId;

use super::host::Asked;
use super::world::{Check, Due, MILLI, SECOND, World};

impl World {
    /// One whim, and the plan for the next.
    pub fn whim(&mut self) -> Check {
        if self.calm {
            return Ok(());
        }
        let every = self.setup.pace * 20 * SECOND / (self.hosts.len() as u64 + 1);
        let at = self.now + self.rng.within(every / 2..every * 3 / 2);
        self.plan(at, Due::Whim);
        let (host, writer) = (self.rng.index(self.hosts.len()), self.rng.index(self.writers.len()));
        if !self.hosts[host].knows(writer) || self.feed_of(host, writer).is_none() {
            return Ok(());
        }
        if self.rng.chance(60) {
            let start = self.rng.within(0..self.writers[writer].most() + 4);
            let single = self.rng.chance(60);
            let end = start + if single { 1 } else { self.rng.within(1..8) };
            // What is being given up is not asked for before that is done.
            if self.hosts[host].is_clearing(writer, &(start..end)) {
                return Ok(());
            }
            self.counts.wishes += 1;
            self.hosts[host].wishes[writer].insert(start..end);
            return self.wish(host, self.hosts[host].life, writer, start..end);
        }
        let held = self.hosts[host].blocks(writer);
        if self.writers[writer].host == host || held.is_empty() {
            return Ok(());
        }
        let Some(start) = held.iter().nth(self.rng.index(held.count() as usize)) else {
            return Ok(());
        };
        let most = start + self.rng.magnitude(4);
        let end = (start..most).find(|block| !held.contains(*block)).unwrap_or(most);
        // A download that goes on would bring it back.
        let wished = self.running(host)?.asked.values().any(|asked| match asked {
            Asked::Wish(at, from, to) => *at == writer && *from < end && start < *to,
            _ => false,
        });
        let this = &mut self.hosts[host];
        if wished || this.is_clearing(writer, &(start..end)) {
            return Ok(());
        }
        self.counts.clears += 1;
        this.clears.push((writer, start..end));
        this.cleared[writer].insert(start..end);
        this.wishes[writer].remove(start..end);
        self.clear(host, self.hosts[host].life, writer, start..end)
    }

    /// A writer's feed in the node of a host that is open.
    fn feed_of(&self, host: usize, writer: usize) -> Option<FeedId> {
        let this = &self.hosts[host];
        let (key, ready) = (self.writers[writer].key?, this.is_ready());
        this.running.as_ref().filter(|_| ready)?.node.find(&key)
    }

    /// Asks for blocks.
    pub fn wish(&mut self, host: usize, life: u32, writer: usize, blocks: Range<u64>) -> Check {
        let feed = self.feed_of(host, writer);
        let (Some(feed), true) = (feed, self.hosts[host].life == life) else { return Ok(()) };
        let wishes = &self.hosts[host].wishes[writer];
        if blocks.clone().any(|block| !wishes.contains(block)) {
            // Some of them were given up while it waited to ask again.
            let left: Vec<u64> = blocks.filter(|block| wishes.contains(*block)).collect();
            for start in left {
                self.plan(self.now, Due::Wish { host, life, writer, start, end: start + 1 });
            }
            return Ok(());
        }
        let asked = Asked::Wish(writer, blocks.start, blocks.end);
        self.running(host)?.issued[writer].insert(blocks.clone());
        if blocks.end - blocks.start == 1 {
            self.ask(host, asked, |node, now| node.wait(now, feed, blocks.start))?;
        } else {
            self.ask(host, asked, |node, now| node.download(now, feed, blocks))?;
        }
        self.drain(host)
    }

    /// Gives blocks up, unless somebody is looking which there are.
    pub fn clear(&mut self, host: usize, life: u32, writer: usize, blocks: Range<u64>) -> Check {
        let feed = self.feed_of(host, writer);
        let (Some(feed), true) = (feed, self.hosts[host].life == life) else { return Ok(()) };
        let looks = |asked: &Asked| matches!(asked, Asked::Look(at, ..) | Asked::Clear(at, ..) if *at == writer);
        if self.running(host)?.asked.values().any(looks) {
            let Range { start, end } = blocks;
            let at = self.now + 500 * MILLI;
            self.plan(at, Due::Clear { host, life, writer, start, end });
            return Ok(());
        }
        self.hosts[host].change(writer, |held| held.remove(blocks.clone()));
        // Peers may hear of it before they have read all that was to be told them till now.
        let wires: Vec<(usize, usize)> = self.running(host)?.wires.values().copied().collect();
        for (wire, end) in wires {
            self.wires[wire].take_back(end, writer, &blocks);
        }
        let asked = Asked::Clear(writer, blocks.start, blocks.end);
        self.ask(host, asked, |node, now| node.clear(now, feed, blocks))?;
        self.drain(host)
    }

    /// Comes back to what the node before was asked for.
    pub fn resume(&mut self, host: usize, writer: usize) {
        let this = &self.hosts[host];
        let life = this.life;
        let wishes: Vec<u64> = this.wishes[writer].without(&this.blocks(writer)).iter().collect();
        let clears: Vec<Range<u64>> =
            this.clears.iter().filter(|(at, _)| *at == writer).map(|(_, at)| at.clone()).collect();
        for start in wishes {
            self.plan(self.now, Due::Wish { host, life, writer, start, end: start + 1 });
        }
        for Range { start, end } in clears {
            self.plan(self.now, Due::Clear { host, life, writer, start, end });
        }
    }
}
