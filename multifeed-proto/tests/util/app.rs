//! The least that an owner of a connection does: it offers what it has and asks for the rest.

use std::collections::BTreeMap;

use bytes::Bytes;
use multifeed_proto::messages::{Data, Request};
use multifeed_proto::{
    ChannelId, Connection, FeedKey, FeedOptions, Now, Output, RootKey, UsageError, rle,
};

use super::span;

#[derive(Clone, Debug, Default)]
pub struct App {
    /// Blocks by feed.
    pub feeds: BTreeMap<FeedKey, BTreeMap<u64, Bytes>>,
    pub options: FeedOptions,
    /// Blocks that the remote acknowledged.
    pub acked: u64,
}

impl App {
    pub fn with(feeds: &[(FeedKey, u64)]) -> Self {
        let block = |key: &FeedKey, i: u64| {
            Bytes::from(format!("block {i} of {}", key.to_hex()).repeat(i as usize % 4))
        };
        let blocks = |key: &FeedKey, n| (0..n).map(|i| (i, block(key, i))).collect();
        let feeds = feeds.iter().map(|(key, n)| (*key, blocks(key, *n))).collect();
        Self { feeds, ..Self::default() }
    }

    pub fn start(&self, now: Now, connection: &mut Connection, roots: &[RootKey]) {
        for root in roots {
            connection.join(now, root.clone(), None).unwrap();
        }
    }

    /// Does what `output` calls for. A connection that is over or shut down needs nothing.
    pub fn react(&mut self, connection: &mut Connection, output: &Output) {
        match self.answer(connection, output) {
            Ok(()) | Err(UsageError::Closed) => {}
            // Outputs may be older than a close that came in the same bytes.
            Err(UsageError::UnknownChannel | UsageError::UnknownRoot) => {}
            Err(error) => panic!("{output:?}: {error}"),
        }
    }

    fn answer(&mut self, connection: &mut Connection, output: &Output) -> Result<(), UsageError> {
        match output {
            Output::Ready { root, .. } => {
                let keys: Vec<_> = self.feeds.keys().copied().collect();
                connection.offer(*root, &keys)
            }
            Output::Offered { root, keys } => connection.request_feeds(*root, keys),
            Output::Replicate { keys, .. } => {
                for key in keys {
                    self.feeds.entry(*key).or_default();
                    connection.open_feed(key, self.options.clone())?;
                }
                Ok(())
            }
            Output::FeedOpened { channel } => connection.want(*channel, span(0, 1 << 20)),
            Output::Want { channel, span } => {
                let blocks = self.blocks(connection, *channel);
                let mut bits = vec![0; 128];
                for index in blocks.keys().filter(|index| **index < 1024) {
                    bits[(index / 8) as usize] |= 0x80 >> (index % 8);
                }
                connection.have_bitfield(*channel, *span, rle::encode(&bits).into())
            }
            Output::Have { channel, span } => {
                let mut from = span.start;
                let end = span.start + span.length;
                let remote = |connection: &Connection, from| {
                    connection.peer(*channel).and_then(|peer| peer.remote().first_in(from..end))
                };
                while let Some(index) = remote(connection, from) {
                    from = index + 1;
                    if !self.blocks(connection, *channel).contains_key(&index) {
                        let request = Request { index, ..Request::default() };
                        connection.request(*channel, request)?;
                    }
                }
                Ok(())
            }
            Output::Request { channel, request } => {
                let value = self.blocks(connection, *channel).get(&request.index).cloned();
                let index = request.index;
                let data = Data { index, value, nodes: Vec::new(), signature: None };
                connection.send_data(*channel, data)
            }
            Output::Data { channel, data } => {
                let acks = connection.peer(*channel).is_some_and(|peer| peer.remote_acks());
                let value = data.value.clone().unwrap();
                self.blocks(connection, *channel).insert(data.index, value);
                if acks { connection.ack(*channel, data.index) } else { Ok(()) }
            }
            Output::Acked { span, .. } => {
                self.acked += span.length;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn blocks(&mut self, connection: &Connection, channel: ChannelId) -> &mut BTreeMap<u64, Bytes> {
        let key = connection.key(channel).copied().unwrap_or(FeedKey([0; 32]));
        self.feeds.entry(key).or_default()
    }
}
