//! How long peers may take.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use std::time::Duration;

use multifeed_core::storage::Memory;
use multifeed_core::{NodeConfig, Patience};
use multifeed_proto::Config;
use util::Sim;
use util::liar::Liar;

#[test]
fn a_request_after_a_quiet_spell_has_all_its_time() {
    let mut sim = Sim::new(65_536);
    let writer = sim.party(Memory::new());
    let feed = sim.writer(writer, "w");
    sim.append(writer, feed, &[b"one"]);
    let key = sim.parties[writer].node.feed(feed).unwrap().key;
    let mut sim = Sim::new(65_536);
    let connection =
        Config { idle_timeout: Duration::ZERO, keepalive: Duration::ZERO, ..Config::default() };
    let patience = Patience { request_timeout: Duration::from_secs(5), ..Patience::default() };
    let config = NodeConfig { connection, patience, sparse: true, ..NodeConfig::default() };
    sim.party_with(Memory::new(), config);
    let mut liar = Liar::new(&mut sim);
    let channel = liar.offer(&mut sim, key);
    liar.have(&mut sim, channel, 0, 1);
    sim.pass(Duration::from_secs(30));
    // Nobody calls the node meanwhile.
    sim.now = sim.now.after(Duration::from_secs(9));
    let copy = sim.parties[0].node.find(&key).unwrap();
    sim.parties[0].node.wait(sim.now, copy, 0);
    liar.run(&mut sim);
    assert_eq!(liar.requests(), [0]);
    sim.pass(Duration::from_secs(4));
    let in_flight = |sim: &Sim| -> Vec<u64> {
        sim.parties[0].node.peers(copy).map(|peer| peer.in_flight).collect()
    };
    assert_eq!(in_flight(&sim), [1]);
    sim.pass(Duration::from_secs(2));
    assert_eq!(in_flight(&sim), [0]);
}
