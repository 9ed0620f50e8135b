//! What the program prints: JSON lines for programs, or text for people.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use multifeed_tokio::Counters;
use multifeed_tokio::core::convert::Progress as Copied;
use serde_json::{Value, json};

use crate::advice::{self, Doing};
use crate::failure::Failure;

/// Where the program prints to, and in which form.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    json: bool,
    doing: Arc<Doing>,
    /// Bytes of blocks went to standard output, so that no line may follow there.
    raw: Arc<AtomicBool>,
}

impl Output {
    pub(crate) fn new(json: bool, doing: Doing) -> Self {
        Self { json, doing: Arc::new(doing), raw: Arc::default() }
    }

    /// What the program is doing.
    pub(crate) fn doing(&self) -> &Doing {
        &self.doing
    }

    /// Prints an event: `line` for programs, else `text` for people.
    ///
    /// Nobody listening is no reason to stop the work, so that is not an error here.
    pub(crate) fn say(&self, line: impl FnOnce() -> Value, text: impl FnOnce() -> String) {
        let text = if self.json { line().to_string() } else { text() };
        if let Err(error) = print(&mut io::stdout().lock(), &text) {
            tracing::debug!(%error, "standard output is gone");
        }
    }

    /// Prints what a command is there for.
    ///
    /// # Errors
    ///
    /// If it could not be written, but for a reader that has seen enough.
    pub(crate) fn result(
        &self,
        line: impl FnOnce() -> Value,
        text: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        let text = if self.json { line().to_string() } else { text() };
        match print(&mut io::stdout().lock(), &text) {
            Ok(()) => Ok(()),
            Err(error) => lost(&error).map_or(Ok(()), Err),
        }
    }

    /// Prints an event for programs only.
    pub(crate) fn say_to_program(&self, line: impl FnOnce() -> Value) {
        if self.json {
            self.say(line, String::new);
        }
    }

    /// Prints what a program has been told piece by piece, for people.
    pub(crate) fn say_to_person(&self, text: impl FnOnce() -> String) {
        if !self.json {
            self.say(Value::default, text);
        }
    }

    /// Marks that bytes of blocks go to standard output from here on.
    pub(crate) fn begin_raw(&self) {
        self.raw.store(true, Ordering::Relaxed);
    }

    /// Says something to a person that a program reads nowhere.
    pub(crate) fn note(&self, text: impl Display) {
        if !self.json {
            let _nobody_reads = print(&mut io::stderr().lock(), &text.to_string());
        }
    }

    /// Warns a person, whoever reads the rest.
    pub(crate) fn warn(&self, text: impl Display) {
        let _nobody_reads = print(&mut io::stderr().lock(), &format!("warning: {text}"));
    }

    /// Says why the command, or one peer, failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        let advice = failure.advice.clone().or_else(|| advice::of(&self.doing, failure));
        if !self.json {
            let mut text = format!("error: {}", failure.message);
            if let Some(advice) = &advice {
                text.push_str("\n  ");
                text.push_str(advice);
            }
            let _nobody_reads = print(&mut io::stderr().lock(), &text);
            return;
        }
        let mut line = json!({
            "event": "error",
            "code": failure.code,
            "message": failure.message,
        });
        if let Some(fields) = line.as_object_mut() {
            fields.extend(failure.details.clone());
            if let Some(advice) = &advice {
                fields.insert("advice".to_owned(), advice.as_str().into());
            }
        }
        let text = line.to_string();
        let _nobody_reads = if self.raw.load(Ordering::Relaxed) {
            print(&mut io::stderr().lock(), &text)
        } else {
            print(&mut io::stdout().lock(), &text)
        };
    }

    /// A bar that shows how a sync goes, if a person watches.
    pub(crate) fn progress(&self) -> Progress {
        let watched = !self.json && io::stderr().is_terminal();
        Progress { output: self.clone(), bar: watched.then(new_bar) }
    }
}

/// How a sync goes, on a terminal or as lines.
#[derive(Debug)]
pub(crate) struct Progress {
    output: Output,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn show(&self, counters: &Counters) {
        if let Some(bar) = &self.bar {
            bar.set_length(counters.blocks_received + counters.missing);
            bar.set_position(counters.blocks_received);
            bar.set_message(format!(
                "blocks received ({}), {} sent ({})",
                HumanBytes(counters.block_bytes_received),
                HumanCount(counters.blocks_sent),
                HumanBytes(counters.block_bytes_sent),
            ));
        } else {
            self.output.say_to_program(|| {
                let mut line = counts("progress", counters);
                line["missing"] = counters.missing.into();
                line
            });
        }
    }

    /// Shows how a conversion goes.
    pub(crate) fn show_copied(&self, copied: &Copied) {
        if let Some(bar) = &self.bar {
            bar.set_length(copied.bytes);
            bar.set_position(copied.bytes_done);
            let (done, all) = (HumanBytes(copied.bytes_done), HumanBytes(copied.bytes));
            bar.set_message(format!("bytes copied ({done} of {all})"));
        } else {
            self.output.say_to_program(|| {
                json!({
                    "event": "progress",
                    "feeds": copied.feeds_done,
                    "feeds_total": copied.feeds,
                    "bytes": copied.bytes_done,
                    "bytes_total": copied.bytes,
                })
            });
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The counts of a connection as a JSON line.
pub(crate) fn counts(event: &str, counters: &Counters) -> Value {
    json!({
        "event": event,
        "feeds": counters.feeds,
        "blocks_received": counters.blocks_received,
        "blocks_sent": counters.blocks_sent,
        "bytes_received": counters.block_bytes_received,
        "bytes_sent": counters.block_bytes_sent,
    })
}

/// The counts of a connection for people.
pub(crate) fn summary(counters: &Counters) -> String {
    format!(
        "{}, {} received ({}), {} sent ({})",
        plural(counters.feeds, "feed"),
        plural(counters.blocks_received, "block"),
        HumanBytes(counters.block_bytes_received),
        HumanCount(counters.blocks_sent),
        HumanBytes(counters.block_bytes_sent),
    )
}

/// `1 block`, `2 blocks`.
pub(crate) fn plural(count: u64, thing: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {thing}{s}", HumanCount(count))
}

/// Text from elsewhere, harmless to a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let kept = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(kept)
        })
        .collect()
}

/// The failure to write to standard output; `None` if the reader has simply seen enough.
pub(crate) fn lost(error: &io::Error) -> Option<Failure> {
    let message = format!("cannot write to standard output: {error}");
    (error.kind() != io::ErrorKind::BrokenPipe).then(|| Failure::new("ERR_OUTPUT", message))
}

fn print(to: &mut dyn Write, text: &str) -> io::Result<()> {
    to.write_all(format!("{text}\n").as_bytes())?;
    to.flush()
}

fn new_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {bar:30} {human_pos}/{human_len} {msg}");
    let bar = ProgressBar::new(0);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message("blocks received");
    bar.enable_steady_tick(std::time::Duration::from_millis(100));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\nü"), "a\\u{1b}[2Jb\\nü");
    }

    #[test]
    fn one_is_no_plural() {
        assert_eq!(plural(1, "feed"), "1 feed");
        assert_eq!(plural(0, "feed"), "0 feeds");
        assert_eq!(plural(12_345, "block"), "12,345 blocks");
    }
}
