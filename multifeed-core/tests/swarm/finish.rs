//! The end of a run: faults stop, all hosts come to hold the same, and rest.

use bytes::Bytes;
use multifeed_core::{Outcome, SyncState};

use super::disk::Speed;
use super::host::Asked;
use super::world::{Check, Due, MULTIFEED, SECOND, World};

/// Time in which all must have all: storage that failed is tried again after up to 80 seconds or so.
const CONVERGE: u64 = 400 * SECOND;
/// Bytes that a connection may move in a minute of rest: keepalives.
const REST: u64 = 64;

impl World {
    /// Ends all faults and waits until everybody has everything.
    pub fn converge(&mut self) -> Check<u64> {
        self.calm = true;
        self.note("faults end".into());
        for host in 0..self.hosts.len() {
            self.heal(host);
            if let Some(running) = &mut self.hosts[host].running {
                if running.disk.speed == Speed::Slow {
                    running.disk.speed = Speed::Fast;
                }
            }
        }
        for wire in &mut self.wires {
            wire.flow[0].cut_after = None;
            wire.flow[1].cut_after = None;
        }
        let start = self.now;
        while self.now < start + CONVERGE {
            for host in 0..self.hosts.len() {
                let down = self.hosts[host].running.is_none();
                if down {
                    self.plan(self.now, Due::Start { host });
                }
            }
            self.run_to(self.now + SECOND)?;
            if self.missing().is_none() && self.out_of_sync().is_none() {
                return Ok((self.now - start) / SECOND);
            }
        }
        for host in 0..self.hosts.len() {
            for line in self.standing(host) {
                self.note(line);
            }
        }
        let missing = self.missing().or_else(|| self.out_of_sync());
        Err(format!("after {} s: {}", CONVERGE / SECOND, missing.unwrap_or_default()))
    }

    /// Something that somebody should have and does not.
    fn missing(&mut self) -> Option<String> {
        for (at, writer) in self.writers.iter().enumerate() {
            if writer.feed.is_none() || !writer.pending.is_empty() {
                return Some(format!("writer {at} of host {} is not open", writer.host));
            }
        }
        for host in 0..self.hosts.len() {
            if !self.hosts[host].is_ready() {
                return Some(format!("host {host} is not open"));
            }
            let held = self.refresh(host);
            for (at, writer) in self.writers.iter().enumerate() {
                let wanted = writer.blocks.len() as u64 + 1;
                if held[at] < wanted && self.hosts[host].kind.policy.expects(at) {
                    let held = held[at].saturating_sub(1);
                    return Some(format!(
                        "host {host} has {held} of {} blocks of writer {at}",
                        wanted - 1
                    ));
                }
            }
        }
        None
    }

    /// How things stand on the connections of a host that are not in sync.
    fn standing(&mut self, host: usize) -> Vec<String> {
        let Some(running) = self.hosts[host].running.as_deref_mut() else { return Vec::new() };
        let mut lines = Vec::new();
        for (connection, (wire, end)) in &running.wires {
            let state = running.node.sync_state(*connection);
            if state != SyncState::InSync {
                let flow = &self.wires[*wire].flow;
                lines.push(format!(
                    "host {host} on wire {wire}: {state:?}; reads: {}, to send: {}, on the way there: {}, here: {}, unread: {}; sent {} received {}, counted {:?}; {:?}",
                    running.node.wants_read(*connection),
                    running.node.transmit(*connection).len(),
                    flow[*end].on_the_way,
                    flow[1 - *end].on_the_way,
                    flow[1 - *end].unread.len(),
                    flow[*end].sent,
                    flow[1 - *end].received,
                    running.node.counters(*connection),
                    self.wires[*wire].profile,
                ));
            }
        }
        lines
    }

    /// A connection that is not in sync.
    fn out_of_sync(&self) -> Option<String> {
        for (host, at) in self.hosts.iter().enumerate() {
            for (connection, (wire, _)) in &at.running.as_ref()?.wires {
                let state = at.running.as_ref()?.node.sync_state(*connection);
                if state != SyncState::InSync {
                    return Some(format!("host {host} on wire {wire}: {state:?}"));
                }
            }
        }
        None
    }

    /// Lets a minute pass in which nothing is to happen but keepalives.
    pub fn rest(&mut self) -> Check {
        let end = self.now + 60 * SECOND;
        self.run_to(end)?;
        let moved = |world: &Self| -> Vec<u64> {
            world.wires.iter().flat_map(|wire| [wire.flow[0].sent, wire.flow[1].sent]).collect()
        };
        let before = (moved(self), self.counts.in_sync, self.counts.connections);
        self.run_to(self.now + 60 * SECOND)?;
        let after = (moved(self), self.counts.in_sync, self.counts.connections);
        if (before.1, before.2) != (after.1, after.2) {
            return Err(format!("no rest: {before:?} became {after:?}"));
        }
        for (at, (before, after)) in before.0.iter().zip(&after.0).enumerate() {
            if after - before > REST {
                return Err(format!("wire {} moved {} bytes at rest", at / 2, after - before));
            }
        }
        Ok(())
    }

    /// Compares every block of every host with what was appended.
    pub fn compare(&mut self) -> Check {
        for host in 0..self.hosts.len() {
            self.running(host)?.disk.speed = Speed::Inline;
            for writer in 0..self.writers.len() {
                if !self.hosts[host].kind.policy.expects(writer) {
                    continue;
                }
                let key = self.writers[writer].key.ok_or("a writer without a key")?;
                let Some(feed) = self.running(host)?.node.find(&key) else {
                    return Err(format!("host {host} does not know writer {writer}"));
                };
                let wanted = self.writers[writer].blocks.clone();
                let blocks = self.read_all(host, feed, wanted.len() as u64)?;
                if let Some(at) = (0..wanted.len()).find(|at| blocks.get(*at) != wanted.get(*at)) {
                    let home = self.writers[writer].host;
                    return Err(format!(
                        "host {host} has another block {at} of writer {writer} of host {home}: {:?}, not {:?}; {} of {} blocks",
                        blocks.get(at).map(|block| block.slice(..block.len().min(20))),
                        wanted.get(at).map(|block| block.slice(..block.len().min(20))),
                        blocks.len(),
                        wanted.len(),
                    ));
                }
                let length = self.running(host)?.node.feed(feed).map_or(0, |feed| feed.length);
                if length != wanted.len() as u64 {
                    return Err(format!(
                        "host {host} has {length} blocks of writer {writer}, not {}",
                        wanted.len()
                    ));
                }
            }
        }
        Ok(())
    }

    fn read_all(
        &mut self,
        host: usize,
        feed: multifeed_core::FeedId,
        count: u64,
    ) -> Check<Vec<Bytes>> {
        let now = self.at();
        let running = self.running(host)?;
        let command = running.node.read(feed, 0, count, usize::MAX);
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

    /// Closes all nodes.
    pub fn close_all(&mut self) -> Check {
        for host in 0..self.hosts.len() {
            let close = self.hosts[host].is_ready();
            if close {
                self.close(host)?;
            }
        }
        self.run_to(self.now + 60 * SECOND)?;
        for (at, host) in self.hosts.iter().enumerate() {
            if let Some(running) = &host.running {
                let open = running.asked.values().any(|asked| matches!(asked, Asked::Close));
                return Err(format!("host {at} does not close: {open}, {:?}", MULTIFEED));
            }
        }
        Ok(())
    }
}
