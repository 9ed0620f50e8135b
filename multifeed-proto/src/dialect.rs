//! The two ways in which multifeeds talk.

/// Where the messages of a multifeed (handshake, offers, requests) travel.
///
/// `multifeed` 5 and 6 register their four extensions on the stream, channel 0; `hypermultifeed`
/// and `corestore-multifeed` on the channel of the root key. Both say that they are version 4.0.0, and
/// neither listens to the other.
///
/// Source: `multifeed@6.0.0`, `mux.js`; `hypermultifeed@1.1.0`, `mux.js`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// Both handshakes are sent, and the first good one that comes decides. Each kind of JavaScript peer
    /// ignores the other kind's.
    ///
    /// With several root keys only the first one joined can meet a peer of `multifeed` 5 or 6: they
    /// know one key a stream, and end the stream if another one is opened first.
    #[default]
    Auto,
    /// On the stream, as `multifeed` 5 and 6; one root key a connection.
    Stream,
    /// On the channel of the root key, as `hypermultifeed` and `corestore-multifeed`.
    RootChannel,
}
