//! Messages of a multifeed, on the stream or on the channel of its root key, and what follows from
//! them.

use alloc::vec::Vec;

use super::channels::Kind;
use super::mux::{Body, Received, Way};
use super::{Mux, Peer, Session, extensions, feed};
use crate::connection::{Output, RootId};
use crate::messages::{Message, Options};
use crate::{ChannelId, Dialect, FeedKey, PeerError};

impl Session {
    pub(super) fn on_stream_message(&mut self, message: Message) -> Result<(), PeerError> {
        match message {
            Message::Options(options) => {
                extensions::check(&options.extensions, &self.config)?;
                self.stream.set_remote(&options.extensions);
                self.stream_names = options.extensions;
                let bytes = self.stream_names.iter().map(|name| name.len() + feed::NAME);
                self.stream_name_bytes = bytes.sum();
            }
            Message::Extension { id, payload } => {
                let Some(name) = self.stream.name(id) else { return Ok(()) };
                let root = self.stream_root.filter(|_| Mux::NAMES.contains(&name));
                let place = root.and_then(|root| usize::try_from(root.0).ok());
                let mux = place.and_then(|place| self.roots.get_mut(place));
                if let Some((root, mux)) = root.zip(mux) {
                    match mux.handle(Way::Stream, name, &payload, &self.config) {
                        Ok(received) => self.on_mux(root, Way::Stream, received),
                        Err(error) => self.fail_root(root, error)?,
                    }
                    return Ok(());
                }
                let name = name.into();
                self.outputs.push_back(Output::Extension { channel: None, name, payload });
            }
            Message::Open(_)
            | Message::Status(_)
            | Message::Have(_)
            | Message::Unhave(_)
            | Message::Want(_)
            | Message::Unwant(_)
            | Message::Request(_)
            | Message::Cancel { .. }
            | Message::Data(_)
            | Message::Close { .. } => {}
        }
        Ok(())
    }

    pub(super) fn on_channel_message(
        &mut self,
        id: ChannelId,
        message: Message,
    ) -> Result<(), PeerError> {
        let Some(channel) = self.channels.get_mut(id) else { return Ok(()) };
        let root = match &channel.kind {
            Kind::Feed(_) => return self.on_feed_message(id, message),
            Kind::Root(root) => *root,
        };
        match message {
            Message::Options(options) => {
                extensions::check(&options.extensions, &self.config)?;
                channel.scope.set_remote(&options.extensions);
            }
            Message::Extension { id: number, payload } => {
                let place = usize::try_from(root.0).unwrap_or(usize::MAX);
                let mux = self.roots.get_mut(place).zip(channel.scope.name(number));
                if let Some((mux, name)) = mux {
                    match mux.handle(Way::RootChannel, name, &payload, &self.config) {
                        Ok(received) => self.on_mux(root, Way::RootChannel, received),
                        Err(error) => self.fail_root(root, error)?,
                    }
                }
            }
            Message::Open(_)
            | Message::Status(_)
            | Message::Have(_)
            | Message::Unhave(_)
            | Message::Want(_)
            | Message::Unwant(_)
            | Message::Request(_)
            | Message::Cancel { .. }
            | Message::Data(_)
            | Message::Close { .. } => {}
        }
        Ok(())
    }

    fn on_mux(&mut self, root: RootId, way: Way, received: Received) {
        match received {
            Received::Ready { version, user_data } => {
                let dialect = self.mux(root).map_or(Dialect::Auto, Mux::dialect);
                self.outputs.push_back(Output::Ready { root, dialect, version, user_data });
            }
            Received::Offered(mut keys) => {
                let roots = &self.roots;
                keys.retain(|key| roots.iter().all(|mux| *mux.root().expose() != key.0));
                self.learn(root, &keys);
                self.outputs.push_back(Output::Offered { root, keys });
            }
            Received::Requested(keys, answer) => {
                if let Some(answer) = answer {
                    self.send_mux(root, way, answer);
                }
                self.outputs.push_back(Output::Requested { root, keys: keys.clone() });
                self.outputs.push_back(Output::Replicate { root, keys, ours: true });
            }
            Received::Replicate(keys) => {
                let open =
                    |key| self.channel(key).and_then(|id| self.peer(id)).is_some_and(Peer::is_open);
                if keys.iter().any(open) {
                    self.feeds_changed();
                } else {
                    self.release_answers(root);
                }
                self.outputs.push_back(Output::Replicate { root, keys, ours: false });
            }
            Received::Ignored => {}
        }
    }

    /// Sends the answers of a multifeed that need not wait any more.
    pub(super) fn release_answers(&mut self, root: RootId) {
        let Some(mux) = self.mux_mut(root) else { return };
        let way = mux.way();
        for answer in mux.release() {
            self.send_mux(root, way, answer);
        }
    }

    /// The channel of a feed opened or closed, which answers may have waited for.
    pub(super) fn feeds_changed(&mut self) {
        let mut answers = Vec::new();
        for (root, mux) in (0..).map(RootId).zip(&mut self.roots) {
            let way = mux.way();
            answers.extend(mux.feeds_changed().into_iter().map(|answer| (root, way, answer)));
        }
        for (root, way, answer) in answers {
            self.send_mux(root, way, answer);
        }
    }

    /// Ends one multifeed by the fault of the remote. Without another one that was or may become
    /// ready there is nothing left to talk about, and the session is over.
    pub(super) fn fail_root(&mut self, root: RootId, error: PeerError) -> Result<(), PeerError> {
        let Some(mux) = self.mux_mut(root) else { return Ok(()) };
        mux.fail();
        let channel = mux.channel();
        if !self.roots.iter().any(Mux::is_of_use) {
            return Err(error);
        }
        self.close_channel(channel);
        self.outputs.push_back(Output::RootFailed { root, error });
        Ok(())
    }

    /// Notes that the remote has a reason to open channels for these feeds.
    pub(super) fn learn(&mut self, root: RootId, keys: &[FeedKey]) {
        for key in keys {
            self.channels.learn(root, key.discovery_key());
        }
    }

    /// Sends a multifeed message, and before it the list of names that gives it its number.
    pub(super) fn send_mux(&mut self, root: RootId, way: Way, body: Body) {
        let Some(channel) = self.mux(root).map(Mux::channel) else { return };
        let (number, scope) = match way {
            Way::Stream => (0, Some(&mut self.stream)),
            Way::RootChannel => {
                (channel.0, self.channels.get_mut(channel).map(|channel| &mut channel.scope))
            }
        };
        let Some(scope) = scope else { return };
        let Some(id) = scope.id(body.name) else { return };
        if let Some(extensions) = scope.announce() {
            let options = Options { extensions, ack: None };
            self.messages.push_back((number, Message::Options(options)));
        }
        self.messages.push_back((number, Message::Extension { id, payload: body.payload }));
    }
}
