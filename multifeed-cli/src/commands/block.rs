//! `multifeed block` and `multifeed unblock`: feeds that are kept out of a store.

use multifeed_tokio::Multifeed;
use serde_json::json;

use crate::args::Block;
use crate::context::Context;
use crate::failure::Failure;
use crate::store::{Missing, with_store};

/// Keeps feeds out, or lets them in again.
pub(super) async fn run(context: &Context, args: Block, keep_out: bool) -> Result<(), Failure> {
    let directory = &args.directory;
    with_store(context, directory, Missing::Refuse, async |multifeed: &Multifeed| {
        let store = multifeed.store();
        for key in &args.feeds {
            let known = multifeed.feed(key).is_some();
            let done = if keep_out { store.block(key).await } else { store.unblock(key).await };
            done.map_err(|error| Failure::store(directory, &error).detail("feed", key.to_hex()))?;
            let (event, key) = (if keep_out { "blocked" } else { "unblocked" }, key.to_hex());
            context.output.say(
                || json!({ "event": event, "feed": &key }),
                || match (keep_out, known) {
                    (true, true) => format!(
                        "blocked {key}: its blocks are removed, and it will not be fetched again"
                    ),
                    (true, false) => format!("blocked {key}: it will not be fetched"),
                    (false, _) => format!("unblocked {key}: the next sync fetches it"),
                },
            );
        }
        Ok(())
    })
    .await
}
