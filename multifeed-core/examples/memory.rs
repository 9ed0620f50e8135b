//! Two nodes in one process without any I/O: no socket, no file, no clock, no thread.
//!
//! `cargo run -p multifeed-core --example memory`

use std::time::Duration;

use multifeed_core::storage::Memory;
use multifeed_core::{ConnectionId, Event, Node, NodeConfig, Outcome, Output, StoreOptions};
use multifeed_proto::{Entropy, Now, Role, RootKey};

/// A node, and what it asked for.
struct Host {
    node: Node,
    memory: Memory,
    outcomes: Vec<Outcome>,
    in_sync: bool,
}

impl Host {
    fn new(seed: u8) -> Self {
        // Where it matters, the seed is 32 bytes drawn by the operating system for this node.
        let entropy = Entropy::from_seed([seed; 32]);
        let node = Node::new(NodeConfig::default(), entropy, Now::default());
        Self { node, memory: Memory::new(), outcomes: Vec::new(), in_sync: false }
    }

    /// Does all that the node asks for; to be called after everything that is done to it.
    fn drain(&mut self, now: Now) {
        while let Some(output) = self.node.poll_output() {
            match output {
                Output::Storage(batch) => {
                    let result = self.memory.execute(&batch);
                    self.node.handle_storage(now, result);
                }
                Output::Completed { result, .. } => {
                    self.outcomes.push(result.expect("memory does not fail"));
                }
                Output::Event(event) => {
                    println!("{now:?}: {event:?}");
                    self.in_sync |= matches!(event, Event::InSync { .. });
                    self.in_sync &= !matches!(event, Event::OutOfSync { .. });
                }
                _ => {}
            }
        }
    }
}

/// Carries what one node has to send to the other; the number of bytes.
fn carry(
    now: Now,
    (from, from_id): (&mut Host, ConnectionId),
    (to, to_id): (&mut Host, ConnectionId),
) -> usize {
    let bytes = from.node.transmit(from_id).to_vec();
    if !bytes.is_empty() {
        from.node.transmitted(now, from_id, bytes.len());
        from.drain(now);
        to.node.handle_bytes(now, to_id, &bytes);
        to.drain(now);
    }
    bytes.len()
}

fn main() {
    let mut now = Now::default();
    let (mut a, mut b) = (Host::new(1), Host::new(2));
    for host in [&mut a, &mut b] {
        host.node.open(now, StoreOptions::default());
        host.drain(now);
        host.node.join(now, RootKey::new([7; 32]));
        host.drain(now);
    }
    let Some(&Outcome::Joined(multifeed)) = a.outcomes.last() else { panic!("it is joined") };
    a.node.writer(now, multifeed, Some("local"), None);
    a.drain(now);
    let Some(&Outcome::Feed(feed)) = a.outcomes.last() else { panic!("the writer exists") };
    a.node.append(now, feed, vec!["hello".into(), "without I/O".into()]);
    a.drain(now);

    let one = a.node.connect(now, Role::Initiator).expect("the store is open");
    let two = b.node.connect(now, Role::Responder).expect("the store is open");
    a.drain(now);
    b.drain(now);
    while !(a.in_sync && b.in_sync) {
        let carried =
            carry(now, (&mut a, one), (&mut b, two)) + carry(now, (&mut b, two), (&mut a, one));
        if carried == 0 {
            // Nothing to do but to wait: the clock is a number.
            now = now.after(Duration::from_millis(1));
            for host in [&mut a, &mut b] {
                host.node.handle_timeout(now);
                host.drain(now);
            }
        }
    }
    let Some(&Outcome::Joined(multifeed)) = b.outcomes.last() else { panic!("it is joined") };
    let copy = b.node.feeds(multifeed).next().expect("the feed came").id;
    b.node.read(now, copy, 0, 10, usize::MAX);
    b.drain(now);
    let wanted = Outcome::Blocks(vec!["hello".into(), "without I/O".into()]);
    assert_eq!(b.outcomes.last(), Some(&wanted));
}
