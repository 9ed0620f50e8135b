//! What a host takes from its peers. The one place where that is chosen, and where it is said what
//! the host must have in the end.

use multifeed_core::NodeConfig;

use super::rng::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Every feed that is offered, and every block of it.
    AcceptAll,
}

impl Policy {
    pub fn draw(_rng: &mut Rng) -> Self {
        Self::AcceptAll
    }

    pub fn configure(self, _config: &mut NodeConfig) {
        match self {
            Self::AcceptAll => {}
        }
    }

    /// Whether the host must have every block of this writer's feed in the end.
    pub fn expects(self, _writer: usize) -> bool {
        match self {
            Self::AcceptAll => true,
        }
    }
}
