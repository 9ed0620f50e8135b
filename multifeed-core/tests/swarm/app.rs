//! What the application of a host looks at: that nothing is lost when a node starts again, that its
//! writers go on where they were, that peers who call themselves in sync are.

use std::rc::Rc;

use multifeed_core::{ConnectionId, FeedId, FeedInfo, Node};
use multifeed_proto::FeedKey;

use super::blocks::{Blocks, Held};
use super::host::Asked;
use super::policy::Mode;
use super::world::{Check, Due, MULTIFEED, SECOND, World};

impl World {
    /// The multifeed of a host is open.
    pub fn joined(&mut self, host: usize, feeds: &[FeedInfo]) -> Check {
        let this = &mut self.hosts[host];
        this.before = std::mem::replace(&mut this.held, vec![None; self.writers.len()].into());
        for feed in feeds {
            self.hosts[host].keys.insert(feed.id, feed.key);
            self.knows(host, &feed.key)?;
            self.ask(host, Asked::Load(feed.id), |node, now| node.load(now, feed.id))?;
        }
        for writer in 0..self.writers.len() {
            let had = self.hosts[host].before[writer].as_ref().is_some_and(|had| !had.is_empty());
            if had && !self.hosts[host].knows(writer) {
                return Err(format!("host {host} has lost the feed of writer {writer}"));
            }
            if self.writers[writer].host == host {
                self.open_writer(writer)?;
            }
        }
        Ok(())
    }

    /// A host knows the feed of this key.
    pub fn knows(&mut self, host: usize, key: &FeedKey) -> Check {
        let Some(&writer) = self.by_key.get(key) else { return Ok(()) };
        if !self.hosts[host].kind.rules.accepts(writer) {
            return Err(format!("host {host} has the feed of writer {writer}, which it refuses"));
        }
        if !self.hosts[host].knows(writer) {
            self.hosts[host].hold(writer, 0..0);
            // The node before may have known the feed, and not have recorded it.
            self.resume(host, writer);
        }
        Ok(())
    }

    /// Opens a feed, to see what is in it.
    pub fn load(&mut self, host: usize, life: u32, feed: FeedId) -> Check {
        if self.running_in(host, life).is_none() || !self.hosts[host].is_ready() {
            return Ok(());
        }
        self.ask(host, Asked::Load(feed), |node, now| node.load(now, feed))?;
        self.drain(host)
    }

    /// A feed that was there when the node started is open: nothing of it may be lost.
    pub fn loaded(&mut self, host: usize, feed: FeedId) -> Check {
        let Some(info) = self.running(host)?.node.feed(feed) else { return Ok(()) };
        let Some(&writer) = self.by_key.get(&info.key) else { return Ok(()) };
        let this = &mut self.hosts[host];
        // The first time in this life.
        if let Some(before) = Rc::make_mut(&mut this.before)[writer].take() {
            this.change(writer, |blocks| blocks.add(&before));
            this.lengths[writer] = info.length;
        }
        let this = &self.hosts[host];
        let known = this.blocks(writer).count();
        if info.blocks < known {
            return Err(format!(
                "host {host} has {} blocks of writer {writer} left of {known}",
                info.blocks
            ));
        }
        if info.blocks <= known {
            return Ok(());
        }
        if this.clears.iter().any(|(at, _)| *at == writer) {
            let life = this.life;
            self.plan(self.now + SECOND, Due::Load { host, life, feed });
            return Ok(());
        }
        self.look(host, writer, feed, 0)
    }

    /// Finds out which blocks there are from this one on.
    fn look(&mut self, host: usize, writer: usize, feed: FeedId, from: u64) -> Check {
        let ask = |node: &mut Node, now| node.read(now, feed, from, u64::MAX, usize::MAX);
        self.ask(host, Asked::Look(writer, feed, from), ask)?;
        Ok(())
    }

    /// So many blocks in a row were found.
    pub fn looked(
        &mut self,
        host: usize,
        writer: usize,
        feed: FeedId,
        from: u64,
        count: u64,
    ) -> Check {
        self.hosts[host].hold(writer, from..from + count);
        let length = self.running(host)?.node.feed(feed).map_or(0, |feed| feed.length);
        let next = from + count.max(1);
        if next < length { self.look(host, writer, feed, next) } else { Ok(()) }
    }

    /// Opens a writer, unless it is open or on its way.
    pub fn open_writer(&mut self, writer: usize) -> Check {
        let this = &self.writers[writer];
        let (host, name) = (this.host, this.name.clone());
        let asked = self.hosts[host].running.as_ref().is_some_and(|running| {
            running.asked.values().any(|asked| match asked {
                Asked::Writer(other) | Asked::Tail(other, _) => *other == writer,
                _ => false,
            })
        });
        if this.feed.is_some() || asked || !self.hosts[host].is_ready() {
            return Ok(());
        }
        if !this.pending.is_empty() {
            self.plan(self.now + SECOND, Due::Writer { writer });
            return Ok(());
        }
        self.ask(host, Asked::Writer(writer), |node, now| {
            node.writer(now, MULTIFEED, Some(&name), None)
        })?;
        Ok(())
    }

    /// A writer is open: it must be the same as before, with all its blocks, and writable.
    pub fn writer_open(&mut self, host: usize, writer: usize, feed: FeedId) -> Check {
        let info = self.running(host)?.node.feed(feed);
        let Some(info) = info else { return Err(format!("host {host}: no {feed:?}")) };
        let this = &mut self.writers[writer];
        if this.key.is_some_and(|key| key != info.key) {
            return Err(format!("writer {writer} has another key than before"));
        }
        if !info.writable || info.lost > 0 || info.blocks != info.length {
            return Err(format!("writer {writer} is damaged: {info:?}"));
        }
        let first = this.key.replace(info.key).is_none();
        let known = this.blocks.len() as u64;
        self.by_key.insert(info.key, writer);
        self.hosts[host].keys.insert(feed, info.key);
        self.hosts[host].hold(writer, 0..info.blocks);
        if first {
            self.publish(writer);
        }
        if info.length > known {
            let count = info.length - known;
            let ask = |node: &mut Node, now| node.read(now, feed, known, count, usize::MAX);
            self.ask(host, Asked::Tail(writer, feed), ask)?;
            return Ok(());
        }
        self.writers[writer].found(info.length, Vec::new())?;
        self.writers[writer].feed = Some(feed);
        Ok(())
    }

    /// What a host holds by now.
    pub fn refresh(&mut self, host: usize) -> Check<Held> {
        if let Some(running) = &self.hosts[host].running {
            let keys: Vec<FeedKey> = running.node.feeds(MULTIFEED).map(|feed| feed.key).collect();
            for key in keys {
                self.knows(host, &key)?;
            }
        }
        Ok(self.hosts[host].held.clone())
    }

    /// How many of these blocks a host lacks for sure: it may have some that it was not told of, after a crash.
    pub fn lacks(&self, host: usize, writer: usize, blocks: &Blocks) -> u64 {
        let this = &self.hosts[host];
        let lacking = blocks.without(&this.blocks(writer)).count();
        let (Some(key), Some(running)) = (self.writers[writer].key, &this.running) else {
            return lacking;
        };
        let feed = running.node.find(&key).and_then(|feed| running.node.feed(feed));
        let stored = feed.map_or(0, |feed| feed.blocks);
        lacking.saturating_sub(stored.saturating_sub(this.blocks(writer).count()))
    }

    /// A host says that it is in sync with a peer: it has what it wants of what the peer has told it of, and
    /// the peer has what it wants of what is here.
    pub fn in_sync(&mut self, host: usize, connection: ConnectionId) -> Check {
        self.counts.in_sync += 1;
        let Some(&(wire, end)) = self.running(host)?.wires.get(&connection) else {
            return Ok(());
        };
        if self.is_hostile_wire(wire) {
            return Ok(());
        }
        let ours = self.refresh(host)?;
        let other = self.wires[wire].ends[1 - end];
        let heard = self.wires[wire].heard(end).cloned();
        // What could not be read when it was asked for is taken back.
        let takes_back =
            self.hosts[other.host].running.as_ref().is_none_or(|running| running.was_unreadable);
        let heard = heard.filter(|_| !takes_back);
        for writer in 0..self.writers.len() {
            let told = heard.as_ref().and_then(|heard| heard[writer].clone());
            let Some(told) = told.filter(|_| self.wires[wire].shares[end].has(writer)) else {
                continue;
            };
            let wanted = told.and(&self.hosts[host].wants_now(writer, self.writers[writer].most()));
            let lacking = self.lacks(host, writer, &wanted);
            let offered = self.passes_on(other.host, writer, &told);
            if (offered && ours[writer].is_none()) || lacking > 0 {
                let stands = [end, 1 - end].map(|end| self.stands(wire, end)).join("\n");
                return Err(format!(
                    "{stands}\nhost {host} says that it is in sync on wire {wire} and lacks {lacking} of the {} blocks of writer {writer} that it wants of those the peer told it of",
                    wanted.count(),
                ));
            }
        }
        // Of a peer that takes but a part, nobody knows that it has just come to want more.
        let takes_all = self.hosts[other.host].kind.rules.mode == Mode::AcceptAll;
        let gone = self.hosts[other.host].running.is_none() || other.over;
        if !takes_all || gone {
            return Ok(());
        }
        let theirs = self.refresh(other.host)?;
        for writer in 0..self.writers.len() {
            let shared = self.wires[wire].shares.iter().all(|shares| shares.has(writer));
            let Some(ours) = ours[writer].clone().filter(|_| shared) else { continue };
            // Blocks that it gave up may be asked for again at any moment.
            let peer = &self.hosts[other.host];
            let fetched = peer.kind.rules.fetches(writer, self.writers[writer].most());
            let wanted = ours.and(&fetched.without(&peer.cleared[writer]));
            let lacking = self.lacks(other.host, writer, &wanted);
            if theirs[writer].is_some() && lacking > 0 {
                return Err(format!(
                    "host {host} says that it is in sync on wire {wire} and host {} lacks {lacking} of the {} blocks of writer {writer} that it wants",
                    other.host,
                    wanted.count(),
                ));
            }
        }
        Ok(())
    }

    /// Bytes on their way to the disk: what may be unstored, what was in flight then, and a local append.
    pub fn check_unwritten(&mut self, host: usize) -> Check {
        let config = self.hosts[host].kind.config.clone();
        let running = self.running(host)?;
        let in_flight = running.wires.len() * (config.max_window_bytes + 1024 * 1024);
        let limit = 2 * (config.max_unstored_bytes + in_flight) + 4 * 1024 * 1024;
        if running.disk.unwritten > limit {
            return Err(format!(
                "host {host} has {} bytes on their way to the disk, {limit} allowed",
                running.disk.unwritten
            ));
        }
        Ok(())
    }
}
