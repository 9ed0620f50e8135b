//! `multifeed feeds`: what is in a store.

use std::fmt::Write;

use indicatif::HumanBytes;
use multifeed_tokio::{FeedInfo, FeedKey, FolderProblem, Health, Multifeed};
use serde_json::{Value, json};

use crate::args::Feeds;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::printable;
use crate::peers::{feed_failed, fork};
use crate::store::{Missing, with_store};

pub(super) async fn run(context: &Context, args: Feeds) -> Result<(), Failure> {
    let directory = &args.directory;
    with_store(context, directory, Missing::Read, async |store: &Multifeed| {
        let (mut feeds, mut failure) = (Vec::new(), None);
        for feed in store.feeds() {
            match feed.load().await {
                Ok(info) => feeds.push((info, None)),
                Err(error) => {
                    if let multifeed_tokio::Error::Node(error) = &error {
                        failure.get_or_insert_with(|| feed_failed(&feed.key(), error));
                    }
                    feeds.push((feed.info(), Some(error.code())));
                }
            }
        }
        let problems = store.store().survey().await;
        let problems = problems.map_err(|error| Failure::store(directory, &error))?;
        let blocked: Vec<_> = store.store().blocked().iter().map(FeedKey::to_hex).collect();
        context.output.result(|| line(&feeds, &blocked, &problems), || table(&feeds, &blocked))?;
        match problems.iter().find(|found| found.damaged) {
            Some(found) if failure.is_none() => {
                let place = directory.display();
                let message =
                    format!("{place}: folder {} is damaged: {}", found.folder, found.problem);
                Err(Failure::new("ERR_FEED_DAMAGED", message)
                    .advice(format!(
                        "`multifeed verify {place} --repair` restores what can be restored"
                    ))
                    .detail("folder", found.folder.as_str()))
            }
            Some(_) | None => failure.map_or(Ok(()), Err),
        }
    })
    .await
}

type Listed = (FeedInfo, Option<&'static str>);

fn line(feeds: &[Listed], blocked: &[String], problems: &[FolderProblem]) -> Value {
    let feeds = feeds.iter().map(|(info, error)| {
        let mut feed = json!({
            "key": info.key.to_hex(),
            "name": info.name,
            "writable": info.writable,
            "length": info.length,
            "blocks": info.blocks,
            "bytes": info.bytes,
            "health": info.health.code(),
        });
        if let Some(fork) = fork(&info.health) {
            feed["fork"] = fork;
        }
        if info.lost > 0 {
            feed["lost"] = info.lost.into();
        }
        if let Some(error) = error {
            feed["error"] = (*error).into();
        }
        feed
    });
    let mut line = json!({ "feeds": feeds.collect::<Vec<_>>() });
    if !problems.is_empty() {
        let problem = |found: &FolderProblem| json!({ "folder": found.folder, "problem": found.problem, "damaged": found.damaged });
        line["folders"] = problems.iter().map(problem).collect();
    }
    if !blocked.is_empty() {
        line["blocked"] = blocked.into();
    }
    line
}

/// What there is to know of a feed beside its numbers.
fn about(info: &FeedInfo, error: Option<&'static str>) -> String {
    let written = if info.writable { "written here" } else { "" };
    match (error, &info.health) {
        (Some(error), _) => error.to_owned(),
        (None, Health::Forked { here, there }) => match there {
            Some(there) => format!("forked: {here} blocks here, {there} others elsewhere"),
            None => format!("forked: {here} blocks here, others elsewhere"),
        },
        (None, Health::DamagedHere { .. }) if info.lost > 0 => {
            "written here, and damaged".to_owned()
        }
        (None, Health::DamagedHere { .. }) => "damaged".to_owned(),
        (None, _) => written.to_owned(),
    }
}

/// Aligned columns. Keys are whole: they are there to be copied.
fn table(feeds: &[Listed], blocked: &[String]) -> String {
    let kept_out = blocked.iter().fold(String::new(), |mut text, key| {
        let _infallible = write!(text, "\nblocked: {key}");
        text
    });
    if feeds.is_empty() {
        return "no feeds yet with this root key; `append` makes one, `sync` and `serve` bring those of others"
            .to_owned()
            + &kept_out;
    }
    let heading = ["NAME", "KEY", "BLOCKS", "SIZE", ""].map(str::to_owned);
    let rows = feeds.iter().map(|(info, error)| {
        let blocks = if info.blocks == info.length {
            info.length.to_string()
        } else {
            format!("{} of {}", info.blocks, info.length)
        };
        let about = about(info, *error);
        let size = HumanBytes(info.bytes).to_string();
        [printable(&info.name), info.key.to_hex(), blocks, size, about]
    });
    let rows: Vec<_> = std::iter::once(heading).chain(rows).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 4] = std::array::from_fn(width);
    let mut text = String::new();
    for [name, key, blocks, size, about] in &rows {
        let [w0, w1, w2, w3] = widths;
        let mut row = String::new();
        let _infallible = write!(row, "{name:w0$}  {key:w1$}  {blocks:>w2$}  {size:>w3$}  {about}");
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text.pop();
    text + &kept_out
}

#[cfg(test)]
mod tests {
    use multifeed_tokio::FeedKey;
    use multifeed_tokio::core::FeedId;

    use super::*;

    #[test]
    fn columns_are_aligned_and_a_feed_with_gaps_says_so() {
        let feed = |name: &str, length, blocks| FeedInfo {
            id: FeedId(0),
            key: FeedKey([0xab; 32]),
            name: name.to_owned(),
            loaded: true,
            blocked: false,
            writable: name == "grüße",
            length,
            lost: 0,
            blocks,
            bytes: 2048,
            health: Health::Sound,
        };
        let text = table(&[(feed("grüße", 1, 1), None), (feed("a\tb", 100, 99), None)], &[]);
        let key = "ab".repeat(32);
        let pad = " ".repeat(61);
        assert_eq!(
            text,
            format!(
                "NAME   KEY{pad}     BLOCKS      SIZE\n\
                 grüße  {key}          1  2.00 KiB  written here\n\
                 a\\tb   {key}  99 of 100  2.00 KiB"
            )
        );
    }
}
