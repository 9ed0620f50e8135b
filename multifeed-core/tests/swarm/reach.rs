//! Who must come to have what: what gets from each writer's host to the others, along the edges, as far
//! as the hosts between them take it and pass it on.

use super::blocks::Blocks;
use super::world::World;

/// For each host and writer what it must have; `None`: it must not come to know the feed.
pub type Reach = Vec<Vec<Option<Blocks>>>;

impl World {
    pub fn reach(&self) -> Reach {
        let mut reach: Reach = vec![vec![None; self.writers.len()]; self.hosts.len()];
        for (at, writer) in self.writers.iter().enumerate() {
            reach[writer.host][at] = Some(Blocks::of(0..writer.blocks.len() as u64));
        }
        loop {
            let mut changed = false;
            for edge in &self.edges {
                if edge.hosts.into_iter().any(|host| self.is_hostile(host)) {
                    continue;
                }
                for writer in 0..self.writers.len() {
                    let [a, b] = edge.hosts;
                    let knows = [a, b].map(|host| {
                        let blocks = reach[host][writer].as_ref();
                        blocks.is_some_and(|blocks| self.passes_on(host, writer, blocks))
                    });
                    if self.agree([a, b], knows, writer) {
                        changed |= self.pass(&mut reach, a, b, writer);
                        changed |= self.pass(&mut reach, b, a, writer);
                    }
                }
            }
            if !changed {
                return reach;
            }
        }
    }

    /// Whether a host that knows a writer's feed tells others of it: with the first block, but for its own.
    pub fn passes_on(&self, host: usize, writer: usize, blocks: &Blocks) -> bool {
        !blocks.is_empty() || self.writers[writer].host == host
    }

    /// Whether two hosts, of whom these know a writer's feed, come to share it: one offers it, and the other
    /// takes it.
    pub fn agree(&self, hosts: [usize; 2], knows: [bool; 2], writer: usize) -> bool {
        let [a, b] = hosts.map(|host| &self.hosts[host].kind.rules);
        knows[0] && a.offers(writer) && b.accepts(writer)
            || knows[1] && b.offers(writer) && a.accepts(writer)
    }

    fn pass(&self, reach: &mut Reach, from: usize, to: usize, writer: usize) -> bool {
        let length = self.writers[writer].blocks.len() as u64;
        let wanted = self.hosts[to].wants(writer, length);
        let got = reach[from][writer].as_ref().map(|blocks| blocks.and(&wanted));
        let new = reach[to][writer].is_none();
        let there = reach[to][writer].get_or_insert_default();
        let got = got.unwrap_or_default().without(there);
        there.add(&got);
        new || !got.is_empty()
    }
}
