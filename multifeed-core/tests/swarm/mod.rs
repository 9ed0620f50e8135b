//! A swarm of nodes under a virtual clock: no time, no thread, no I/O, everything drawn from one seed.
//!
//! | file | what is in it |
//! |---|---|
//! | `world`, `due` | hosts and wires under one clock; what is planned |
//! | `news` | what each node asks for and tells |
//! | `moves` | how bytes get from one node to another |
//! | `host`, `disk` | one node with its store: slow, full, crashed |
//! | `wire` | one connection: latency, bandwidth, chunks |
//! | `chaos` | what goes wrong, and when |
//! | `writer`, `blocks` | what was appended: the truth; who has which blocks |
//! | `policy` | what a host takes from its peers, drawn once |
//! | `asks` | what its application decides, and when it says so |
//! | `whims` | blocks that it asks for besides, and that it gives up |
//! | `app` | what must hold all the time |
//! | `reach` | what each host must come to have |
//! | `hostile` | hosts that send damaged bytes |
//! | `finish`, `compare` | what must hold in the end |
//!
//! A run: the hosts are joined to a random connected graph whose wires break and are made again; writers
//! append all the time; hosts crash, restart, and have bad disks. Half of the hosts take everything; a
//! quarter has a list, to which feeds are added as their keys get around; a quarter is asked, and answers
//! late, in part, or not at all. Of a feed they take all blocks, the newest, ranges, or only those that the
//! application asks for. Applications wait for blocks, download ranges and clear blocks.
//!
//! Then the faults end, and every host must come to hold every block that it takes and that a path of hosts
//! passes on to it, and must rest. None may ever come to know a feed that it refuses, to get a block that it
//! does not take, or to get one again that it gave up; every answer that is due must have come.
//!
//! Not simulated: connections that are not live, switched-off directions, several multifeeds in one store,
//! peers that break the rules, feeds that are blocked, seeks, updates, and JavaScript peers.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, missing_docs, unreachable_pub)]

mod app;
mod asks;
mod blocks;
mod chaos;
mod compare;
mod disk;
mod due;
mod finish;
mod host;
mod hostile;
mod moves;
mod news;
mod policy;
mod reach;
mod rng;
mod whims;
mod wire;
mod world;
mod writer;

pub use world::Counts;

use host::{Host, Kind};
use world::{Check, Due, Edge, MILLI, SECOND, World};
use writer::Writer;

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    pub seed: u64,
    pub nodes: usize,
    /// Virtual seconds with faults.
    pub seconds: u64,
    /// All that is drawn happens so many times more seldom: 1 for short runs.
    pub pace: u64,
    /// The last so many hosts send damaged bytes.
    pub hostile: usize,
    /// The disks of the first so many hosts fail again and again, for long.
    pub failing: usize,
    /// Print what happens.
    pub verbose: bool,
}

/// A run that went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Two runs share it only if all outputs are the same.
    pub trace: u64,
    /// Virtual seconds from the end of the faults until all had all.
    pub converged: u64,
    pub counts: Counts,
}

/// Runs one swarm.
///
/// # Errors
///
/// What went wrong, the last things that happened, and how to run it again.
pub fn run(setup: Setup) -> Result<Report, String> {
    let guard = Guard(setup);
    let mut world = build(setup);
    let result = play(&mut world);
    std::mem::forget(guard);
    result.map_err(|problem| {
        let recent: Vec<_> = world.recent.iter().map(String::as_str).collect();
        format!("{}\n\n{}\n{problem}", recent.join("\n"), again(setup))
    })
}

fn play(world: &mut World) -> Check<Report> {
    world.run_to((1 + world.setup.seconds) * SECOND)?;
    let converged = world.converge()?;
    world.dismiss_hostile()?;
    world.rest()?;
    world.compare()?;
    world.close_all()?;
    Ok(Report { trace: world.trace_hash(), converged, counts: world.counts })
}

/// Says which run it was when a node panics.
struct Guard(Setup);

impl Drop for Guard {
    fn drop(&mut self) {
        eprintln!("{}", again(self.0));
    }
}

fn again(setup: Setup) -> String {
    let Setup { seed, nodes, seconds, pace, hostile, failing, .. } = setup;
    format!(
        "swarm with seed {seed} failed; again: cargo run --release -p multifeed-core --example swarm -- --seed {seed} --nodes {nodes} --seconds {seconds} --pace {pace} --hostile {hostile} --failing {failing} --trace"
    )
}

fn build(setup: Setup) -> World {
    let mut world = World::empty(setup);
    let writers = 2 + world.rng.index(5).min(setup.nodes);
    // The first half speaks any dialect, so that the graph can be joined.
    for at in 0..setup.nodes {
        let kind = Kind::draw(&mut world.rng, at < setup.nodes.div_ceil(2), writers);
        world.hosts.push(Host::new(kind, writers));
    }
    for at in 0..writers {
        let host = world.rng.index(setup.nodes - setup.hostile);
        world.hosts[host].kind.rules.own(at);
        world.writers.push(Writer::new(host, format!("writer-{at}")));
    }
    for at in 1..setup.nodes {
        let other = world.rng.index(at.min(setup.nodes.div_ceil(2)));
        world.edges.push(Edge { hosts: [at, other], planned: false });
    }
    for _ in 0..setup.nodes {
        let (a, b) = (world.rng.index(setup.nodes), world.rng.index(setup.nodes));
        if a != b && world.hosts[a].kind.fits(&world.hosts[b].kind) {
            world.edges.push(Edge { hosts: [a, b], planned: false });
        }
    }
    for host in 0..setup.nodes {
        let at = world.now + world.rng.within(0..2 * SECOND);
        world.plan(at, Due::Start { host });
    }
    for edge in 0..world.edges.len() {
        world.plan_connection(edge);
    }
    for writer in 0..writers {
        let at = world.now + world.rng.within(0..5 * SECOND);
        world.plan(at, Due::Append { writer });
    }
    world.plan(world.now + 500 * MILLI, Due::Chaos);
    world.plan(world.now + 500 * MILLI, Due::Whim);
    world
}
