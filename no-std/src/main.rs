//! A program without `std` and without an operating system, on both pure crates.
//!
//! It is checked and built, not run. If `std` came in through any dependency, its panic handler and
//! this one would be two, which is error E0152. That would not show in a library.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicUsize, Ordering};

use multifeed_core::storage::Memory;
use multifeed_core::{Node, NodeConfig, Outcome, Output, StoreOptions};
use multifeed_proto::{Config, Connection, Entropy, Now, Role, RootKey};

/// Gives out one piece of memory from front to back, and takes nothing back.
struct Arena {
    bytes: UnsafeCell<[u8; ARENA_BYTES]>,
    used: AtomicUsize,
}

// SAFETY: `used` gives every byte out once.
unsafe impl Sync for Arena {}

// SAFETY: each call gives out bytes of its own, aligned, or null.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let base = self.bytes.get().cast::<u8>();
        let mut start = 0;
        let claimed = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            start = used + (base as usize + used).wrapping_neg() % layout.align();
            start.checked_add(layout.size()).filter(|end| *end <= ARENA_BYTES)
        });
        // SAFETY: `start` lies within the arena if bytes were claimed.
        claimed.map_or(core::ptr::null_mut(), |_| unsafe { base.add(start) })
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static ARENA: Arena = Arena { bytes: UnsafeCell::new([0; ARENA_BYTES]), used: AtomicUsize::new(0) };

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// What a board would call after its start, with entropy and time from its own hardware: opens a store,
/// and gives the first bytes for a peer.
#[unsafe(no_mangle)]
pub extern "C" fn multifeed_start(seed: &[u8; 32], milliseconds: u64) -> usize {
    let now = Now(core::time::Duration::from_millis(milliseconds));
    let mut memory = Memory::new();
    let mut node = Node::new(NodeConfig::default(), Entropy::from_seed(*seed), now);
    node.open(now, StoreOptions::default());
    drain(&mut node, &mut memory, now);
    node.join(now, RootKey::new([7; 32]));
    if let Some(Outcome::Joined(multifeed)) = drain(&mut node, &mut memory, now) {
        node.writer(now, multifeed, Some("local"), None);
        drain(&mut node, &mut memory, now);
    }
    let Some(connection) = node.connect(now, Role::Initiator) else { return 0 };
    drain(&mut node, &mut memory, now);
    let first: Vec<u8> = node.transmit(connection).to_vec();
    node.transmitted(now, connection, first.len());

    // The layer below can be used alone.
    let config = Config::default();
    let mut bare = Connection::new(Role::Responder, config, Entropy::from_seed(*seed), now);
    bare.handle_bytes(now, &first);
    bare.transmit().len()
}

/// Does what the node wants; gives what came of the last command.
fn drain(node: &mut Node, memory: &mut Memory, now: Now) -> Option<Outcome> {
    let mut last = None;
    while let Some(output) = node.poll_output() {
        match output {
            Output::Storage(batch) => {
                let result = memory.execute(&batch);
                node.handle_storage(now, result);
            }
            Output::Completed { result, .. } => last = result.ok(),
            _ => {}
        }
    }
    last
}

const ARENA_BYTES: usize = 0x10_0000;
