//! Compares what the hosts have in the end with what was appended, and with each other.

use bytes::Bytes;
use multifeed_core::{FeedId, Outcome};

use super::disk::Speed;
use super::world::{Check, World};

impl World {
    /// Compares every block of every host with what was appended and with what it was told that it has, and
    /// that with what its peers have.
    pub fn compare(&mut self) -> Check {
        for host in (0..self.hosts.len()).filter(|host| !self.is_hostile(*host)).collect::<Vec<_>>()
        {
            self.running(host)?.disk.speed = Speed::Inline;
            for writer in 0..self.writers.len() {
                self.compare_feed(host, writer)?;
            }
        }
        for edge in 0..self.edges.len() {
            let [a, b] = self.edges[edge].hosts;
            if self.is_hostile(a) || self.is_hostile(b) {
                continue;
            }
            for writer in 0..self.writers.len() {
                self.compare_peers(a, b, writer)?;
                self.compare_peers(b, a, writer)?;
            }
        }
        Ok(())
    }

    fn compare_feed(&mut self, host: usize, writer: usize) -> Check {
        let key = self.writers[writer].key.ok_or("a writer without a key")?;
        let feed = self.running(host)?.node.find(&key);
        let this = &self.hosts[host];
        if !this.kind.rules.accepts(writer) {
            self.counts.hidden += 1;
        }
        let Some(feed) = feed.filter(|_| this.kind.rules.accepts(writer)) else {
            let forgotten = !this.knows(writer) || this.blocks(writer).is_empty();
            let right = feed.is_none() && forgotten;
            return right.then_some(()).ok_or_else(|| {
                format!("host {host} has the feed of writer {writer}, and refuses it: {feed:?}")
            });
        };
        if let Some(block) = this.blocks(writer).iter().find(|at| !this.may_have(writer, *at, 0)) {
            return Err(format!(
                "host {host} has block {block} of writer {writer}, which it does not take; {:?}",
                this.kind.rules.rule(writer),
            ));
        }
        let (wanted, held) = (self.writers[writer].blocks.clone(), this.blocks(writer));
        let all = wanted.len() as u64;
        let blocks = self.read_all(host, feed, all)?;
        for (at, (block, right)) in (0..).zip(blocks.iter().zip(&wanted)) {
            let right = Some(right).filter(|_| held.contains(at));
            if block.as_ref() != right {
                let short = |block: &Bytes| block.slice(..block.len().min(20));
                return Err(format!(
                    "host {host} has another block {at} of writer {writer} of host {}: {:?}, not {:?}",
                    self.writers[writer].host,
                    block.as_ref().map(short),
                    right.map(short),
                ));
            }
        }
        let info = self.running(host)?.node.feed(feed);
        let (length, stored) = info.map_or((0, 0), |info| (info.length, info.blocks));
        if length < held.end() || length > all || stored != held.count() {
            return Err(format!(
                "host {host} has {stored} blocks of writer {writer} in a log of {length}, not {} in one of {} to {all}",
                held.count(),
                held.end(),
            ));
        }
        self.counts.partial += u64::from(stored < all);
        Ok(())
    }

    /// A host has all that it wants of what a peer of its has, given how far it knows the log.
    fn compare_peers(&self, host: usize, peer: usize, writer: usize) -> Check {
        let [ours, theirs] = [host, peer].map(|at| &self.hosts[at]);
        let knows = [host, peer].map(|at| {
            let this = &self.hosts[at];
            this.knows(writer) && self.passes_on(at, writer, &this.blocks(writer))
        });
        if !self.agree([host, peer], knows, writer) {
            return Ok(());
        }
        let (there, here) = (theirs.blocks(writer), ours.blocks(writer));
        let known = self.writers[writer].key.and_then(|key| {
            let node = &ours.running.as_ref()?.node;
            Some(node.feed(node.find(&key)?)?.length)
        });
        let length = known.unwrap_or(0).max(there.end());
        let lacking = ours.wants(writer, length).and(&there).without(&here);
        if ours.knows(writer) && theirs.knows(writer) && lacking.is_empty() {
            return Ok(());
        }
        Err(format!(
            "host {host} lacks {} blocks of writer {writer} that host {peer} has and that it wants",
            lacking.count()
        ))
    }

    /// All blocks of a feed, as far as they are there.
    fn read_all(&mut self, host: usize, feed: FeedId, all: u64) -> Check<Vec<Option<Bytes>>> {
        let mut found = Vec::new();
        while (found.len() as u64) < all {
            let blocks = self.read_from(host, feed, found.len() as u64, all)?;
            if blocks.is_empty() {
                found.push(None);
            }
            found.extend(blocks.into_iter().map(Some));
        }
        Ok(found)
    }

    fn read_from(&mut self, host: usize, feed: FeedId, from: u64, all: u64) -> Check<Vec<Bytes>> {
        let now = self.at();
        let running = self.running(host)?;
        let command = running.node.read(now, feed, from, all - from, usize::MAX);
        let mut result = None;
        loop {
            while let Some(output) = running.node.poll_output() {
                match output {
                    multifeed_core::Output::Storage(batch) => running.disk.submit(batch),
                    multifeed_core::Output::Completed { command: id, result: Ok(outcome) }
                        if id == command =>
                    {
                        result = Some(outcome);
                    }
                    other => return Err(format!("host {host}: {other:?} while reading")),
                }
            }
            let mut rng = super::rng::Rng::new(0);
            let Some((batch, _)) = running.disk.start(&mut rng) else { break };
            if let Some(result) = running.disk.finish(batch, &mut rng) {
                running.node.handle_storage(now, result);
            }
        }
        match result {
            Some(Outcome::Blocks(blocks)) => Ok(blocks),
            other => Err(format!("host {host}: reading gave {other:?}")),
        }
    }
}
