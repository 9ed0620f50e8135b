//! How bytes get from one node to another: connections are made, move, break, and end.

use std::hash::Hash;

use multifeed_core::{ConnectOptions, ConnectionId};
use multifeed_proto::{PeerError, Role};

use super::host::Host;
use super::policy::Shares;
use super::wire::{End, Profile, Wire};
use super::world::{Check, Due, MILLI, World};

impl World {
    /// A connection of a host is over.
    pub fn ended(
        &mut self,
        host: usize,
        connection: ConnectionId,
        error: Option<PeerError>,
        unsent: &[u8],
    ) -> Check {
        let Some((wire, end)) = self.running(host)?.wires.remove(&connection) else {
            return Err(format!("host {host}: a connection that is not known was closed"));
        };
        // Only a stream that broke excuses a peer, or its host that closes.
        let other = self.wires[wire].ends[1 - end];
        let broken = self.wires[wire].cut || other.over;
        let closing = self.hosts[other.host].running.as_ref().is_none_or(|other| other.closing);
        match error {
            None => {}
            Some(_) if self.is_hostile_wire(wire) => {}
            Some(
                PeerError::Silent
                | PeerError::Truncated
                | PeerError::HandshakeTimeout
                | PeerError::NothingCame
                | PeerError::MultifeedTimeout,
            ) if broken => {}
            Some(PeerError::Left { .. }) if broken || closing => {}
            Some(error) => {
                return Err(format!(
                    "host {host}: wire {wire}: the peer is said to be wrong: {error}\n{}\n{}",
                    self.stands(wire, end),
                    self.stands(wire, 1 - end),
                ));
            }
        }
        let now = self.now;
        let this = &mut self.wires[wire];
        this.ends[end].over = true;
        if !this.cut
            && this.room(end) >= unsent.len()
            && !unsent.is_empty()
            && !this.flow[end].ended
        {
            let at = this.send(end, now, unsent);
            self.plan(at, Due::Arrive { wire, from: end });
        }
        self.end_stream(wire, end);
        let edge = self.wires[wire].edge;
        self.plan_connection(edge);
        Ok(())
    }

    pub fn end_stream(&mut self, wire: usize, end: usize) {
        if let Some(at) = self.wires[wire].end(end, self.now) {
            self.plan(at, Due::Arrive { wire, from: end });
        }
    }

    /// Plans a connection between two hosts that have none.
    pub fn plan_connection(&mut self, edge: usize) {
        let hosts = self.edges[edge].hosts;
        if self.dismissed && hosts.into_iter().any(|host| self.is_hostile(host)) {
            return;
        }
        if !std::mem::replace(&mut self.edges[edge].planned, true) {
            let at = self.now + 5 * MILLI + self.rng.magnitude(22);
            self.plan(at, Due::Connect { edge });
        }
    }

    pub fn connect(&mut self, edge: usize) -> Check {
        self.edges[edge].planned = false;
        let mut hosts = self.edges[edge].hosts;
        if self.dismissed && hosts.into_iter().any(|host| self.is_hostile(host)) {
            return Ok(());
        }
        let live = self
            .wires
            .iter()
            .any(|wire| wire.edge == edge && !wire.cut && wire.ends.iter().all(|end| !end.over));
        if live && (self.calm || !self.rng.chance(5)) {
            return Ok(());
        }
        if !hosts.iter().all(|host| self.hosts[*host].is_ready()) {
            self.plan_connection(edge);
            return Ok(());
        }
        self.rng.shuffle(&mut hosts);
        let (now, wire) = (self.at(), self.wires.len());
        let (mut ends, mut shares) = (Vec::new(), Vec::new());
        for (end, role) in [Role::Initiator, Role::Responder].into_iter().enumerate() {
            let host = hosts[end];
            let (rules, known) = (&self.hosts[host].kind.rules, &self.hosts[host].known);
            let options = ConnectOptions { policy: rules.policy(known), ..Default::default() };
            shares.push(Shares::new(rules, known));
            let running = self.running(host)?;
            let Some(connection) = running.node.connect_with(now, role, options) else {
                return Err(format!("host {host} is ready and makes no connection"));
            };
            running.wires.insert(connection, (wire, end));
            running.changed = true;
            ends.push(End { host, connection, over: false });
        }
        self.note(format!("wire {wire} joins {} and {}", hosts[0], hosts[1]));
        let profile = Profile::draw(&mut self.rng);
        let (Some(theirs), Some(ours)) = (shares.pop(), shares.pop()) else { return Ok(()) };
        let mut made = Wire::new(edge, [ends[0], ends[1]], [ours, theirs], profile);
        if !self.calm && self.rng.chance(15) {
            made.flow[self.rng.index(2)].cut_after = Some(self.rng.magnitude(16));
        }
        self.wires.push(made);
        self.counts.connections += 1;
        self.drain(hosts[0])?;
        self.drain(hosts[1])
    }

    /// Moves what a node has for a peer into the socket.
    pub fn flush(&mut self, host: usize, connection: ConnectionId) -> Check {
        self.worked(host)?;
        let Some(&(wire, end)) = self.running(host)?.wires.get(&connection) else { return Ok(()) };
        let (at, now) = (self.at(), self.now);
        // Blocks stop at the limit; the last one, and control messages, may go beyond it.
        let limit = self.hosts[host].kind.config.max_outbox_bytes + 1024 * 1024;
        let Some(running) = self.hosts[host].running.as_deref_mut() else { return Ok(()) };
        let this = &mut self.wires[wire];
        let bytes = running.node.transmit(connection);
        if bytes.len() > limit {
            return Err(format!(
                "host {host} has {} bytes for one peer, {limit} allowed",
                bytes.len()
            ));
        }
        let room = if this.cut { bytes.len() } else { this.room(end) };
        let count = bytes.len().min(room);
        if count > 0 {
            let mut bytes = bytes[..count].to_vec();
            (host, connection, &bytes[..]).hash(&mut self.trace);
            running.node.transmitted(at, connection, count);
            self.spoil(wire, end, &mut bytes);
            // Into nothing, if it is cut: TCP takes it, too, for a while.
            let this = &mut self.wires[wire];
            let due = (!this.cut).then(|| this.send(end, now, &bytes));
            if let Some(due) = due {
                self.plan(due, Due::Arrive { wire, from: end });
            }
        }
        let Some(running) = self.hosts[host].running.as_deref_mut() else { return Ok(()) };
        let done = running.node.transmit(connection).is_empty();
        if done && running.node.is_shut_down(connection) {
            self.end_stream(wire, end);
        }
        self.plan_read(wire, 1 - end);
        Ok(())
    }

    /// Plans to read what `from` has sent, if the other end wants to.
    pub fn plan_read(&mut self, wire: usize, from: usize) {
        let this = &mut self.wires[wire];
        let to = this.ends[1 - from];
        let flow = &mut this.flow[from];
        let some = !flow.unread.is_empty() || flow.end_arrived && !flow.end_told;
        if flow.reading || this.cut || to.over || !some {
            return;
        }
        let running = self.hosts[to.host].running.as_deref();
        if running.is_some_and(|running| running.node.wants_read(to.connection)) {
            flow.reading = true;
            let at = self.now + self.rng.within(0..20);
            self.plan(at, Due::Read { wire, from });
        }
    }

    pub fn read(&mut self, wire: usize, from: usize) -> Check {
        let now = self.at();
        let this = &mut self.wires[wire];
        this.flow[from].reading = false;
        let to = this.ends[1 - from];
        if this.cut || to.over {
            return Ok(());
        }
        let running = self.hosts[to.host].running.as_deref_mut();
        let Some(running) = running.filter(|running| running.node.wants_read(to.connection)) else {
            return Ok(());
        };
        let bytes = this.read(from, &mut self.rng);
        if !bytes.is_empty() {
            running.node.handle_bytes(now, to.connection, &bytes);
        } else if this.flow[from].end_arrived && !this.flow[from].end_told {
            this.flow[from].end_told = true;
            running.node.handle_eof(now, to.connection);
        }
        self.worked(to.host)?;
        self.drain(to.host)?;
        if self.wires[wire].is_due(from) {
            return self.cut(wire);
        }
        // There is room in the sender's socket.
        let End { host, connection, over } = self.wires[wire].ends[from];
        if !over && self.hosts[host].running.is_some() {
            self.flush(host, connection)?;
            self.drain(host)?;
        }
        self.plan_read(wire, from);
        Ok(())
    }

    pub fn break_end(&mut self, wire: usize, end: usize) -> Check {
        let now = self.at();
        let End { host, connection, over } = self.wires[wire].ends[end];
        if over || self.hosts[host].running.is_none() {
            return Ok(());
        }
        self.running(host)?.node.abort(now, connection);
        self.drain(host)
    }

    /// Notes for each wire what a host has told its peers by now.
    pub fn tell(&mut self, host: usize) {
        let Host { running, held, .. } = &mut self.hosts[host];
        let Some(running) = running else { return };
        if !std::mem::take(&mut running.changed) {
            return;
        }
        for (connection, (wire, end)) in &running.wires {
            // A side that is shut down says no more.
            if self.wires[*wire].cut || running.node.is_shut_down(*connection) {
                continue;
            }
            let queued = running.node.transmit(*connection).len();
            self.wires[*wire].tell(*end, queued, held);
        }
    }
}
