//! Messages of the channel of one feed.

use alloc::string::String;

use super::Session;
use super::channels::Kind;
use super::peer::{Answer, Peer, READY};
use super::{bits::PAGE_BLOCKS, extensions};
use crate::connection::Output;
use crate::messages::{Data, Have, Message, Options, Span};
use crate::{ChannelId, PeerError};

impl Session {
    /// Says what must be said when both sides have opened the channel.
    ///
    /// Source: `hypercore@9.12.0`, `lib/replicate.js` (`onopen`).
    pub(super) fn start_feed(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.get_mut(id) else { return };
        let Kind::Feed(feed) = &mut channel.kind else { return };
        self.announced -= feed.peer.remote().bytes();
        let status = feed.peer.ours;
        feed.peer = Peer::new(status);
        feed.peer.open = true;
        let ack = feed.ack;
        let extensions = channel.scope.announce().unwrap_or_default();
        if ack || !extensions.is_empty() {
            let options = Options { extensions, ack: Some(ack) };
            self.send(id, Message::Options(options));
        }
        if status != READY {
            self.send(id, Message::Status(status));
        }
        self.outputs.push_back(Output::FeedOpened { channel: id });
    }

    pub(super) fn on_feed_message(
        &mut self,
        id: ChannelId,
        message: Message,
    ) -> Result<(), PeerError> {
        let Some(channel) = self.channels.get_mut(id) else { return Ok(()) };
        let Kind::Feed(feed) = &mut channel.kind else { return Ok(()) };
        let peer = &mut feed.peer;
        match message {
            Message::Options(options) => {
                extensions::check(&options.extensions, &self.config)?;
                let bytes = |names: &[String]| names.iter().map(|name| name.len() + NAME).sum();
                let before: usize = bytes(&channel.remote_names);
                let now: usize = bytes(&options.extensions);
                self.name_bytes = self.name_bytes - before + now;
                if self.name_bytes > MAX_NAME_BYTES {
                    return Err(PeerError::Extensions);
                }
                channel.scope.set_remote(&options.extensions);
                channel.remote_names = options.extensions;
                peer.remote_acks = options.ack.unwrap_or(false);
            }
            Message::Status(status) => {
                if peer.set_status(status) {
                    self.outputs.push_back(Output::Status { channel: id, status });
                }
            }
            Message::Have(have) => return self.on_have(id, &have),
            Message::Unhave(span) => return self.on_unhave(id, span),
            Message::Want(span) => {
                let aligned = span.start % PAGE_BLOCKS == 0 && span.length % PAGE_BLOCKS == 0;
                if aligned && peer.ours.uploading {
                    peer.remote_wants = true;
                    self.outputs.push_back(Output::Want { channel: id, span });
                }
            }
            Message::Request(request) => {
                if peer.ours.uploading {
                    self.outputs.push_back(Output::Request { channel: id, request });
                }
            }
            Message::Data(data) => self.on_data(id, data),
            Message::Extension { id: number, payload } => {
                if let Some(name) = channel.scope.name(number).map(Into::into) {
                    self.outputs.push_back(Output::Extension { channel: Some(id), name, payload });
                }
            }
            // The JavaScript does nothing on these two either.
            Message::Unwant(_) | Message::Cancel { .. } => {}
            Message::Open(_) | Message::Close { .. } => {}
        }
        Ok(())
    }

    fn on_have(&mut self, id: ChannelId, have: &Have) -> Result<(), PeerError> {
        let span = self.change_blocks(id, |peer| peer.have(have))?;
        let Some(span) = span.transpose()?.flatten() else { return Ok(()) };
        if have.ack && have.bitfield.is_none() {
            self.outputs.push_back(Output::Acked { channel: id, span });
        } else {
            self.outputs.push_back(Output::Have { channel: id, span });
        }
        Ok(())
    }

    fn on_unhave(&mut self, id: ChannelId, span: Span) -> Result<(), PeerError> {
        if let Some(span) = self.change_blocks(id, |peer| peer.unhave(span))? {
            self.outputs.push_back(Output::Unhave { channel: id, span });
        }
        Ok(())
    }

    fn on_data(&mut self, id: ChannelId, data: Data) {
        let Some(Kind::Feed(feed)) = self.channels.get_mut(id).map(|channel| &mut channel.kind)
        else {
            return;
        };
        match feed.peer.answered(data.index, data.value.is_none()) {
            Answer::Expected => self.outputs.push_back(Output::Data { channel: id, data }),
            Answer::Unrequested => {
                if data.value.is_some() && feed.peer.remote_wants {
                    let span = Span { start: data.index, length: 1 };
                    self.send(id, Message::Unhave(span));
                }
            }
        }
    }

    /// Changes what is known of the remote's blocks. One message adds 132 KiB at most, so that it is early
    /// enough to look at the limit afterwards.
    fn change_blocks<T>(
        &mut self,
        id: ChannelId,
        change: impl FnOnce(&mut Peer) -> T,
    ) -> Result<Option<T>, PeerError> {
        let Some(Kind::Feed(feed)) = self.channels.get_mut(id).map(|channel| &mut channel.kind)
        else {
            return Ok(None);
        };
        let before = feed.peer.remote().bytes();
        let result = change(&mut feed.peer);
        self.announced = self.announced - before + feed.peer.remote().bytes();
        let max = self.config.max_announced;
        if self.announced > max { Err(PeerError::Announced { max }) } else { Ok(Some(result)) }
    }
}

/// Bytes that a name takes in memory beside its text.
pub(super) const NAME: usize = size_of::<String>();

/// Bytes of the names that the remote may register on all its feed channels together.
const MAX_NAME_BYTES: usize = 8 * 1024 * 1024;
