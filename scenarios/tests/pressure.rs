//! Back-pressure on every host. Memory is measured for the whole process, so one at a time.
#![allow(missing_docs)]

use std::sync::{Mutex, PoisonError};

use peak_alloc::PeakAlloc;
use scenarios::{AsyncStd, Host, Smol, TokioThread, TokioThreads, pressure, run};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

static ONE: Mutex<()> = Mutex::new(());

macro_rules! on_every_host {
    ($($scenario:ident)*) => {$(
        #[test]
        fn $scenario() {
            fn on<H: Host>() {
                println!("on {}", std::any::type_name::<H>());
                run::<H>(pressure::$scenario::<H>());
            }
            let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
            on::<TokioThread>();
            on::<TokioThreads>();
            on::<Smol>();
            on::<AsyncStd>();
        }
    )*};
}

on_every_host! {
    a_peer_that_reads_one_byte_a_second
    a_disk_that_takes_a_second_for_each_write
    an_application_that_reads_no_events
}
