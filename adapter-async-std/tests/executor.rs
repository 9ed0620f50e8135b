//! An executor of the program's own, and its end.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::{Arc, Mutex};

use multifeed_async_std::{Durability, Executor, FuturesRuntime, Hosted, Options, RootKey, Task};

static CURRENT: Mutex<Option<Arc<smol::Executor<'static>>>> = Mutex::new(None);

/// Runs tasks on the executor of the moment.
enum Own {}

impl Executor for Own {
    fn spawn(task: Task) {
        CURRENT.lock().unwrap().as_ref().expect("an executor").spawn(task).detach();
    }
}

type Multifeed = Hosted<FuturesRuntime<Own>>;

#[test]
fn an_executor_that_ends_in_mid_write_loses_no_acknowledged_block() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options::default().durability(Durability::Power).root_key(RootKey::new([7; 32]));
    let mut acknowledged = 0;
    for round in 0..5 {
        let executor = Arc::new(smol::Executor::new());
        *CURRENT.lock().unwrap() = Some(Arc::clone(&executor));
        let multi = smol::block_on(executor.run(async {
            // A write that had begun goes on without the executor, and keeps the lock meanwhile.
            let multi = loop {
                match Multifeed::open(folder.path(), options.clone()).await {
                    Ok(multi) => break multi,
                    Err(error) => assert_eq!(error.code(), "ERR_IN_USE", "{error}"),
                }
            };
            let writer = multi.writer("local").await.unwrap();
            assert!(writer.len() >= acknowledged, "{} of {acknowledged}", writer.len());
            for _ in 0..round {
                acknowledged = writer.append(vec![7; 1_000_000]).await.unwrap() + 1;
            }
            let in_flight = writer.append(vec![7; 1_000_000]);
            smol::future::or(async { drop(in_flight.await) }, smol::future::yield_now()).await;
            multi
        }));
        *CURRENT.lock().unwrap() = None;
        drop(executor);
        let error = smol::block_on(multi.close()).unwrap_err();
        assert_eq!(error.code(), "ERR_CLOSED");
    }
    assert!(acknowledged >= 10, "{acknowledged}");
}
