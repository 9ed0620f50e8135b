//! Files and names as the JavaScript makes them.
#![allow(clippy::unwrap_used, missing_docs)]

mod golden;
mod tree_util;

mod vectors {
    use std::collections::BTreeMap;

    use multifeed_core::crypto::{SecretKey, Verifier};
    use multifeed_core::format::{corestore, list as feed_list, sleep};
    use multifeed_core::tree::{Bitfield, Node, NodeCache, NodeIndex, PAGE_SIZE, hash, proof};
    use multifeed_proto::{FeedKey, RootKey, rle};
    use serde_json::Value;

    use crate::golden::{array, bytes, files, hex, label, list};
    use crate::tree_util::Tree;

    fn number(value: &Value) -> u64 {
        value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
    }

    /// Writes changed pages into the contents of a bitfield file.
    fn write_pages(file: &mut Vec<u8>, bits: &mut Bitfield) {
        for (page, bytes) in bits.take_dirty() {
            let at = sleep::bitfield_offset(page, bits.page_size()) as usize;
            file.resize(file.len().max(at + bytes.len()), 0);
            file[at..at + bytes.len()].copy_from_slice(&bytes);
        }
    }

    fn expand(value: &Value, len: usize) -> Vec<u8> {
        let mut out = rle::decode(&bytes(value), len).unwrap();
        out.resize(len, 0);
        out
    }

    #[test]
    fn bitfield_pages_are_the_same() {
        for (file, vectors) in files("bitfield_pages") {
            for case in list(&vectors, "cases") {
                let length = number(&case["length"]);
                let label = label(&file, case);
                // Written once, or again and again on the way.
                for step in [u64::MAX, 61, 8_192] {
                    let mut bits = Bitfield::new();
                    let mut written = sleep::BITFIELD_HEADER.to_vec();
                    for block in 0..length {
                        bits.set_block(block, true);
                        let mut node = NodeIndex::leaf(block);
                        while bits.set_node(node) && !node.is_left() {
                            node = node.parent();
                        }
                        if block % step == step - 1 {
                            write_pages(&mut written, &mut bits);
                        }
                    }
                    for hole in list(case, "holes") {
                        bits.set_block(number(hole), false);
                    }
                    write_pages(&mut written, &mut bits);
                    assert_eq!(bits.length(), number(&case["blocks"]), "{label}");
                    let pages = list(case, "pages");
                    assert_eq!(written.len(), 32 + pages.len() * PAGE_SIZE, "{label}");
                    for (page, got) in pages.iter().zip(written[32..].chunks(PAGE_SIZE)) {
                        assert!(got[..1_024] == expand(&page["data"], 1_024), "data of {label}");
                        assert!(
                            got[1_024..3_072] == expand(&page["tree"], 2_048),
                            "tree of {label}"
                        );
                        assert_eq!(got[3_072..], expand(&page["index"], 512), "index of {label}");
                    }
                    let read = Bitfield::from_file(&written);
                    assert_eq!(read.length(), length, "{label}");
                    assert_eq!(read.blocks(), length - list(case, "holes").len() as u64, "{label}");
                }
            }
        }
    }

    /// The five files of a feed, some of which may be missing.
    struct Files(BTreeMap<String, Vec<u8>>);

    impl Files {
        fn new<'a>(files: impl Iterator<Item = (&'a str, &'a Value)>) -> Self {
            Self(files.map(|(name, contents)| (name.to_string(), bytes(contents))).collect())
        }

        fn get(&self, name: &str) -> &[u8] {
            self.0.get(name).map_or(&[], |contents| contents.as_slice())
        }

        /// Reads what the files hold and checks them against each other.
        fn check(&self, label: &str) -> (Bitfield, NodeCache, Vec<Node>) {
            for (name, header) in [
                (sleep::TREE, sleep::TREE_HEADER),
                (sleep::SIGNATURES, sleep::SIGNATURES_HEADER),
                (sleep::BITFIELD, sleep::BITFIELD_HEADER),
            ] {
                assert_eq!(self.get(name)[..32], header, "{name} of {label}");
            }
            let mut bits = Bitfield::from_file(self.get(sleep::BITFIELD));
            assert!(bits.take_dirty().is_empty(), "{label}");
            let mut cache = NodeCache::new();
            let nodes = 2 * bits.length();
            for page in 0..nodes.div_ceil(128) {
                let (offset, len) = NodeCache::byte_range(page);
                let tree = self.get(sleep::TREE);
                let end = tree.len().min(offset as usize + len);
                cache.fill(page, &tree[offset as usize..end], |node| bits.has_node(node));
            }
            for node in (0..nodes).map(NodeIndex) {
                assert_eq!(cache.get(node).is_some(), bits.has_node(node), "{node} of {label}");
                let (Some(node), Some((left, right))) =
                    (cache.get(node), node.left_child().zip(node.right_child()))
                else {
                    continue;
                };
                if let (Some(left), Some(right)) = (cache.get(left), cache.get(right)) {
                    assert_eq!(hash::parent(&left, &right), Some(node), "{label}");
                }
            }
            let roots: Vec<Node> =
                proof::roots_of(bits.length()).map(|root| cache.get(root).unwrap()).collect();

            let key = FeedKey(self.get(sleep::KEY).try_into().unwrap());
            let verifier = Verifier::new(&key).unwrap();
            for length in 1..=bits.length() {
                let at = sleep::signature_offset(length - 1) as usize;
                let signature = sleep::read_signature(&self.get(sleep::SIGNATURES)[at..]);
                assert!(signature.is_some() || length < bits.length(), "{label}");
                if let Some(signature) = signature {
                    let roots: Vec<Node> =
                        proof::roots_of(length).map(|root| cache.get(root).unwrap()).collect();
                    assert!(verifier.verify(&hash::root(&roots), length, &signature), "{label}");
                }
            }
            if let Ok(secret) = <[u8; 64]>::try_from(self.get(sleep::SECRET_KEY)) {
                assert_eq!(SecretKey::from_libsodium(&secret).unwrap().public(), key, "{label}");
            }
            // The same bits give the same file.
            let mut again = Bitfield::new();
            let mut file = sleep::BITFIELD_HEADER.to_vec();
            (0..nodes).map(NodeIndex).filter(|&node| bits.has_node(node)).for_each(|node| {
                again.set_node(node);
            });
            (0..bits.length()).filter(|&block| bits.has_block(block)).for_each(|block| {
                again.set_block(block, true);
            });
            write_pages(&mut file, &mut again);
            assert!(file == self.get(sleep::BITFIELD), "bitfield of {label}");
            (bits, cache, roots)
        }

        fn block(&self, cache: &NodeCache, block: u64) -> &[u8] {
            let size = |node| cache.get(node).unwrap().size as usize;
            let offset: usize = proof::offset_nodes(block).map(size).sum();
            &self.get(sleep::DATA)[offset..offset + size(NodeIndex::leaf(block))]
        }
    }

    #[test]
    fn the_files_of_a_feed_are_read() {
        for (file, vectors) in files("sleep") {
            for feed in list(&vectors, "feeds") {
                let label = label(&file, feed);
                let contents = feed["files"].as_object().unwrap();
                let contents = Files::new(contents.iter().map(|(k, v)| (k.as_str(), v)));
                let (bits, cache, roots) = contents.check(&label);
                assert_eq!(bits.length(), number(&feed["length"]), "{label}");
                assert_eq!(hash::total_size(&roots), feed["byteLength"].as_u64(), "{label}");
                assert_eq!(contents.get(sleep::KEY), bytes(&feed["publicKey"]), "{label}");
                let cleared = list(feed, "cleared");
                let is_cleared = |block| {
                    cleared.len() == 2
                        && (number(&cleared[0])..number(&cleared[1])).contains(&block)
                };
                for (block, wanted) in (0..).zip(list(feed, "blocks")) {
                    let is_hole = feed["hole"].as_u64() == Some(block) || is_cleared(block);
                    assert_eq!(bits.has_block(block), !is_hole, "block {block} of {label}");
                    if !is_hole {
                        assert_eq!(contents.block(&cache, block), bytes(wanted), "{label}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_tree_and_the_signatures_of_a_writer_are_the_same() {
        for (file, vectors) in files("sleep") {
            for feed in list(&vectors, "feeds") {
                if !feed["hole"].is_null() {
                    continue;
                }
                let label = label(&file, feed);
                let key = SecretKey::from_seed(&array(&feed["seed"]));
                let blocks: Vec<Vec<u8>> = list(feed, "blocks").iter().map(bytes).collect();
                let tree = Tree::written(&key, &blocks);
                let mut written = sleep::TREE_HEADER.to_vec();
                for node in tree.nodes.values() {
                    let at = sleep::tree_offset(NodeIndex(node.index)) as usize;
                    written.resize(written.len().max(at + 40), 0);
                    written[at..at + 40].copy_from_slice(&sleep::write_node(node));
                }
                assert!(written == bytes(&feed["files"]["tree"]), "tree of {label}");
                let signatures = bytes(&feed["files"]["signatures"]);
                for (length, signature) in &tree.signatures {
                    let at = sleep::signature_offset(length - 1) as usize;
                    if let Some(wanted) = sleep::read_signature(&signatures[at..]) {
                        assert_eq!(*signature, wanted, "length {length} of {label}");
                    }
                }
            }
        }
    }

    #[test]
    fn keys_and_folders_follow_from_names() {
        for (file, vectors) in files("corestore") {
            for case in list(&vectors, "cases") {
                let label = label(&file, case);
                let name = case["name"].as_str().unwrap();
                let key = corestore::derive(&array(&case["masterKey"]), name);
                assert_eq!(key.to_libsodium()[..32], bytes(&case["seed"]), "{label}");
                assert_eq!(*key.to_libsodium(), array(&case["secretKey"]), "{label}");
                assert_eq!(key.public().0, array(&case["publicKey"]), "{label}");
                let discovery_key = key.public().discovery_key();
                assert_eq!(discovery_key.0, array(&case["discoveryKey"]), "{label}");
                let folder = corestore::folder(&discovery_key);
                assert_eq!(folder.as_str(), case["folder"].as_str().unwrap(), "{label}");
                let name_file = bytes(&case["nameFile"]);
                assert_eq!(corestore::encode_name(name), name_file, "{label}");
                assert_eq!(corestore::decode_name(&name_file), Some(name), "{label}");
                check_multifeed_name(name, &label);
            }
        }
    }

    /// Makes the names that hypermultifeed uses again from their parts.
    fn check_multifeed_name(name: &str, label: &str) {
        let Some((root, rest)) =
            name.strip_prefix("@multifeed:").and_then(|rest| rest.split_once(':'))
        else {
            return;
        };
        let root = RootKey::from_hex(root).unwrap();
        if rest == "@multifeed:persist" {
            assert_eq!(corestore::list_name(&root), name, "{label}");
        }
        if let Some(writer) = rest.strip_prefix("@multifeed:feed:") {
            assert_eq!(corestore::writer_name(&root, writer), name, "{label}");
        }
    }

    #[test]
    fn the_folder_of_a_multifeed_is_read() {
        for (file, vectors) in files("dir_hypermultifeed") {
            let all = vectors["files"].as_object().unwrap();
            let master: [u8; 32] = array(&all["master_key"]);
            let mut keys = Vec::new();
            let mut listed = Vec::new();
            for (path, key) in all.iter().filter(|(path, _)| path.ends_with("/key")) {
                let label = format!("{path} of {file}");
                let key = FeedKey(array(key));
                keys.push(key);
                let folder = corestore::folder(&key.discovery_key());
                assert_eq!(folder.join("key").as_str(), path.as_str(), "{label}");
                let inside = all.iter().filter_map(|(path, contents)| {
                    Some((path.strip_prefix(folder.as_str())?.strip_prefix('/')?, contents))
                });
                let contents = Files::new(inside);
                let (bits, cache, _) = contents.check(&label);
                if let Some(name) = contents.0.get(corestore::NAME) {
                    let name = corestore::decode_name(name).unwrap();
                    check_multifeed_name(name, &label);
                    assert_eq!(corestore::derive(&master, name).public(), key, "{label}");
                    if name.ends_with(":@multifeed:persist") {
                        for block in 0..bits.length() {
                            let block = contents.block(&cache, block);
                            let entry = feed_list::decode(block).unwrap();
                            assert_eq!(feed_list::encode(&entry), block, "{label}");
                            listed.push((entry.name, entry.key));
                        }
                    }
                }
            }
            let wanted: Vec<_> = list(&vectors, "names")
                .iter()
                .map(|pair| {
                    let key = hex(pair[1].as_str().unwrap()).try_into().unwrap();
                    (pair[0].as_str().unwrap().to_string(), FeedKey(key))
                })
                .collect();
            assert_eq!(listed, wanted, "{file}");
            for feed in list(&vectors, "feeds") {
                assert!(keys.contains(&FeedKey(array(&feed["key"]))), "{file}");
            }
        }
    }
}
