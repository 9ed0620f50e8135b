//! The program `multifeed`: a folder of append-only feeds by many writers, synced over TCP.
//!
//! | module | what is in it |
//! |---|---|
//! | `args` | the command line |
//! | `advice` | what the user can do about a failure |
//! | `commands` | one module a command |
//! | `store`, `keys` | opening a store with the key that was given or saved |
//! | `peers` | what `serve` and `sync` share: addresses, the end of connections |
//! | `input`, `lines` | files that the user names; standard input as batches of blocks |
//! | `output`, `failure` | what is printed, for people and for programs |
//! | `sharing` | which feeds are shared with which peers |
//! | `strangers` | what `serve` says of connections that proved nothing |
//! | `signals` | Ctrl-C |
//!
//! There is no protocol and no storage here: that is `multifeed-tokio` and what is below it.
#![forbid(unsafe_code)]

mod advice;
mod args;
mod commands;
mod context;
mod failure;
mod input;
mod keys;
mod lines;
mod output;
mod peers;
mod sharing;
mod signals;
mod store;
mod strangers;

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use multifeed_proto::KeyParseError;
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::EnvFilter;

use crate::advice::Doing;
use crate::args::{Args, Command};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Output;
use crate::signals::Signals;

fn main() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| without_keys(error).exit());
    check(&args);
    log(args.global.verbose);
    let output = Output::new(args.global.json, Doing::new(&args.command));
    let result = run(args, &output);
    match result {
        Ok(code) => code,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit)
        }
    }
}

fn run(args: Args, output: &Output) -> Result<ExitCode, Failure> {
    let runtime = runtime(&args.command).map_err(no_runtime)?;
    let code = runtime.block_on(async {
        let signals = Signals::listen().map_err(no_runtime)?;
        let context = Context { global: args.global, output: output.clone(), signals };
        commands::run(&context, args.command).await
    });
    // Nothing is left to be waited for but a name that takes long to look up.
    runtime.shutdown_background();
    code
}

/// One thread is the fastest for one connection: no hop from task to task. A server has many.
fn runtime(command: &Command) -> io::Result<Runtime> {
    let mut builder = match command {
        Command::Serve(_) => Builder::new_multi_thread(),
        Command::Demo
        | Command::Init(_)
        | Command::Append(_)
        | Command::Feeds(_)
        | Command::Cat(_)
        | Command::Block(_)
        | Command::Unblock(_)
        | Command::Verify(_)
        | Command::Truncate(_)
        | Command::Convert(_)
        | Command::Sync(_) => Builder::new_current_thread(),
    };
    builder.enable_all().build()
}

fn no_runtime(error: io::Error) -> Failure {
    Failure::new("ERR_SYSTEM", format!("the operating system does not let us start: {error}"))
}

/// An error about a key does not repeat it: it may be the secret one, with a slip in it.
fn without_keys(mut error: clap::Error) -> clap::Error {
    if error.source().is_some_and(|source| source.is::<KeyParseError>()) {
        error.insert(ContextKind::InvalidValue, ContextValue::String("\u{2026}".to_owned()));
    }
    error
}

/// What clap cannot check: it does not see options before and after the command together, and
/// repeats in its errors what was given.
fn check(args: &Args) {
    let global = &args.global;
    let keys = [global.key.is_some(), global.key_file.is_some(), global.insecure_default_key];
    if keys.into_iter().filter(|given| *given).count() > 1 {
        let message = "only one of --key, --key-file and --insecure-default-key can be used";
        Args::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    let stdin = Some(Path::new("-"));
    let reads_stdin = match &args.command {
        Command::Append(append) => append.lines || append.file.as_deref() == stdin,
        Command::Demo
        | Command::Init(_)
        | Command::Feeds(_)
        | Command::Cat(_)
        | Command::Block(_)
        | Command::Unblock(_)
        | Command::Verify(_)
        | Command::Truncate(_)
        | Command::Convert(_)
        | Command::Serve(_)
        | Command::Sync(_) => false,
    };
    if reads_stdin && global.key_file.as_deref() == stdin {
        let message = "standard input cannot hold both the key and the blocks";
        Args::command().error(ErrorKind::ArgumentConflict, message).exit();
    }
    if let Some(Err(error)) = global.key.as_ref().map(|key| keys::check(&key.0)) {
        Args::command().error(ErrorKind::ValueValidation, format!("--key: {error}")).exit();
    }
}

/// What this program and the crates below it say; with RUST_LOG, what that asks for.
fn log(verbose: u8) {
    let level = match verbose {
        0 => "off",
        1 => "debug",
        2.. => "trace",
    };
    let ours = || EnvFilter::new(format!("off,multifeed={level},multifeed_core={level}"));
    let filter = match EnvFilter::try_from_default_env() {
        Ok(filter) if verbose == 0 => filter,
        Ok(_) | Err(_) => ours(),
    };
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
}
