//! A wire behind a handshake that nobody paid for.

use super::{Encryption, Finished, Inbox, Outbox, Wire};

impl Wire {
    /// Goes on as after a handshake that ended so. To be called before any bytes came or went.
    pub(crate) fn begin_behind(&mut self, finished: Finished, encryption: Encryption) {
        self.encryption = encryption;
        self.inbox = Inbox::default();
        self.outbox = Outbox::default();
        self.connect(finished);
    }
}
