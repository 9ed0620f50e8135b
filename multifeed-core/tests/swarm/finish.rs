//! The end of a run: faults stop, all hosts come to hold the same, and rest.

use multifeed_core::{ConnectionId, SyncState};

use super::blocks::Blocks;
use super::disk::Speed;
use super::host::Asked;
use super::wire::End;
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
        self.remember();
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
            if self.missing()?.is_none() && self.out_of_sync().is_none() {
                return Ok((self.now - start) / SECOND);
            }
        }
        for host in 0..self.hosts.len() {
            for line in self.standing(host) {
                self.note(line);
            }
        }
        let missing = self.missing()?.or_else(|| self.out_of_sync());
        Err(format!("after {} s: {}", CONVERGE / SECOND, missing.unwrap_or_default()))
    }

    /// Something that somebody should have and does not.
    fn missing(&mut self) -> Check<Option<String>> {
        for (at, writer) in self.writers.iter().enumerate() {
            if writer.feed.is_none() || !writer.pending.is_empty() {
                return Ok(Some(format!("writer {at} of host {} is not open", writer.host)));
            }
        }
        for (host, this) in self.hosts.iter().enumerate() {
            if self.is_hostile(host) {
                continue;
            }
            for asked in this.running.iter().flat_map(|running| running.asked.values()) {
                let due = match asked {
                    Asked::Wish(writer, start, end) => {
                        let there = this.blocks(*writer);
                        (*start..*end).all(|block| there.contains(block))
                    }
                    Asked::Clear(..) | Asked::Look(..) => true,
                    _ => false,
                };
                if due {
                    return Ok(Some(format!("host {host} waits for an answer to {asked:?}")));
                }
            }
            if let Some(clear) = this.clears.first() {
                return Ok(Some(format!("host {host} has not given up {clear:?}")));
            }
        }
        let mut first = None;
        for (host, due) in self.reach().into_iter().enumerate() {
            if self.is_hostile(host) {
                continue;
            }
            if !self.hosts[host].is_ready() {
                return Ok(Some(format!("host {host} is not open")));
            }
            let held = self.refresh(host)?;
            self.recount(host);
            for (writer, must) in due.into_iter().enumerate() {
                let Some(must) = must else { continue };
                let lacking = must.without(&self.hosts[host].blocks(writer));
                if held[writer].is_some() && lacking.is_empty() {
                    continue;
                }
                // Rather where a peer has it than where others come first.
                let near = self.edges.iter().any(|edge| {
                    edge.hosts.contains(&host)
                        && edge.hosts.iter().any(|at| {
                            let there = self.hosts[*at].blocks(writer);
                            !there.and(&lacking).is_empty()
                        })
                });
                if first.is_none() || near {
                    first = Some((host, writer, must, lacking));
                }
                if near {
                    break;
                }
            }
        }
        Ok(first.map(|(host, writer, must, lacking)| {
            format!(
                "host {host} lacks {} of the {} blocks of writer {writer} that it wants and can get:\n{}",
                lacking.count(),
                must.count(),
                self.around(host, writer, &lacking).join("\n"),
            )
        }))
    }

    /// Looks into the feeds that hold more than their host was told: what an operation wrote that failed.
    fn recount(&mut self, host: usize) {
        let this = &self.hosts[host];
        let Some(running) = this.running.as_deref() else { return };
        let more = |writer: &usize| {
            let feed = running.node.find(&self.writers[*writer].key?)?;
            let stored = running.node.feed(feed)?.blocks;
            (stored > this.blocks(*writer).count()).then_some(feed)
        };
        let feeds: Vec<_> = (0..self.writers.len()).filter_map(|writer| more(&writer)).collect();
        for feed in feeds {
            self.plan(self.now, Due::Load { host, life: self.hosts[host].life, feed });
        }
    }

    /// Who has what a host lacks of a writer's feed, and what the two say of it.
    fn around(&self, host: usize, writer: usize, lacking: &Blocks) -> Vec<String> {
        let here = &self.hosts[host];
        let mut lines =
            vec![format!("{:?}; {:?}", here.kind.rules.mode, here.kind.rules.rule(writer))];
        for (at, wire) in self.wires.iter().enumerate() {
            let Some(end) = wire.ends.iter().position(|end| end.host == host && !end.over) else {
                continue;
            };
            let other = wire.ends[1 - end].host;
            let there = &self.hosts[other];
            let peers = [(here, end), (there, 1 - end)].map(|(side, end)| {
                let node = &side.running.as_ref()?.node;
                let feed = node.find(&self.writers[writer].key?)?;
                node.peers(feed).find(|peer| peer.connection == wire.ends[end].connection)
            });
            lines.push(format!(
                "wire {at} (cut: {}) to host {other}, which has {} of them and whose rules are {:?}, {:?}: here {:?}, there {:?}",
                wire.cut,
                there.blocks(writer).and(lacking).count(),
                there.kind.rules.mode,
                there.kind.rules.rule(writer),
                peers[0],
                peers[1],
            ));
        }
        lines
    }

    /// How things stand on the connections of a host that are not in sync.
    fn standing(&mut self, host: usize) -> Vec<String> {
        let Some(running) = self.hosts[host].running.as_deref() else { return Vec::new() };
        let open = |(connection, at): (&ConnectionId, &(usize, usize))| {
            (running.node.sync_state(*connection) != SyncState::InSync).then_some(*at)
        };
        let open: Vec<(usize, usize)> = running.wires.iter().filter_map(open).collect();
        open.into_iter().map(|(wire, end)| self.stands(wire, end)).collect()
    }

    /// How things stand at one end of a wire.
    pub fn stands(&mut self, wire: usize, end: usize) -> String {
        let Self { hosts, wires, .. } = self;
        let (End { host, connection, .. }, flow) = (wires[wire].ends[end], &wires[wire].flow);
        let Some(running) = hosts[host].running.as_deref_mut() else { return String::new() };
        format!(
            "host {host} on wire {wire}: {:?}; reads: {}, to send: {}, on the way there: {}, here: {}, unread: {}; sent {} received {}, counted {:?}; {:?}",
            running.node.sync_state(connection),
            running.node.wants_read(connection),
            running.node.transmit(connection).len(),
            flow[end].on_the_way,
            flow[1 - end].on_the_way,
            flow[1 - end].unread.len(),
            flow[end].sent,
            flow[1 - end].received,
            running.node.counters(connection),
            wires[wire].profile,
        )
    }

    /// A connection that is not in sync.
    fn out_of_sync(&self) -> Option<String> {
        for (host, at) in self.hosts.iter().enumerate() {
            if self.is_hostile(host) {
                continue;
            }
            for (connection, (wire, _)) in &at.running.as_ref()?.wires {
                if self.is_hostile_wire(*wire) {
                    continue;
                }
                let state = at.running.as_ref()?.node.sync_state(*connection);
                if state != SyncState::InSync {
                    let others = self.wires[*wire].ends.iter().find(|end| end.host != host);
                    let rules = others.map(|end| (end.host, &self.hosts[end.host].kind.rules));
                    return Some(format!("host {host} on wire {wire}: {state:?}; to {rules:?}"));
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
