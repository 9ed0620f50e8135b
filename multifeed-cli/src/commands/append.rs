//! `multifeed append`: blocks to a writer of this store.

use std::ops::Range;
use std::path::Path;

use multifeed_tokio::{Dialect, Feed, FeedInfo, Health, Multifeed, NodeConfig};
use serde_json::{Value, json};

use crate::advice;
use crate::args::Append;
use crate::context::Context;
use crate::failure::{Failure, INTERRUPTED};
use crate::output::{plural, printable};
use crate::store::{self, Missing, with_store};
use crate::{input, lines};

pub(super) async fn run(context: &Context, args: Append) -> Result<(), Failure> {
    let max = NodeConfig::default().max_block;
    // Before the store is touched: what cannot be read leaves nothing behind.
    let blocks = match &args.file {
        Some(path) => vec![read_file(context, path, max).await?],
        None => args.text.iter().map(|text| text.as_encoded_bytes().to_vec()).collect(),
    };
    let (directory, missing) = (&args.directory, Missing::Make(args.saving));
    if args.lines {
        return run_lines(context, &args, max).await;
    }
    with_store(context, directory, missing, async |store: &Multifeed| {
        let failed = |error| Failure::store(directory, &error);
        let feed = store.writer(args.writer.as_str()).await.map_err(failed)?;
        warn_of_fork(context, &feed.load().await.map_err(failed)?);
        let range = feed.append_batch(blocks).await.map_err(failed)?;
        context.output.say(|| line(&feed, &range), || text(&feed, &range));
        Ok(())
    })
    .await
}

/// Peers that have the other log take none of what is appended.
fn warn_of_fork(context: &Context, info: &FeedInfo) {
    if let Health::Forked { here, .. } = info.health {
        context.output.warn(format_args!(
            "this writer went on in two places after a copy of it was made: peers that have the other blocks take \
             nothing more of it, and {here} blocks are here; a writer of another name can be read by all"
        ));
    }
}

/// Appends the lines of standard input. Whatever ends it, it is known which of them are stored.
async fn run_lines(context: &Context, args: &Append, max: usize) -> Result<(), Failure> {
    let (directory, missing) = (&args.directory, Missing::Make(args.saving));
    let store = store::open(context, directory, missing, Dialect::default(), None).await?;
    let mut stored = 0;
    let result = append_lines(context, args, &store, max, &mut stored).await;
    let closed = store::close(&store, directory).await;
    // What failed first is what the user must know.
    result.and(closed).map_err(|failure| {
        let advice = advice::lines_stored(context.output.doing(), &args.writer, stored);
        // What to do about the cause comes first.
        let cause = match failure.code {
            INTERRUPTED => None,
            _ => failure.advice.clone().or_else(|| advice::of(context.output.doing(), &failure)),
        };
        let advice = cause.map_or_else(|| advice.clone(), |cause| format!("{cause}; {advice}"));
        failure.advice(advice).detail("lines", stored)
    })
}

/// Appends what comes, and counts the lines that are stored.
async fn append_lines(
    context: &Context,
    args: &Append,
    store: &Multifeed,
    max: usize,
    stored: &mut u64,
) -> Result<(), Failure> {
    let failed = |error| Failure::store(&args.directory, &error);
    let feed = store.writer(args.writer.as_str()).await.map_err(failed)?;
    let info = feed.load().await.map_err(failed)?;
    warn_of_fork(context, &info);
    let length = info.length;
    let mut whole = length..length;
    let mut batches = lines::read_stdin(max);
    loop {
        let batch = tokio::select! {
            batch = batches.recv() => batch,
            signal = context.signals.received() => return Err(Failure::interrupted(signal)),
        };
        let Some(batch) = batch else { break };
        // A batch is stored whole or not at all: its end is waited for.
        let range = feed.append_batch(batch?).await.map_err(failed)?;
        *stored += range.end - range.start;
        context.output.say_to_program(|| line(&feed, &range));
        whole = if whole.is_empty() { range } else { whole.start..range.end };
    }
    if whole.is_empty() {
        context.output.say(|| line(&feed, &whole), || text(&feed, &whole));
    } else {
        context.output.say_to_person(|| text(&feed, &whole));
    }
    Ok(())
}

fn line(feed: &Feed, range: &Range<u64>) -> Value {
    json!({
        "event": "appended",
        "key": feed.key().to_hex(),
        "name": feed.name(),
        "start": range.start,
        "length": range.end - range.start,
    })
}

fn text(feed: &Feed, range: &Range<u64>) -> String {
    let (name, key) = (printable(&feed.name()), feed.key().to_hex());
    let what = match range.end - range.start {
        0 => "nothing".to_owned(),
        1 => format!("block {}", range.start),
        count => format!("{} ({} to {})", plural(count, "block"), range.start, range.end - 1),
    };
    format!("appended {what} to {name}, feed {key}")
}

async fn read_file(context: &Context, path: &Path, max: usize) -> Result<Vec<u8>, Failure> {
    let name = if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let block = input::read(context, path, max as u64 + 1)
        .await?
        .map_err(|error| Failure::new("ERR_INPUT", format!("cannot read {name}: {error}")))?;
    if block.len() > max {
        let message = format!("{name} is too large for one block, which has at most {max} bytes");
        return Err(Failure::new("ERR_BLOCK_TOO_LARGE", message)
            .advice("split it into smaller files, or append a text by --lines")
            .detail("max", max));
    }
    Ok(block)
}
