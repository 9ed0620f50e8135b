//! What an input led to, by name: the floor below which the kept inputs must not fall.

use alloc::collections::BTreeSet;

use crate::PeerError;

/// Names of the errors, findings and outcomes that inputs led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reached(pub BTreeSet<&'static str>);

impl Reached {
    /// Notes a name.
    pub fn note(&mut self, name: &'static str) {
        self.0.insert(name);
    }

    /// Notes the error in a result, if there is one.
    pub fn peer<T>(&mut self, result: &Result<T, PeerError>) {
        if let Err(error) = result {
            self.note(peer_error(error));
        }
    }
}

/// What a variant is called that has no name here yet. It belongs into the list below, and into that of each
/// target that can reach it (`fuzz/src/floor.rs`).
pub const NEW: &str = "a variant without a name";

/// A list of the variants of an enum, and their names.
#[doc(hidden)]
#[macro_export]
macro_rules! fuzz_names {
    ($all:ident, $name:ident, $type:ident: $($variant:ident)*) => {
        /// The names of all variants.
        pub const $all: &[&str] = &[$(stringify!($variant)),*];

        /// The name of a variant, or `NEW`.
        #[must_use]
        pub const fn $name(value: &$type) -> &'static str {
            #[allow(unreachable_patterns, reason = "until there is a new one")]
            match value {
                $($type::$variant { .. } => stringify!($variant),)*
                _ => $crate::fuzzing::NEW,
            }
        }
    };
}

fuzz_names!(PEER_ERRORS, peer_error, PeerError:
    HandshakeLength Handshake HandshakePayload OtherProtocol NotAllowed NothingCame HandshakeTimeout GaveWay Varint FrameLength ChannelLimit
    Message PendingChannels Capability Extensions Json VersionMismatch ClientMismatch MultifeedTimeout Left
    ExchangeKey OfferedFeeds Announced Memory Bitfield Outbox Silent Truncated Proof Held);
