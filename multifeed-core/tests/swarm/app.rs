//! What the application of a host looks at: that nothing is lost when a node starts again, that its
//! writers go on where they were, that peers who call themselves in sync are.

use multifeed_core::{ConnectionId, FeedId, FeedInfo};

use super::host::Asked;
use super::wire::Held;
use super::world::{Check, Due, MULTIFEED, SECOND, World};

impl World {
    /// The multifeed of a host is open.
    pub fn joined(&mut self, host: usize, feeds: &[FeedInfo]) -> Check {
        let this = &mut self.hosts[host];
        this.before = std::mem::replace(&mut this.held, vec![0; self.writers.len()].into());
        for feed in feeds {
            self.hosts[host].keys.insert(feed.id, feed.key);
            if let Some(&writer) = self.by_key.get(&feed.key) {
                self.hosts[host].hold(writer, 1);
            }
            self.ask(host, Asked::Load(feed.id), |node| node.load(feed.id))?;
        }
        for writer in 0..self.writers.len() {
            if self.hosts[host].before[writer] > 1 && self.hosts[host].held[writer] == 0 {
                return Err(format!("host {host} has lost the feed of writer {writer}"));
            }
            if self.writers[writer].host == host {
                self.open_writer(writer)?;
            }
        }
        Ok(())
    }

    /// A feed that was there when the node started is open.
    pub fn loaded(&mut self, host: usize, feed: FeedId) -> Check {
        let Some(info) = self.running(host)?.node.feed(feed) else { return Ok(()) };
        let Some(&writer) = self.by_key.get(&info.key) else { return Ok(()) };
        let known = self.hosts[host].before[writer].saturating_sub(1);
        if info.blocks < known {
            return Err(format!(
                "host {host} has {} blocks of writer {writer} left of {known}",
                info.blocks
            ));
        }
        self.hosts[host].hold(writer, info.blocks + 1);
        Ok(())
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
        self.ask(host, Asked::Writer(writer), |node| node.writer(MULTIFEED, Some(&name), None))?;
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
        this.key = Some(info.key);
        let known = this.blocks.len() as u64;
        self.by_key.insert(info.key, writer);
        self.hosts[host].keys.insert(feed, info.key);
        self.hosts[host].hold(writer, info.blocks + 1);
        if info.length > known {
            let count = info.length - known;
            let ask = |node: &mut multifeed_core::Node| node.read(feed, known, count, usize::MAX);
            self.ask(host, Asked::Tail(writer, feed), ask)?;
            return Ok(());
        }
        self.writers[writer].found(info.length, Vec::new())?;
        self.writers[writer].feed = Some(feed);
        Ok(())
    }

    /// What a host holds by now.
    pub fn refresh(&mut self, host: usize) -> Held {
        if let Some(running) = &self.hosts[host].running {
            let feeds: Vec<FeedInfo> = running.node.feeds(MULTIFEED).collect();
            for feed in feeds {
                if let Some(&writer) = self.by_key.get(&feed.key) {
                    if self.hosts[host].held[writer] < feed.blocks + 1 {
                        self.hosts[host].hold(writer, feed.blocks + 1);
                    }
                }
            }
        }
        self.hosts[host].held.clone()
    }

    /// A host says that it is in sync with a peer: it has what the peer has told it of, and the peer
    /// has all that it has.
    pub fn in_sync(&mut self, host: usize, connection: ConnectionId) -> Check {
        self.counts.in_sync += 1;
        let Some(&(wire, end)) = self.running(host)?.wires.get(&connection) else {
            return Ok(());
        };
        let ours = self.refresh(host);
        let other = self.wires[wire].ends[1 - end];
        let heard = self.wires[wire].heard(end).cloned();
        // What could not be read when it was asked for is taken back.
        let takes_back =
            self.hosts[other.host].running.as_ref().is_none_or(|running| running.was_unreadable);
        let heard = heard.filter(|_| !takes_back);
        for writer in 0..self.writers.len() {
            if let Some(heard) = heard.as_ref().filter(|heard| heard[writer] > ours[writer]) {
                return Err(format!(
                    "host {host} says that it is in sync on wire {wire} and has {} of the {} blocks of writer {writer} that the peer told it of",
                    ours[writer].saturating_sub(1),
                    heard[writer] - 1,
                ));
            }
        }
        // A peer that is getting a block from somebody else shows no want of it here, so this does not
        // hold at all times.
        if !self.setup.strict || self.hosts[other.host].running.is_none() || other.over {
            return Ok(());
        }
        let theirs = self.refresh(other.host);
        for writer in 0..self.writers.len() {
            if theirs[writer] < ours[writer] && self.hosts[other.host].kind.policy.expects(writer) {
                return Err(format!(
                    "host {host} says that it is in sync on wire {wire} and host {} has {} of its {} blocks of writer {writer}",
                    other.host,
                    theirs[writer].saturating_sub(1),
                    ours[writer] - 1,
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
