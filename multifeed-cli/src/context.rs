//! What every command has at hand.

use crate::args::Global;
use crate::output::Output;
use crate::signals::Signals;

/// What every command has at hand.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) global: Global,
    pub(crate) output: Output,
    pub(crate) signals: Signals,
}
