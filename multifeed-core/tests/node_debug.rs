//! Logs are read by others: what `Debug` shows.
#![allow(clippy::unwrap_used, missing_docs)]

mod util;

use multifeed_core::Outcome;
use multifeed_core::storage::Memory;
use multifeed_proto::messages::{Data, Message};
use multifeed_proto::{Output, UserData};
use util::Sim;

/// The beginning of what would be shown of these bytes, as text and as numbers.
fn shown(text: &[u8]) -> [String; 3] {
    let numbers = format!("{text:?}");
    let hex = multifeed_proto::to_hex(text);
    [String::from_utf8(text.to_vec()).unwrap(), numbers.trim_matches(['[', ']']).to_owned(), hex]
}

#[test]
fn contents_of_blocks_and_keys_are_in_no_debug_output() {
    let block = b"dear diary";
    let mut sim = Sim::new(100);
    for _ in 0..2 {
        let party = sim.party(Memory::new());
        sim.parties[party].recorded = Some(Vec::new());
    }
    let feed = sim.writer(0, "a");
    sim.append(0, feed, &[block]);
    sim.connect(0, 1);
    let mut seen = String::new();
    for _ in 0..2_000 {
        sim.step();
        for party in &sim.parties {
            seen.push_str(&format!("{:?}", party.node));
        }
        if seen.len() > 20_000_000 {
            break;
        }
    }
    sim.sync();
    let read = sim.contents(1);
    assert_eq!(read.len(), 1);
    for party in &sim.parties {
        seen.push_str(&format!("{:?} {:?} {:?}", party.node, party.events, party.results));
        seen.push_str(&format!("{:?} {:?}", party.recorded, party.disk));
    }
    let value = Some(block[..].into());
    let data = Data { index: 3, value, nodes: Vec::new(), signature: Some([9; 64]) };
    seen.push_str(&format!("{:?} {:?}", data, Message::Data(data.clone())));
    let extension = Message::Extension { id: 1, payload: block[..].into() };
    let output = Output::Extension { channel: None, name: "x".into(), payload: block[..].into() };
    let outcomes = [Outcome::Block(block[..].into()), Outcome::Blocks(vec![block[..].into()])];
    let user_data = UserData::from_json(r#""dear diary""#).unwrap();
    seen.push_str(&format!("{extension:?} {output:?} {outcomes:?} {user_data:?}"));
    let keys = [[7; 8], [9; 8]].map(|key| format!("{key:?}").trim_matches(['[', ']']).to_owned());
    for secret in shown(block).iter().chain(&keys) {
        let place = seen.find(secret.as_str());
        let around = place.map(|at| &seen[at.saturating_sub(200)..at + secret.len()]);
        assert_eq!(around, None, "{secret} is shown");
    }
    assert!(seen.contains("10 bytes"));
}
