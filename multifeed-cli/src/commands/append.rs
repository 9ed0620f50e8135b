//! `multifeed append`: blocks to a writer of this store.

use std::ops::Range;
use std::path::Path;

use multifeed_tokio::{Feed, Multifeed, NodeConfig};
use serde_json::{Value, json};

use crate::args::Append;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::{plural, printable};
use crate::store::{Missing, with_store};
use crate::{input, lines};

pub(super) async fn run(context: &Context, args: Append) -> Result<(), Failure> {
    let max = NodeConfig::default().max_block;
    // Before the store is touched: what cannot be read leaves nothing behind.
    let blocks = match &args.file {
        Some(path) => vec![read_file(context, path, max).await?],
        None => args.text.iter().map(|text| text.as_encoded_bytes().to_vec()).collect(),
    };
    let (directory, missing) = (&args.directory, Missing::Make(args.saving));
    with_store(context, directory, missing, async |store: &Multifeed| {
        let failed = |error| Failure::store(directory, &error);
        let feed = store.writer(args.writer.as_str()).await.map_err(failed)?;
        let whole = if args.lines {
            append_lines(context, directory, &feed, max).await?
        } else {
            let range = feed.append_batch(blocks).await.map_err(failed)?;
            context.output.say(|| line(&feed, &range), || text(&feed, &range));
            return Ok(());
        };
        if whole.is_empty() {
            context.output.say(|| line(&feed, &whole), || text(&feed, &whole));
        } else {
            context.output.say_to_person(|| text(&feed, &whole));
        }
        Ok(())
    })
    .await
}

/// Appends what comes; gives the range of all of it.
async fn append_lines(
    context: &Context,
    directory: &Path,
    feed: &Feed,
    max: usize,
) -> Result<Range<u64>, Failure> {
    let failed = |error| Failure::store(directory, &error);
    let length = feed.load().await.map_err(failed)?.length;
    let mut whole = length..length;
    let mut batches = lines::read_stdin(max);
    while let Some(batch) = batches.recv().await {
        let range = feed.append_batch(batch?).await.map_err(failed)?;
        context.output.say_to_program(|| line(feed, &range));
        whole = if whole.is_empty() { range } else { whole.start..range.end };
    }
    Ok(whole)
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
