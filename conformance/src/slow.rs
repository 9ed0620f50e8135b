//! Storage that takes its time.

use std::sync::Arc;
use std::time::Duration;

use multifeed_tokio::core::storage::Batch;
use multifeed_tokio::{Execution, MemoryStorage, Storage};
use tokio::sync::oneshot;

/// A store in memory in which each batch takes as long as this.
#[derive(Debug)]
pub struct SlowStorage {
    memory: Arc<MemoryStorage>,
    latency: Duration,
}

impl SlowStorage {
    /// An empty one.
    #[must_use]
    pub fn new(latency: Duration) -> Self {
        Self { memory: Arc::default(), latency }
    }
}

impl Storage for SlowStorage {
    fn execute(&self, batch: Batch) -> Execution {
        let (memory, latency) = (Arc::clone(&self.memory), self.latency);
        let (sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            tokio::time::sleep(latency).await;
            if let Execution::Done(result) = memory.execute(batch) {
                // The store may have gone.
                let _ = sender.send(result);
            }
        });
        Execution::Running(Box::pin(async { receiver.await.expect("the batch is executed") }))
    }

    fn close(&self) {
        self.memory.close();
    }
}
