//! What the application of a host decides: which feeds are shared with whom, and when it says so.

use multifeed_core::{ConnectionId, Decision, NodeError, Question, QuestionId};
use multifeed_proto::FeedKey;

use super::policy::Mode;
use super::world::{Check, Due, MULTIFEED, SECOND, World};

impl World {
    /// The key of a writer is known to its own application, and gets around to those with lists.
    pub fn publish(&mut self, writer: usize) {
        for host in 0..self.hosts.len() {
            let rules = &self.hosts[host].kind.rules;
            if rules.mode == Mode::AllowList && rules.accepts(writer) {
                let own = self.writers[writer].host == host;
                let after = if own { 0 } else { self.rng.magnitude(23) };
                self.plan(self.now + after, Due::Learn { host, writer });
            }
        }
    }

    /// An application with a list learns of a key.
    pub fn learn(&mut self, host: usize, writer: usize) -> Check {
        let Some(key) = self.writers[writer].key else { return Ok(()) };
        let this = &mut self.hosts[host];
        this.known.insert(writer, key);
        let Some(running) = &this.running else { return Ok(()) };
        let (life, wires) = (this.life, running.wires.keys().copied().collect::<Vec<_>>());
        for connection in wires {
            self.allow(host, life, connection, writer)?;
        }
        Ok(())
    }

    /// The handshake of a connection is over: what was learned since it was made can be allowed.
    pub fn ready(&mut self, host: usize, connection: ConnectionId) -> Check {
        let this = &self.hosts[host];
        if this.kind.rules.mode != Mode::AllowList {
            return Ok(());
        }
        let (life, known) = (this.life, this.known.keys().copied().collect::<Vec<_>>());
        let Some(&(wire, end)) = self.running(host)?.wires.get(&connection) else { return Ok(()) };
        for writer in known {
            if !self.wires[wire].shares[end].has(writer) {
                self.plan(self.now, Due::Allow { host, life, connection, writer });
            }
        }
        Ok(())
    }

    /// Allows a feed on one connection.
    pub fn allow(
        &mut self,
        host: usize,
        life: u32,
        connection: ConnectionId,
        writer: usize,
    ) -> Check {
        let (now, key) = (self.at(), self.writers[writer].key);
        let fetch = self.hosts[host].kind.rules.rule(writer).map(|rule| rule.fetch.clone());
        let (Some(key), Some(fetch)) = (key, fetch) else { return Ok(()) };
        if self.running_in(host, life).is_none() {
            return Ok(());
        }
        self.hosts[host].decided.insert(writer);
        let running = self.running(host)?;
        let Some(&(wire, end)) = running.wires.get(&connection) else { return Ok(()) };
        match running.node.allow(now, connection, MULTIFEED, &[(key, fetch)]) {
            Ok(()) => {
                running.changed = true;
                self.wires[wire].shares[end].allow(writer);
                self.counts.allowed += 1;
                self.note(format!("host {host} allows writer {writer} on wire {wire}"));
            }
            // Not yet, or the peer is done with it.
            Err(NodeError::UnknownMultifeed) => {}
            Err(error) => return Err(format!("host {host}: allow on wire {wire}: {error}")),
        }
        self.drain(host)
    }

    /// The application is asked. It takes its time, and may forget it.
    pub fn question(&mut self, host: usize, question: Question) -> Check {
        self.counts.questions += 1;
        let Question { id, connection, decision, keys, .. } = question;
        let life = self.hosts[host].life;
        let Some(&(wire, end)) = self.running(host)?.wires.get(&connection) else {
            return Err(format!("host {host}: {id:?} is about a connection that is over"));
        };
        if self.hosts[host].kind.rules.mode != Mode::Ask || keys.is_empty() {
            return Err(format!("host {host}: {id:?} about {keys:?} asks for nothing"));
        }
        for key in keys {
            if !self.wires[wire].shares[end].ask(decision, key) {
                return Err(format!("host {host} was asked {decision:?} twice on wire {wire}"));
            }
        }
        if self.calm || self.rng.chance(90) {
            let at = self.now + self.rng.magnitude(22);
            self.plan(at, Due::Answer { host, life, question: id });
        } else {
            self.counts.forgotten += 1;
        }
        Ok(())
    }

    /// Comes back to the questions that nobody answered.
    pub fn remember(&mut self) {
        for host in 0..self.hosts.len() {
            let Some(running) = self.hosts[host].running.as_deref() else { continue };
            let of = |connection: &ConnectionId| running.node.questions(*connection);
            let open: Vec<QuestionId> =
                running.wires.keys().flat_map(of).map(|question| question.id).collect();
            let life = self.hosts[host].life;
            for question in open {
                let at = self.now + self.rng.magnitude(22);
                self.plan(at, Due::Answer { host, life, question });
            }
        }
    }

    /// Answers a question, as the rules of the host say.
    pub fn answer(&mut self, host: usize, life: u32, id: QuestionId) -> Check {
        let now = self.at();
        let Some(running) = self.running_in(host, life) else { return Ok(()) };
        let mut open = running.wires.keys().flat_map(|id| running.node.questions(*id));
        let Some(question) = open.find(|question| question.id == id).cloned() else {
            drop(open);
            return match running.node.answer(now, id, &[]) {
                Err(NodeError::UnknownQuestion) => Ok(()),
                other => Err(format!("host {host}: {id:?} is over, and answered: {other:?}")),
            };
        };
        drop(open);
        let Question { connection, decision, keys, .. } = question;
        let writers: Option<Vec<(usize, FeedKey)>> =
            keys.iter().map(|key| Some((*self.by_key.get(key)?, *key))).collect();
        let Some(writers) = writers else {
            // Whose it is has not got around.
            self.plan(self.now + SECOND, Due::Answer { host, life, question: id });
            return Ok(());
        };
        let (mut allowed, mut named) = (Vec::new(), Vec::new());
        for (writer, key) in writers {
            let this = &self.hosts[host];
            let rule = this.kind.rules.rule(writer).cloned();
            let late = rule.as_ref().is_some_and(|rule| rule.late);
            match rule {
                Some(rule) if rule.quiet && decision == Decision::Offer => self.counts.denied += 1,
                Some(_) if late && !this.decided.contains(&writer) => {
                    self.counts.denied += 1;
                    let at = self.now + self.rng.magnitude(22);
                    self.plan(at, Due::Allow { host, life, connection, writer });
                }
                Some(rule) => {
                    allowed.push((key, rule.fetch));
                    named.push(writer);
                }
                None => self.counts.denied += 1,
            }
        }
        // A key that the question did not name is refused all the same.
        let others = self.by_key.iter().filter(|(key, writer)| {
            !keys.contains(key) && !self.hosts[host].kind.rules.accepts(**writer)
        });
        if let Some((key, _)) = others.take(1).next() {
            allowed.push((*key, multifeed_core::Fetch::All));
        }
        self.counts.answers += 1;
        self.note(format!("host {host} answers {id:?}, {decision:?}: writers {named:?}"));
        let running = self.running(host)?;
        running.changed = true;
        let Some(&(wire, end)) = running.wires.get(&connection) else {
            return Err(format!("host {host}: {id:?} is about a connection that is over"));
        };
        running
            .node
            .answer(now, id, &allowed)
            .map_err(|error| format!("host {host}: {id:?} is open: {error}"))?;
        for writer in named {
            if let Some(key) = self.writers[writer].key {
                self.wires[wire].shares[end].answer(writer, key, decision);
            }
        }
        self.drain(host)
    }
}
