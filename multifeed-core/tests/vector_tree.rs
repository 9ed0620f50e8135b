//! Index arithmetic, hashes, digests and proofs as the JavaScript makes them.
#![allow(clippy::unwrap_used, missing_docs)]

mod golden;
mod tree_util;

mod vectors {
    use std::collections::BTreeMap;

    use multifeed_core::crypto::{SecretKey, Verifier};
    use multifeed_core::tree::proof;
    use multifeed_core::tree::{Bitfield, NodeIndex, RemoteTree, flat, hash};
    use serde_json::Value;

    use crate::golden::{array, bytes, files, label, list};
    use crate::tree_util::{Tree, contents};

    fn number(value: &Value) -> u64 {
        value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
    }

    fn numbers(value: &Value) -> Vec<u64> {
        value.as_array().unwrap().iter().map(number).collect()
    }

    #[test]
    fn flat_tree_positions_agree() {
        for (file, vectors) in files("flat_tree") {
            for case in list(&vectors, "cases") {
                let node = NodeIndex(number(&case["index"]));
                let label = label(&file, case);
                assert_eq!(u64::from(node.depth()), number(&case["depth"]), "{label}");
                assert_eq!(node.offset(), number(&case["offset"]), "{label}");
                assert_eq!(node.parent().0, number(&case["parent"]), "{label}");
                assert_eq!(node.sibling().0, number(&case["sibling"]), "{label}");
                assert_eq!(node.left_span().0, number(&case["leftSpan"]), "{label}");
                assert_eq!(node.right_span().0, number(&case["rightSpan"]), "{label}");
                assert_eq!(NodeIndex::at(node.depth(), node.offset()), node, "{label}");
                let children = node.left_child().zip(node.right_child());
                let children = children.map(|(left, right)| vec![left.0, right.0]);
                let wanted = (!case["children"].is_null()).then(|| numbers(&case["children"]));
                assert_eq!(children, wanted, "{label}");
            }
            for case in list(&vectors, "roots") {
                let roots: Vec<u64> =
                    flat::full_roots(number(&case["length"])).map(|root| root.0).collect();
                assert_eq!(roots, numbers(&case["fullRoots"]), "{}", label(&file, case));
            }
        }
    }

    #[test]
    fn logs_have_the_same_hashes_and_signatures() {
        for (file, vectors) in files("hashes") {
            for log in list(&vectors, "logs") {
                let label = label(&file, log);
                let key = SecretKey::from_seed(&array(&log["seed"]));
                assert_eq!(key.public().0, array(&log["publicKey"]), "{label}");
                assert_eq!(*key.to_libsodium(), array(&log["secretKey"]), "{label}");
                let blocks: Vec<Vec<u8>> = list(log, "blocks").iter().map(bytes).collect();
                let tree = Tree::written(&key, &blocks);
                assert_eq!(tree.length, number(&log["length"]), "{label}");
                assert_eq!(tree.byte_length, number(&log["byteLength"]), "{label}");
                assert_eq!(tree.nodes.len(), list(log, "nodes").len(), "{label}");
                for wanted in list(log, "nodes") {
                    let node = tree.nodes[&number(&wanted["index"])];
                    assert_eq!(node.size, number(&wanted["size"]), "{label}");
                    assert_eq!(node.hash, array(&wanted["hash"]), "{label}");
                }
                let verifier = Verifier::new(&key.public()).unwrap();
                for signed in list(log, "signed") {
                    let length = number(&signed["length"]);
                    let roots: Vec<_> =
                        proof::roots_of(length).map(|root| tree.nodes[&root.0]).collect();
                    let indices: Vec<u64> = roots.iter().map(|root| root.index).collect();
                    assert_eq!(indices, numbers(&signed["roots"]), "{label}");
                    let root = hash::root(&roots);
                    assert_eq!(root, array(&signed["treeHash"]), "{label}");
                    assert_eq!(
                        hash::signable(&root, length),
                        array(&signed["signable"]),
                        "{label}"
                    );
                    assert_eq!(tree.signatures[&length], array(&signed["signature"]), "{label}");
                    for form in ["signature", "legacySignature"] {
                        let mut signature = array(&signed[form]);
                        assert!(verifier.verify(&root, length, &signature), "{form} of {label}");
                        signature[9] ^= 4;
                        assert!(!verifier.verify(&root, length, &signature), "{form} of {label}");
                    }
                }
            }
        }
    }

    fn log_of(lengths: &mut BTreeMap<u64, Tree>, key: &SecretKey, length: u64) -> Tree {
        lengths.entry(length).or_insert_with(|| Tree::written(key, &contents(length, 3))).clone()
    }

    #[test]
    fn digests_and_proofs_choose_the_same_nodes() {
        let key = SecretKey::from_seed(&[5; 32]);
        let mut logs = BTreeMap::new();
        for (file, vectors) in files("digest_proof") {
            for case in list(&vectors, "cases") {
                let label = label(&file, case);
                let log = log_of(&mut logs, &key, number(&case["uploaderLength"]));
                let mut reader = Tree::default();
                let mut remote = RemoteTree::new();
                let check = |reader: &Tree, remote: &mut RemoteTree, request: &Value| {
                    let block = number(&request["block"]);
                    let label = format!("block {block} of {label}");
                    let digest = reader.digest(block);
                    assert_eq!(digest, number(&request["digest"]), "{label}");
                    let plan = proof::plan(&log.bits, remote, block, false, digest).unwrap();
                    let nodes: Vec<u64> = plan.nodes.iter().map(|node| node.0).collect();
                    assert_eq!(nodes, numbers(&request["nodes"]), "{label}");
                    let verified_by = plan.signature.map_or(0, |index| 2 * (index + 1));
                    assert_eq!(verified_by, number(&request["verifiedBy"]), "{label}");
                    (log.carry_out(&plan, block, false), digest)
                };
                for request in list(case, "fetchedInOrder") {
                    let (answer, _) = check(&reader, &mut remote, request);
                    reader.receive(&key.public(), &answer).unwrap();
                }
                let held: Vec<u64> = reader.nodes.keys().copied().collect();
                assert_eq!(held, numbers(&case["downloaderTreeNodes"]), "{label}");
                for request in list(case, "requests") {
                    let (answer, digest) = check(&reader, &mut RemoteTree::new(), request);
                    reader.clone().receive(&key.public(), &answer).unwrap();
                    let hashes = log.answer(&mut RemoteTree::new(), answer.index, true, digest);
                    let nodes: Vec<u64> = hashes.nodes.iter().map(|node| node.index).collect();
                    assert_eq!(nodes, numbers(&request["hashRequestNodes"]), "{label}");
                    reader.clone().receive(&key.public(), &hashes).unwrap();
                }
            }
        }
    }

    /// Sets a node and, as the JavaScript's tree does, those above that follow from it.
    fn set_with_parents(bits: &mut Bitfield, node: u64) {
        let mut node = NodeIndex(node);
        while bits.set_node(node) && bits.has_node(node.sibling()) {
            node = node.parent();
        }
    }

    #[test]
    fn digests_of_any_set_of_nodes_agree() {
        for (file, vectors) in files("digest_proof") {
            for case in list(&vectors, "rawDigest") {
                let mut bits = Bitfield::new();
                for node in numbers(&case["treeBitsSet"]) {
                    set_with_parents(&mut bits, node);
                }
                let has = |node| bits.has_node(node);
                let digest = proof::digest(has, number(&case["block"]), bits.tree_bit_length());
                assert_eq!(digest, number(&case["digest"]), "{}", label(&file, case));
            }
        }
    }

    #[test]
    fn the_bits_tell_length_and_roots() {
        for (file, vectors) in files("digest_proof") {
            for case in list(&vectors, "verifiedBy") {
                let label = label(&file, case);
                let mut bits = Bitfield::new();
                let length = number(&case["length"]);
                (0..length).for_each(|block| set_with_parents(&mut bits, 2 * block));
                assert_eq!(bits.length(), number(&case["blocks"]), "{label}");
                let verified_by = bits.verified_by(NodeIndex(0));
                assert_eq!(verified_by, number(&case["verifiedByLeaf0"]), "{label}");
                let roots: Vec<u64> = proof::roots_of(length).map(|root| root.0).collect();
                assert_eq!(roots, numbers(&case["roots"]), "{label}");
            }
        }
    }
}
