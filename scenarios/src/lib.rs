//! What every adapter must do: scenarios written once, for any [`Host`], and run on each runtime over
//! real sockets and files by `tests/`.
//!
//! | file | what is in it |
//! |---|---|
//! | `host` | tokio on many threads and on one, smol, async-std |
//! | `peer` | a store in a folder, and two of them connected |
//! | `stores` | one store: handles, errors |
//! | `sync` | two stores over TCP |
//! | `lifecycle` | ends of all kinds, at any moment |
//! | `pressure` | peers, disks and applications that are slow: memory, the others, the close |
//!
//! Not here: what can be shown on a virtual clock (`multifeed-driver/tests`), and what needs Node
//! (`conformance/tests/runtimes.rs`, for the same hosts).
#![allow(clippy::unwrap_used, clippy::missing_panics_doc, reason = "a scenario fails by panicking")]

mod host;
pub mod lifecycle;
mod peer;
pub mod pressure;
pub mod stores;
pub mod sync;

pub use host::{AsyncStd, Host, Smol, TokioThread, TokioThreads, blocking, run, spawn, timeout};
pub use peer::{End, PATIENCE, Peer, check, connected, feed_in, in_sync, options, same, tcp};

/// Makes a test of every scenario on a host.
#[macro_export]
macro_rules! scenarios {
    ($host:ty) => {
        $crate::scenarios!($host: stores {
            appended_blocks_are_read_and_last
            power_durability_works_through_threads
            a_large_batch_goes_through_a_thread
            a_get_is_answered_by_a_later_append
            a_get_fails_after_its_time_and_says_what_it_waited_for
            a_subscription_gives_old_and_new_blocks_in_order
            a_slow_reader_of_events_is_told_what_it_missed
            options_without_a_key_are_refused
            a_file_in_place_of_the_folder_is_refused
            a_block_that_is_too_large_is_refused_and_the_writer_goes_on
            a_loop_of_appends_lets_other_tasks_run
        });
        $crate::scenarios!($host: sync {
            two_stores_sync_over_tcp
            blocks_appended_while_connected_arrive
            three_stores_in_a_line_pass_blocks_on
            events_tell_how_a_sync_goes
            a_dropped_replication_cuts_the_peer_off_and_loses_nothing_stored
            an_aborted_replication_says_so
            a_peer_that_speaks_nonsense_is_named_in_the_error
            a_peer_that_leaves_in_the_handshake_is_an_error
            another_root_key_is_said_to_be_another
            a_burst_of_peers_is_accepted
        });
        $crate::scenarios!($host: lifecycle {
            a_store_has_one_owner_until_it_is_closed
            closing_twice_is_closing_once
            a_closed_store_refuses_everything_at_once
            a_replication_on_a_closed_store_ends_at_once
            a_store_whose_handles_are_all_dropped_closes_by_itself
            an_append_that_is_dropped_midway_does_no_harm
            a_store_closed_during_a_sync_ends_it_and_keeps_what_it_acknowledged
            a_close_that_is_dropped_closes_all_the_same
        });
    };
    ($host:ty: $file:ident { $($scenario:ident)* }) => {
        mod $file {
            use super::*;
            $(
                #[test]
                fn $scenario() {
                    $crate::run::<$host>($crate::$file::$scenario::<$host>());
                }
            )*
        }
    };
}
