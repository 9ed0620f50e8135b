//! What goes wrong: streams that break or fall silent, crashes, restarts, disks that fill up.

use super::disk::Speed;
use super::world::{Check, Due, MILLI, SECOND, World};

impl World {
    /// One mishap, and the plan for the next.
    pub fn chaos(&mut self) -> Check {
        if self.calm {
            return Ok(());
        }
        let every = self.setup.pace * 60 * SECOND / (4 * self.hosts.len() as u64 + 10);
        let at = self.now + self.rng.within(every / 2..every * 3 / 2);
        self.plan(at, Due::Chaos);
        if self.setup.failing > 0 && self.rng.chance(25) {
            let host = self.rng.index(self.setup.failing);
            self.fault(host, self.setup.pace);
            return Ok(());
        }
        let host = self.rng.index(self.hosts.len());
        match self.rng.within(0..100) {
            0..=44 => match self.live_wire() {
                Some(wire) => self.cut(wire),
                None => Ok(()),
            },
            45..=59 => {
                self.crash(host);
                Ok(())
            }
            60..=69 => self.restart(host),
            70..=84 => {
                self.fault(host, 1);
                Ok(())
            }
            _ => {
                let speed = self.rng.pick(&[Speed::Fast, Speed::Slow]);
                if let Some(running) = &mut self.hosts[host].running {
                    if running.disk.is_idle() || running.disk.speed != Speed::Inline {
                        running.disk.speed = speed;
                    }
                }
                Ok(())
            }
        }
    }

    fn live_wire(&mut self) -> Option<usize> {
        let live = |(_, wire): &(usize, &super::wire::Wire)| !wire.cut && !wire.is_over();
        let live: Vec<usize> =
            self.wires.iter().enumerate().filter(live).map(|(at, _)| at).collect();
        (!live.is_empty()).then(|| self.rng.pick(&live))
    }

    /// Nothing gets through any more. An end learns of it soon, or not at all.
    pub fn cut(&mut self, wire: usize) -> Check {
        if std::mem::replace(&mut self.wires[wire].cut, true) {
            return Ok(());
        }
        self.counts.cuts += 1;
        self.note(format!("wire {wire} is cut"));
        for end in 0..2 {
            self.wires[wire].flow[end].packets.clear();
            if self.rng.chance(80) {
                let at = self.now + self.rng.magnitude(21);
                self.plan(at, Due::Break { wire, end });
            }
        }
        self.plan_connection(self.wires[wire].edge);
        Ok(())
    }

    /// The node of a host is gone, and with it its ends of all wires.
    pub fn gone(&mut self, host: usize) {
        for wire in 0..self.wires.len() {
            for end in 0..2 {
                let at = self.wires[wire].ends[end];
                if at.host != host || at.over {
                    continue;
                }
                self.wires[wire].ends[end].over = true;
                if !self.wires[wire].cut && !self.wires[wire].is_over() {
                    self.wires[wire].cut = true;
                    if self.rng.chance(85) {
                        let at = self.now + self.wires[wire].profile.latency;
                        self.plan(at, Due::Break { wire, end: 1 - end });
                    }
                    self.plan_connection(self.wires[wire].edge);
                }
            }
        }
        for writer in &mut self.writers {
            if writer.host == host {
                writer.stopped();
            }
        }
    }

    fn crash(&mut self, host: usize) {
        let durability = self.hosts[host].kind.config.durability;
        let Some(running) = self.hosts[host].running.take() else { return };
        self.counts.crashes += 1;
        self.note(format!("host {host} crashes"));
        self.hosts[host].memory = running.disk.crash(durability, &mut self.rng);
        self.gone(host);
        let at = self.now + self.rng.within(10 * MILLI..8 * SECOND);
        self.plan(at, Due::Start { host });
    }

    /// Ends a node in order and starts it again.
    fn restart(&mut self, host: usize) -> Check {
        if !self.hosts[host].is_ready() {
            return Ok(());
        }
        self.counts.restarts += 1;
        self.note(format!("host {host} restarts"));
        self.close(host)
    }

    pub fn close(&mut self, host: usize) -> Check {
        self.ask(host, super::host::Asked::Close, |node, now| node.close(now))?;
        self.running(host)?.closing = true;
        self.drain(host)
    }

    /// A node has closed, or failed to open.
    pub fn stop(&mut self, host: usize) {
        let Some(running) = self.hosts[host].running.take() else { return };
        self.note(format!("host {host} has stopped"));
        self.hosts[host].memory = running.disk.close();
        self.gone(host);
        if !self.calm {
            let at = self.now + self.rng.within(10 * MILLI..5 * SECOND);
            self.plan(at, Due::Start { host });
        }
    }

    fn fault(&mut self, host: usize, times: u64) {
        let Some(running) = &mut self.hosts[host].running else { return };
        self.counts.faults += 1;
        if self.rng.chance(75) {
            running.disk.fill(self.rng.within(0..40));
        } else {
            running.disk.unreadable = true;
            running.was_unreadable = true;
        }
        self.note(format!("the disk of host {host} fails"));
        let at = self.now + times * self.rng.within(100 * MILLI..12 * SECOND);
        self.plan(at, Due::Heal { host });
    }

    pub fn heal(&mut self, host: usize) {
        if let Some(running) = &mut self.hosts[host].running {
            running.disk.heal();
        }
    }
}
