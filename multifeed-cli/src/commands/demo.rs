//! `multifeed demo`.
use crate::context::Context;
use crate::failure::Failure;

pub(super) async fn run(_context: &Context) -> Result<(), Failure> {
    Ok(())
}
