//! The test cases of hypermultifeed 1.1.0 and multifeed 6.0.0, by their names there: `hm::basic::no_feeds`
//! is "no feeds" of hypermultifeed's `test/basic.js`. The last part of a test's name says who plays the
//! sides of the case, in their order there: `rust_javascript` is Rust as the first, which connects.
//! JavaScript is the real package of the case.
//!
//! The cases are listed in `src/upstream.rs`, what they did in `RESULTS.md`.

#![allow(clippy::unwrap_used, missing_docs)]

mod basic;
mod cast;
mod mux;
mod regression;
mod swarm;

use std::collections::BTreeSet;

use conformance::results;
use conformance::upstream::{Family, cases};

use crate::cast::{Cast, play};

/// Tests for each way to cast a case: `rust` where it has one side.
macro_rules! cases {
    ($($family:ident: $of:ident { $($file:ident { $($case:ident: $from:ident $($role:ident)*;)* })* })*) => {$(
        mod $family {$(
            mod $file {$(
                mod $case {$(
                    #[test]
                    fn $role() {
                        let cast = crate::Cast::new(crate::Family::$of, stringify!($role));
                        crate::play(crate::$from::$case(cast));
                    }
                )*}
            )*}
        )*}
    )*};
}

cases! {
    hm: Hypermultifeed {
        new_basic {
            minimal_swarm_example: swarm rust_javascript javascript_rust rust_rust;
            multiple_topics_example: swarm rust_javascript javascript_rust rust_rust;
        }
        basic {
            no_feeds: basic rust;
            create_writer: basic rust;
            get_feed_by_key: basic rust;
            get_localfeed_by_name: basic rust;
            replicate_two_empty_multifeeds: basic rust_javascript javascript_rust rust_rust;
            replicate_two_multifeeds: basic rust_javascript javascript_rust rust_rust;
            live_replicate_two_multifeeds: basic rust_javascript javascript_rust rust_rust;
            get_localfeed_by_name_across_disk_loads: basic rust_javascript javascript_rust rust_rust;
            close: basic rust;
            close_after_double_open: basic rust_javascript javascript_rust rust_rust;
            can_provide_custom_encryption_key: basic rust_javascript javascript_rust rust_rust;
            replicate_slow_to_open_multifeeds: basic rust_javascript javascript_rust rust_rust;
            can_create_writer_with_custom_keypair: basic rust;
            can_replicate_with_custom_keypairs: basic rust_javascript javascript_rust rust_rust;
        }
        corestore {
            corestore_networker_example: swarm rust_javascript javascript_rust;
            corestore_to_multifeed_over_hyperswarm: swarm rust_javascript javascript_rust rust_rust;
        }
        mux {
            key_exchange_api: mux rust_javascript javascript_rust rust_rust;
            ensure_we_re_receiving_remote_handshake: mux rust_javascript javascript_rust rust_rust;
        }
        regression {
            concurrency_of_writer_creation: regression rust;
            mf_with_no_writer_replicate_to_mf_with_1_writer: regression rust_javascript javascript_rust rust_rust;
            start_replicating_before_feeds_are_loaded: regression rust_javascript javascript_rust rust_rust;
            announce_new_feed_on_existing_connections: regression rust_javascript javascript_rust rust_rust;
            replicate_before_multifeed_is_ready: regression rust;
            mfs_with_different_root_keys_cannot_replicate: regression rust_javascript javascript_rust rust_rust;
            calling_close_while_closing_should_not_throw_errors: regression rust;
            sync_two_single_core_multifeeds_w_different_storage_speeds: regression
                rust_javascript javascript_rust rust_rust;
            ensure_encryption_key_is_not_written_to_disk: regression rust;
            replicate_two_multifeeds_twice: regression rust_javascript javascript_rust rust_rust;
        }
    }
    mf6: Multifeed6 {
        basic {
            no_feeds: basic rust;
            create_writer: basic rust;
            get_feed_by_key: basic rust;
            get_localfeed_by_name: basic rust;
            replicate_two_multifeeds_one_empty: basic rust_javascript javascript_rust rust_rust;
            replicate_two_empty_multifeeds: basic rust_javascript javascript_rust rust_rust;
            replicate_two_multifeeds: basic rust_javascript javascript_rust rust_rust;
            live_replicate_two_multifeeds: basic rust_javascript javascript_rust rust_rust;
            get_localfeed_by_name_across_disk_loads: basic rust_javascript javascript_rust rust_rust;
            close: basic rust;
            close_after_double_open: basic rust_javascript javascript_rust rust_rust;
            can_provide_custom_encryption_key: basic rust_javascript javascript_rust rust_rust;
            replicate_slow_to_open_multifeeds: basic rust_javascript javascript_rust rust_rust;
            can_create_writer_with_custom_keypair: basic rust;
            can_replicate_with_custom_keypairs: basic rust_javascript javascript_rust rust_rust;
        }
        existing_protocol {
            replicate_from_existing_protocols: basic rust_javascript javascript_rust rust_rust;
            live_replicate_from_existing_protocols: basic rust_javascript javascript_rust rust_rust;
        }
        mux {
            key_exchange_api: mux rust_javascript javascript_rust rust_rust;
            ensure_we_re_receiving_remote_handshake: mux rust_javascript javascript_rust rust_rust;
        }
        regression {
            concurrency_of_writer_creation: regression rust;
            mf_with_no_writer_replicate_to_mf_with_1_writer: regression rust_javascript javascript_rust rust_rust;
            start_replicating_before_feeds_are_loaded: regression rust_javascript javascript_rust rust_rust;
            announce_new_feed_on_existing_connections: regression rust_javascript javascript_rust rust_rust;
            replicate_before_multifeed_is_ready: regression rust;
            mfs_with_different_root_keys_cannot_replicate: regression rust_javascript javascript_rust rust_rust;
            calling_close_while_closing_should_not_throw_errors: regression rust;
            sync_two_single_core_multifeeds_w_different_storage_speeds: regression
                rust_javascript javascript_rust rust_rust;
            ensure_encryption_key_is_not_written_to_disk: regression rust;
            replicate_two_multifeeds_twice: regression rust_javascript javascript_rust rust_rust;
        }
    }
}

#[test]
fn every_case_of_the_packages_has_its_tests_and_nothing_else_is_here() {
    let wanted: BTreeSet<_> = cases().iter().map(|case| case.module()).collect();
    assert_eq!(wanted.len(), 59);
    let tests = results::own_tests();
    let modules = tests.keys().filter_map(|test| Some(test.rsplit_once("::")?.0.to_owned()));
    assert_eq!(modules.collect::<BTreeSet<_>>(), wanted);
}

#[test]
fn the_committed_results_list_exactly_these_tests_and_all_of_them_as_good() {
    results::check(&results::render_cases(&results::own_tests()));
}
