//! `multifeed cat`: the blocks of a feed, as they are.

use std::io::{self, Write};
use std::path::Path;

use multifeed_tokio::{Feed, FeedKey, Multifeed};

use crate::args::Cat;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{lost, plural};
use crate::store::{Missing, with_store};

pub(super) async fn run(context: &Context, args: Cat) -> Result<(), Failure> {
    let directory = &args.directory;
    with_store(context, directory, Missing::Read, async |store: &Multifeed| {
        let feed = find(store, directory, &args.feed)?;
        let info = feed.load().await.map_err(|error| Failure::store(directory, &error))?;
        let end = args.to.unwrap_or(info.length);
        if args.from > end || end > info.length {
            let from = args.from;
            let has = plural(info.length, "block");
            let (message, advice) = if args.to.is_some_and(|to| to < from) {
                let message = format!("--from {from} is behind --to {end}");
                (message, "--from is the first block, --to the one to stop before")
            } else if from > info.length {
                let message = format!("there is no block {from}: the feed has {has}");
                (message, "blocks are counted from 0")
            } else {
                let message = format!("there is no block {}: the feed has {has}", end - 1);
                (message, "blocks are counted from 0; --to is the one to stop before")
            };
            return Err(Failure::new("ERR_RANGE", message)
                .advice(advice)
                .detail("from", args.from)
                .detail("to", end)
                .detail("length", info.length));
        }
        write(context, directory, &feed, args.from, end).await
    })
    .await
}

fn find(store: &Multifeed, directory: &Path, feed: &str) -> Result<Feed, Failure> {
    let by_key = feed.parse::<FeedKey>().ok().and_then(|key| store.feed(&key));
    by_key.or_else(|| store.feed_named(feed)).ok_or_else(|| {
        let place = directory.display();
        Failure::new("ERR_UNKNOWN_FEED", format!("no feed in {place} has the name or key {feed:?}"))
            .advice(format!("`multifeed feeds {place}` lists them"))
            .detail("feed", feed)
    })
}

async fn write(
    context: &Context,
    directory: &Path,
    feed: &Feed,
    from: u64,
    end: u64,
) -> Result<(), Failure> {
    let mut next = from;
    while next < end {
        let read = feed.read(next, end - next, READ_BYTES).await;
        let blocks = read.map_err(|error| Failure::store(directory, &error))?;
        if blocks.is_empty() {
            let key = feed.key().to_hex();
            let message = format!("block {next} of feed {key} is not here");
            return Err(Failure::new("ERR_NOT_HERE", message)
                .advice("sync with a peer that has it")
                .detail("feed", key)
                .detail("index", next));
        }
        next += blocks.len() as u64;
        context.output.begin_raw();
        let mut output = io::stdout().lock();
        let mut written = blocks.iter().try_for_each(|block| output.write_all(block));
        written = written.and_then(|()| output.flush());
        if let Err(error) = written {
            // A reader like `head` that has seen enough is a good end.
            return lost(&error).map_or(Ok(()), Err);
        }
    }
    Ok(())
}

/// Bytes of blocks in memory at once.
const READ_BYTES: usize = 0x10_0000;
