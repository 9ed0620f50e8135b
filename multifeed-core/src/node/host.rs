//! What the host tells the node, and what it asks it for: see the drain rule at [`Node`].

use multifeed_proto::Now;

use super::{ConnectionId, Node, Output, Task};
use crate::storage::BatchResult;

impl Node {
    /// Bytes came from the peer.
    pub fn handle_bytes(&mut self, now: Now, connection: ConnectionId, bytes: &[u8]) {
        self.advance(now);
        if let Some(link) = self.links.get_mut(&connection) {
            link.connection.handle_bytes(self.now, bytes);
            link.credit.bytes_came(bytes.len());
            link.asking_credit.bytes_came(bytes.len());
            if self.pump_link(connection) {
                self.message_came(connection, bytes.len());
            } else {
                self.bytes_came(connection, bytes.len());
            }
            self.count_bytes(connection);
        }
    }

    /// The peer closed its sending side.
    pub fn handle_eof(&mut self, now: Now, connection: ConnectionId) {
        self.advance(now);
        if let Some(link) = self.links.get_mut(&connection) {
            link.connection.handle_eof(self.now);
            self.pump_link(connection);
        }
    }

    /// The stream of a connection failed: nothing more can be read or written. Ends the connection at once,
    /// with [`PeerError::Left`](multifeed_proto::PeerError::Left) if the peer had only shown that it speaks Noise.
    pub fn handle_cut(&mut self, now: Now, connection: ConnectionId) {
        self.advance(now);
        if let Some(link) = self.links.get_mut(&connection) {
            link.connection.handle_cut(self.now);
            self.pump_link(connection);
            self.touched.insert(connection);
        }
    }

    /// A batch was executed. Answers to unknown batches are ignored.
    pub fn handle_storage(&mut self, now: Now, result: BatchResult) {
        self.advance(now);
        let BatchResult { id, answers } = result;
        match self.tasks.remove(&id) {
            None | Some(Task::Nothing) => {}
            Some(Task::Store(step)) => self.store_answered(step, answers),
            Some(Task::Lines(list, next, lines)) => {
                self.lines_looked_at(list, next, lines, &answers);
            }
            Some(Task::Folders(step)) => self.folders_answered(step, answers),
            Some(Task::Find(multifeed)) => self.find_answered(multifeed, answers),
            Some(Task::Survey) => self.survey_answered(answers),
            Some(Task::Block(step)) => self.block_answered(step, answers),
            Some(Task::Open(feed)) => self.opening_answered(feed, answers),
            Some(Task::Flush(feed)) => self.flush_answered(feed, id, answers),
            Some(Task::Nodes(feed, loading, after)) => {
                self.nodes_answered(feed, id, &loading, after, answers)
            }
            Some(Task::Serve(connection, channel)) => {
                self.serve_answered(connection, channel, Some(id), answers)
            }
            Some(Task::Read(job)) => self.read_answered(job, answers),
            Some(Task::Fork(found)) => self.fork_answered(found, answers),
            Some(Task::Mend(job, above)) => self.mend_answered(job, above, answers),
        }
    }

    /// The moment given by [`Node::poll_timeout`] has come. Harmless when early.
    pub fn handle_timeout(&mut self, now: Now) {
        self.advance(now);
        self.tick();
    }

    /// The next thing to do or to tell. See the drain rule at [`Node`].
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.settle();
        }
        self.outputs.pop_front()
    }

    /// The next connection with news for the side that writes: bytes to send, a half-close that is due,
    /// reading to be taken up again, or its end. Each is named once until there is more news.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<ConnectionId> {
        let id = self.transmits.pop_front()?;
        if let Some(link) = self.links.get_mut(&id) {
            link.announced = false;
        }
        Some(id)
    }

    /// When to call [`Node::handle_timeout`] at the latest.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Now> {
        self.next_timeout()
    }

    /// Bytes for the peer; write any prefix and tell [`Node::transmitted`]. Empty for an unknown connection.
    #[must_use]
    pub fn transmit(&mut self, connection: ConnectionId) -> &[u8] {
        match self.links.get_mut(&connection) {
            Some(link) => link.connection.transmit(),
            None => &[],
        }
    }

    /// `n` bytes of [`Node::transmit`] were written.
    pub fn transmitted(&mut self, now: Now, connection: ConnectionId, n: usize) {
        self.advance(now);
        // No news: a host that tells it after each `poll_transmit` would be told to look again for ever.
        if n == 0 {
            return;
        }
        if let Some(link) = self.links.get_mut(&connection) {
            link.connection.transmitted(self.now, n);
            link.bytes_went(self.awake, n);
            self.touched.insert(connection);
        }
    }

    /// Whether the stream is to be read. `false` is back-pressure: more is wanted when
    /// [`Node::poll_transmit`] names the connection again.
    #[must_use]
    pub fn wants_read(&self, connection: ConnectionId) -> bool {
        self.links.get(&connection).is_some_and(|link| self.may_read(link))
    }

    /// Whether the sending side of the stream is to be closed once [`Node::transmit`] is empty.
    #[must_use]
    pub fn is_shut_down(&self, connection: ConnectionId) -> bool {
        self.links.get(&connection).is_none_or(|link| link.connection.is_shut_down())
    }

    /// Whether the connection is over and its stream is to be dropped.
    #[must_use]
    pub fn is_closed(&self, connection: ConnectionId) -> bool {
        !self.links.contains_key(&connection)
    }
}
