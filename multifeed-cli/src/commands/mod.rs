//! The commands, one module each. What they share is beside this folder.

mod append;
mod block;
mod cat;
mod convert;
mod demo;
mod feeds;
mod init;
mod serve;
mod sync;
mod truncate;
mod verify;

use std::process::ExitCode;

use crate::args::Command;
use crate::context::Context;
use crate::failure::Failure;

/// Runs a command; gives its exit code unless it failed.
pub(crate) async fn run(context: &Context, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Demo => demo::run(context).await?,
        Command::Init(args) => init::run(context, args).await?,
        Command::Append(args) => append::run(context, args).await?,
        Command::Feeds(args) => feeds::run(context, args).await?,
        Command::Cat(args) => cat::run(context, args).await?,
        Command::Block(args) => block::run(context, args, true).await?,
        Command::Unblock(args) => block::run(context, args, false).await?,
        Command::Verify(args) => return verify::run(context, args).await,
        Command::Truncate(args) => return truncate::run(context, args).await,
        Command::Convert(args) => return convert::run(context, args).await,
        Command::Serve(args) => return serve::run(context, args).await,
        Command::Sync(args) => sync::run(context, args).await?,
    }
    Ok(ExitCode::SUCCESS)
}
