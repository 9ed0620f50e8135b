//! Proofs between a writer and readers, in any order, honest and hostile.
#![allow(clippy::unwrap_used, missing_docs)]

mod tree_util;

use multifeed_core::crypto::{SecretKey, Verifier};
use multifeed_core::tree::proof::{self, TreeView as _, Unverified};
use multifeed_core::tree::{Bitfield, MAX_BYTES, MAX_LENGTH, Node, NodeIndex, RemoteTree, hash};
use multifeed_proto::FeedKey;
use proptest::prelude::*;
use tree_util::{Answer, Dice, Tree, contents};

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn key() -> SecretKey {
    SecretKey::from_seed(&[9; 32])
}

/// Asks for one block with what is held and takes the answer.
fn fetch(writer: &Tree, reader: &mut Tree, remote: &mut RemoteTree, block: u64) -> Answer {
    let answer = writer.answer(remote, block, false, reader.digest(block));
    reader.receive(&key().public(), &answer).unwrap();
    answer
}

/// Verifies `answer` without changing `reader`.
fn check(reader: &Tree, answer: &Answer) -> Result<proof::Verified, Unverified> {
    reader.clone().receive(&key().public(), answer)
}

fn is_refused(result: &Result<proof::Verified, Unverified>) -> bool {
    matches!(result, Err(Unverified::Invalid(_) | Unverified::Missing { .. }))
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn a_log_read_in_any_order_while_it_grows_ends_equal(
        batches in prop::collection::vec(1_u64..12, 1..12),
        seed: u64,
        unload: bool,
    ) {
        let mut dice = Dice(seed);
        let mut writer = Tree::default();
        let mut reader = Tree::default();
        let mut remote = RemoteTree::new();
        for (n, count) in (0..).zip(batches) {
            writer.append(&key(), &contents(count, n));
            for _ in 0..dice.roll(2 * count as usize) {
                let block = dice.roll(writer.length as usize) as u64;
                if unload {
                    reader.unload();
                }
                fetch(&writer, &mut reader, &mut remote, block);
            }
        }
        let mut missing: Vec<u64> = (0..writer.length).filter(|&b| !reader.bits.has_block(b)).collect();
        while !missing.is_empty() {
            let block = missing.swap_remove(dice.roll(missing.len()));
            if unload {
                reader.unload();
            }
            // A fresh channel now and then: claims so far are forgotten.
            if dice.roll(10) == 0 {
                remote.clear();
            }
            fetch(&writer, &mut reader, &mut remote, block);
        }
        prop_assert_eq!(&reader.blocks, &writer.blocks);
        prop_assert_eq!(&reader.nodes, &writer.nodes);
        prop_assert_eq!((reader.length, reader.byte_length), (writer.length, writer.byte_length));
        prop_assert_eq!(
            reader.bits.take_dirty(), writer.bits.take_dirty(), "the bitfield files differ"
        );
    }

    #[test]
    fn a_reader_with_gaps_can_serve_what_it_has(
        batches in prop::collection::vec(1_u64..12, 1..8),
        seed: u64,
    ) {
        let mut dice = Dice(seed);
        let mut writer = Tree::default();
        let mut middle = Tree::default();
        let mut remote = RemoteTree::new();
        for (n, count) in (0..).zip(batches) {
            writer.append(&key(), &contents(count, n));
            for _ in 0..dice.roll(2 * count as usize) {
                let block = dice.roll(writer.length as usize) as u64;
                fetch(&writer, &mut middle, &mut remote, block);
            }
        }
        let mut last = Tree::default();
        let mut remote = RemoteTree::new();
        let mut held: Vec<u64> = middle.blocks.keys().copied().collect();
        while !held.is_empty() {
            let block = held.swap_remove(dice.roll(held.len()));
            let answer = middle.answer(&mut RemoteTree::new(), block, false, 0);
            Tree::default().receive(&key().public(), &answer).unwrap();
            fetch(&middle, &mut last, &mut remote, block);
        }
        prop_assert_eq!(&last.blocks, &middle.blocks);
    }

    #[test]
    fn digests_that_claim_less_than_is_held_verify(
        length in 1_u64..70,
        seed: u64,
    ) {
        let mut dice = Dice(seed);
        let writer = Tree::written(&key(), &contents(length, 1));
        let mut reader = Tree::default();
        for _ in 0..dice.roll(length as usize) {
            let block = dice.roll(length as usize) as u64;
            fetch(&writer, &mut reader, &mut RemoteTree::new(), block);
        }
        let mut remote = RemoteTree::new();
        for _ in 0..20 {
            let block = dice.roll(length as usize) as u64;
            let claimed: Vec<NodeIndex> =
                reader.nodes.keys().map(|&n| NodeIndex(n)).filter(|_| dice.roll(3) > 0).collect();
            let has = |node| claimed.contains(&node);
            let digest = proof::digest(has, block, reader.bits.tree_bit_length());
            let hash = dice.roll(4) == 0;
            let answer = writer.answer(&mut remote, block, hash, digest);
            reader.receive(&key().public(), &answer).unwrap();
        }
    }

    #[test]
    fn any_flipped_bit_is_refused(length in 1_u64..24, held in 0_usize..4, seed: u64) {
        let mut dice = Dice(seed);
        let writer = Tree::written(&key(), &contents(length, 1));
        let mut reader = Tree::default();
        for _ in 0..held {
            let block = dice.roll(length as usize) as u64;
            fetch(&writer, &mut reader, &mut RemoteTree::new(), block);
        }
        let block = dice.roll(length as usize) as u64;
        let mut digest = reader.digest(block);
        if dice.roll(3) == 0 {
            digest = 0;
        }
        let hash = digest != 1 && dice.roll(4) == 0;
        let answer = writer.answer(&mut RemoteTree::new(), block, hash, digest);
        let honest = check(&reader, &answer).unwrap();
        let flip = |change: &dyn Fn(&mut Answer)| {
            let mut changed = answer.clone();
            change(&mut changed);
            check(&reader, &changed)
        };
        // With a digest of 0, some nodes may be surplus. What is taken is true in any case.
        let is_fine = |result: &Result<proof::Verified, _>| {
            is_refused(result)
                || digest == 0
                    && result.as_ref().is_ok_and(|verified| {
                        verified.leaf == honest.leaf
                            && verified.nodes.iter().all(|node| writer.nodes[&node.index] == *node)
                            && (verified.log.is_none() || verified.log == honest.log)
                    })
        };
        for bit in 0..answer.value.as_ref().map_or(0, |value| 8 * value.len()) {
            let result = flip(&|a| a.value.as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8));
            prop_assert!(is_refused(&result), "bit {} of the value: {:?}", bit, result);
        }
        for node in 0..answer.nodes.len() {
            for bit in 0..64 {
                let result = flip(&|a| a.nodes[node].index ^= 1 << bit);
                prop_assert!(is_fine(&result), "bit {} of index {}: {:?}", bit, node, result);
                let result = flip(&|a| a.nodes[node].size ^= 1 << bit);
                prop_assert!(is_fine(&result), "bit {} of size {}: {:?}", bit, node, result);
            }
            for bit in 0..256 {
                let result = flip(&|a| a.nodes[node].hash[bit / 8] ^= 1 << (bit % 8));
                prop_assert!(is_fine(&result), "bit {} of hash {}: {:?}", bit, node, result);
            }
        }
        for bit in (0..512).filter(|_| answer.signature.is_some()) {
            let result = flip(&|a| a.signature.as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8));
            prop_assert!(is_fine(&result), "bit {} of the signature: {:?}", bit, result);
        }
    }

    #[test]
    fn anything_may_arrive_and_nothing_false_is_taken(
        length in 0_u64..20,
        index in prop_oneof![0_u64..24, any::<u64>()],
        value in prop::option::of(prop::collection::vec(any::<u8>(), 0..4)),
        nodes in prop::collection::vec(
            (prop_oneof![0_u64..64, any::<u64>(), (0_u32..64).prop_map(|b| u64::MAX >> b)],
             prop_oneof![0_u64..9, any::<u64>(), Just(MAX_BYTES - 1)]), 0..140),
        signed: bool,
        digest: u64,
    ) {
        let writer = Tree::written(&key(), &contents(length, 1));
        let nodes: Vec<Node> = nodes
            .into_iter()
            .map(|(index, size)| Node { index, hash: [index as u8; 32], size })
            .collect();
        let signature = (signed && length > 0).then(|| writer.signatures[&length]);
        let answer = Answer { index, value, nodes, signature };
        prop_assert!(check(&Tree::default(), &answer).is_err());
        let held = check(&writer, &answer);
        if let Ok(verified) = held {
            // Only what is there already.
            prop_assert!(verified.nodes.is_empty() && verified.log.is_none());
        }
        let _ = proof::plan(&writer.bits, &mut RemoteTree::new(), index, signed, digest);
        let _ = proof::digest(|node| node.0 & digest == 0, index, digest);
        prop_assert!(proof::expected_nodes(index, |node| node.0 & digest == 5, |_| true).len() <= 160);
    }
}

/// One channel with many requests in flight, answered in order and arriving in any.
struct Channel {
    writer: Tree,
    reader: Tree,
    remote: RemoteTree,
    /// The writer goes by the digest of each request alone.
    forgetful: bool,
    /// Length that the writer has announced.
    announced: u64,
    /// Requests on their way, oldest first: block, digest.
    requests: Vec<(u64, u64)>,
    /// Answers on their way.
    answers: Vec<Answer>,
    /// Answers that came too early.
    early: Vec<Answer>,
    /// What the requests that are not over will bring: block, nodes.
    promises: Vec<(u64, Vec<NodeIndex>)>,
    /// Answers that were held at least once, nodes received.
    statistics: (usize, usize),
}

impl Channel {
    fn has(&self, node: NodeIndex) -> bool {
        self.reader.has(node) || self.promises.iter().any(|(_, nodes)| nodes.contains(&node))
    }

    fn request(&mut self, block: u64) {
        let digest = proof::digest(|node| self.has(node), block, 4 * self.announced + 2);
        let announced = self.announced;
        let nodes =
            proof::expected_nodes(block, |node| self.has(node), |range| range.end <= announced);
        self.promises.push((block, nodes));
        self.requests.push((block, digest));
    }

    /// The writer answers its oldest request.
    fn answer(&mut self) {
        if !self.requests.is_empty() {
            let (block, digest) = self.requests.remove(0);
            if self.forgetful {
                self.remote.clear();
            }
            self.answers.push(self.writer.answer(&mut self.remote, block, false, digest));
        }
    }

    fn deliver(&mut self, dice: &mut Dice) {
        if self.answers.is_empty() {
            return;
        }
        let answer = self.answers.swap_remove(dice.roll(self.answers.len()));
        self.statistics.1 += answer.nodes.len();
        if !self.take(answer) {
            self.statistics.0 += 1;
        }
        while let Some(at) = (0..self.early.len()).find(|&at| {
            let answer = self.early[at].clone();
            check(&self.reader, &answer).is_ok()
        }) {
            let answer = self.early.swap_remove(at);
            assert!(self.take(answer));
        }
    }

    /// `false`: too early, held.
    fn take(&mut self, answer: Answer) -> bool {
        match self.reader.receive(&key().public(), &answer) {
            Ok(_) => {
                let at =
                    self.promises.iter().position(|(block, _)| *block == answer.index).unwrap();
                let (block, nodes) = self.promises.remove(at);
                for node in nodes {
                    assert!(self.reader.has(node), "block {block} did not bring {node:?}");
                }
                true
            }
            Err(Unverified::Missing { sibling, top, .. }) => {
                let promised = self.promises.iter().any(|(block, nodes)| {
                    *block != answer.index && (nodes.contains(&sibling) || nodes.contains(&top))
                });
                assert!(promised, "nothing brings {sibling:?} or {top:?} for {}", answer.index);
                self.early.push(answer);
                false
            }
            Err(error) => panic!("block {}: {error}", answer.index),
        }
    }
}

fn pipeline(batches: &[u64], window: usize, linear: bool, forgetful: bool, seed: u64) -> Channel {
    let mut dice = Dice(seed);
    let mut channel = Channel {
        writer: Tree::default(),
        reader: Tree::default(),
        remote: RemoteTree::new(),
        forgetful,
        announced: 0,
        requests: Vec::new(),
        answers: Vec::new(),
        early: Vec::new(),
        promises: Vec::new(),
        statistics: (0, 0),
    };
    let mut batches = batches.iter();
    let mut to_ask: Vec<u64> = Vec::new();
    loop {
        match dice.roll(if linear { 40 } else { 10 }) {
            0 => {
                if let Some(&count) = batches.next() {
                    let seed = channel.writer.length as u8;
                    channel.writer.append(&key(), &contents(count, seed));
                    if dice.roll(2) == 0 {
                        to_ask.extend(channel.announced..channel.writer.length);
                        channel.announced = channel.writer.length;
                    }
                } else {
                    to_ask.extend(channel.announced..channel.writer.length);
                    channel.announced = channel.writer.length;
                }
            }
            1 | 2 => channel.answer(),
            3 | 4 => channel.deliver(&mut dice),
            _ if channel.promises.len() < window && !to_ask.is_empty() => {
                let at = if linear { 0 } else { dice.roll(to_ask.len()) };
                let block = to_ask.remove(at);
                channel.request(block);
            }
            _ => {}
        }
        let all = channel.announced == channel.writer.length && batches.len() == 0;
        if all && to_ask.is_empty() && channel.promises.is_empty() {
            return channel;
        }
    }
}

proptest! {
    #![proptest_config(config(96))]

    #[test]
    fn early_answers_to_speculative_requests_verify_once_their_predecessors_are_in(
        batches in prop::collection::vec(1_u64..20, 1..10),
        window in 1_usize..40,
        linear: bool,
        forgetful: bool,
        seed: u64,
    ) {
        let channel = pipeline(&batches, window, linear, forgetful, seed);
        prop_assert!(channel.early.is_empty());
        prop_assert_eq!(&channel.reader.blocks, &channel.writer.blocks);
        prop_assert_eq!(&channel.reader.nodes, &channel.writer.nodes);
    }
}

#[test]
fn a_deep_linear_pipeline_costs_about_one_node_a_block() {
    for forgetful in [false, true] {
        let channel = pipeline(&[600], 128, true, forgetful, 7);
        let (held, nodes) = channel.statistics;
        assert!(held > 0, "no answer came early: the test tests nothing");
        assert!(nodes < 620, "{nodes} nodes for 600 blocks");
    }
}

#[test]
fn a_root_that_leaves_the_block_out_proves_nothing() {
    // The JavaScript takes this: the roots are genuine and signed, the block is not below them by hash.
    let writer = Tree::written(&key(), &contents(8, 1));
    let answer = Answer {
        index: 0,
        value: Some(b"forged".to_vec()),
        nodes: writer.roots(),
        signature: Some(writer.signatures[&8]),
    };
    assert!(is_refused(&check(&Tree::default(), &answer)));
    let mut hashes = answer;
    hashes.value = None;
    hashes.nodes.insert(0, Node { index: 0, hash: [1; 32], size: 1 });
    assert!(is_refused(&check(&Tree::default(), &hashes)));
}

#[test]
fn too_many_nodes_are_refused() {
    let writer = Tree::written(&key(), &contents(5, 1));
    let mut answer = writer.answer(&mut RemoteTree::new(), 0, false, 0);
    let more = |n: u64| Node { index: 1_000 + 2 * n, hash: [1; 32], size: 1 };
    answer.nodes.extend((0..129).map(more));
    assert_eq!(check(&Tree::default(), &answer), Err(Unverified::Invalid("too many nodes")));
}

#[test]
fn nodes_that_come_twice_or_in_another_order_are_refused() {
    let writer = Tree::written(&key(), &contents(13, 1));
    let answer = writer.answer(&mut RemoteTree::new(), 3, false, 0);
    check(&Tree::default(), &answer).unwrap();
    for i in 0..answer.nodes.len() {
        let mut twice = answer.clone();
        twice.nodes.insert(i, answer.nodes[i]);
        assert_eq!(check(&Tree::default(), &twice), Err(Unverified::Invalid("a node twice")));
        for j in 0..i {
            let mut swapped = answer.clone();
            swapped.nodes.swap(i, j);
            assert!(is_refused(&check(&Tree::default(), &swapped)), "{i} and {j}");
        }
        let mut less = answer.clone();
        less.nodes.remove(i);
        assert!(is_refused(&check(&Tree::default(), &less)), "without {i}");
    }
}

#[test]
fn sizes_that_add_up_to_too_much_are_refused() {
    // Signed by the writer itself, so that only the sizes can be what is refused.
    let huge = |index| Node { index, hash: [1; 32], size: MAX_BYTES - 1 };
    let leaf = hash::leaf_node(0, b"x");
    let answer = |nodes: Vec<Node>, roots: &[Node], length| Answer {
        index: 0,
        value: Some(b"x".to_vec()),
        nodes,
        signature: Some(key().sign_log(&hash::root(roots), length)),
    };
    let beside = answer(vec![huge(2)], &[leaf], 2);
    assert_eq!(check(&Tree::default(), &beside), Err(Unverified::Invalid("sizes overflow")));
    let sibling = hash::leaf_node(1, b"y");
    let top = hash::parent(&leaf, &sibling).unwrap();
    let roots = answer(vec![sibling, huge(4)], &[top, huge(4)], 3);
    let expected = Err(Unverified::Invalid("the sizes of the roots overflow"));
    assert_eq!(check(&Tree::default(), &roots), expected);
    let mut alone = answer(vec![sibling, huge(4)], &[top, huge(4)], 3);
    alone.nodes[1].size = MAX_BYTES;
    assert!(is_refused(&check(&Tree::default(), &alone)));
}

#[test]
fn a_block_of_another_size_than_its_leaf_is_refused() {
    let writer = Tree::written(&key(), &contents(5, 1));
    let mut reader = Tree::default();
    let hashes = writer.answer(&mut RemoteTree::new(), 2, true, 0);
    reader.receive(&key().public(), &hashes).unwrap();
    assert_eq!(reader.digest(2), 1);
    let mut answer = writer.answer(&mut RemoteTree::new(), 2, false, 1);
    check(&reader, &answer).unwrap();
    answer.value.as_mut().unwrap().push(0);
    let expected = Err(Unverified::Invalid("it does not match the tree"));
    assert_eq!(check(&reader, &answer), expected);
}

#[test]
fn a_signature_of_a_shorter_log_does_not_shrink_a_longer_one() {
    let blocks = contents(10, 1);
    let mut writer = Tree::written(&key(), &blocks[..4]);
    let short = writer.clone();
    writer.append(&key(), &blocks[4..]);
    let mut reader = Tree::default();
    fetch(&writer, &mut reader, &mut RemoteTree::new(), 9);
    let answer = short.answer(&mut RemoteTree::new(), 0, false, 0);
    let verified = reader.receive(&key().public(), &answer).unwrap();
    assert_eq!(verified.log, None);
    assert_eq!(verified.signature.map(|(length, _)| length), Some(4));
    assert_eq!((reader.length, reader.byte_length), (writer.length, writer.byte_length));
}

#[test]
fn a_signed_tree_that_contradicts_what_is_held_is_refused() {
    let (blocks, others) = (contents(12, 1), contents(12, 2));
    let log = Tree::written(&key(), &blocks);
    for length in [12, 13, 16] {
        let mut fork_blocks = others.clone();
        fork_blocks.extend(contents(length - 12, 3));
        let fork = Tree::written(&key(), &fork_blocks);
        let mut reader = Tree::default();
        (0..12).for_each(|block| {
            fetch(&log, &mut reader, &mut RemoteTree::new(), block);
        });
        for block in 0..length {
            for hash in [false, true] {
                let answer = fork.answer(&mut RemoteTree::new(), block, hash, 0);
                let result = check(&reader, &answer);
                // All but the single block after a log of the same roots contradict something.
                assert!(is_refused(&result), "block {block} of {length}: {result:?}");
            }
        }
    }
}

#[test]
fn a_static_feed_is_proven_by_its_key() {
    let mut log = Tree::written(&key(), &contents(7, 1));
    log.signatures.clear();
    let key = FeedKey(hash::root(&log.roots()));
    let mut reader = Tree::default();
    for block in [3, 6, 0, 1] {
        let digest = reader.digest(block);
        let plan = proof::plan(&log.bits, &mut RemoteTree::new(), block, false, digest).unwrap();
        let plan = proof::ProofPlan { signature: None, ..plan };
        let answer = log.carry_out(&plan, block, false);
        let verified = reader.receive(&key, &answer).unwrap();
        assert_eq!(verified.static_root, block == 3);
        assert!(is_refused(&Tree::default().receive(&FeedKey([1; 32]), &answer)));
    }
    assert_eq!(reader.length, 7);
}

#[test]
fn an_answer_without_a_signature_does_not_prove_a_new_root() {
    let writer = Tree::written(&key(), &contents(7, 1));
    let mut answer = writer.answer(&mut RemoteTree::new(), 5, false, 0);
    answer.signature = None;
    assert!(is_refused(&check(&Tree::default(), &answer)));
    let mut reader = Tree::default();
    fetch(&Tree::written(&key(), &contents(3, 1)), &mut reader, &mut RemoteTree::new(), 0);
    assert!(is_refused(&check(&reader, &answer)));
}

#[test]
fn blocks_that_are_not_there_have_no_proof() {
    let writer = Tree::written(&key(), &contents(7, 1));
    for block in [7, 8, MAX_LENGTH - 1, MAX_LENGTH, u64::MAX] {
        let plan = proof::plan(&writer.bits, &mut RemoteTree::new(), block, true, 0);
        assert_eq!(plan, Err(proof::NoProof), "block {block}");
    }
}

#[test]
fn digests_that_claim_everything_are_harmless() {
    let writer = Tree::written(&key(), &contents(100, 1));
    let mut remote = RemoteTree::new();
    for digest in [u64::MAX, u64::MAX - 1, 1 << 63, 3, 2] {
        for block in 0..100 {
            proof::plan(&writer.bits, &mut remote, block, false, digest).unwrap();
        }
    }
    assert!(!remote.contains(NodeIndex(200)), "only what exists is noted");
}

#[test]
fn a_log_does_not_grow_beyond_its_limits() {
    let root = Node { index: NodeIndex::at(52, 0).0, hash: [1; 32], size: 5 };
    let grown = proof::append(&[root], MAX_LENGTH, &[b"x"]);
    assert_eq!(grown, Err(proof::CannotGrow));
    let full = Node { index: 0, hash: [1; 32], size: MAX_BYTES - 1 };
    assert_eq!(proof::append(&[full], 1, &[b"x"]), Err(proof::CannotGrow));
    assert_eq!(proof::append(&[full], 2, &[b"x"]), Err(proof::CannotGrow), "not its roots");
    assert_eq!(proof::append::<&[u8]>(&[full], 1, &[]).unwrap().roots, [full]);
}

#[test]
fn a_damaged_log_may_be_cut_to_where_its_roots_are_known() {
    let writer = Tree::written(&key(), &contents(6, 1));
    let all: Vec<u64> = proof::lengths_to_try(&writer.bits, 9).collect();
    assert_eq!(all, [6, 5, 4, 3, 2, 1]);
    let mut reader = Tree::default();
    fetch(&writer, &mut reader, &mut RemoteTree::new(), 5);
    assert_eq!(proof::lengths_to_try(&reader.bits, 9).collect::<Vec<_>>(), [6, 5, 4]);
    assert_eq!(proof::lengths_to_try(&Bitfield::new(), 9).count(), 0);
    assert!(Verifier::new(&key().public()).is_some());
}
