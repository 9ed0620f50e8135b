//! What the node tells, for those who want to hear of it: events of the store and of connections.

use multifeed_core::{ConnectionId, Event as NodeEvent, FeedId, MultifeedId};
use multifeed_proto::FeedKey;

use super::State;
use crate::events::Event;
use crate::link::Ending;
use crate::replication::ReplicationEvent;

impl State {
    pub(super) fn told(&mut self, event: NodeEvent) {
        match event {
            NodeEvent::FeedAdded { multifeed, feed } => {
                if let Some(info) = self.node.feed(feed) {
                    let event = Event::FeedAdded { multifeed, key: info.key };
                    self.publish(event, Some(&[multifeed]));
                }
            }
            NodeEvent::Appended { feed, start, length } => {
                self.publish_for(feed, |key| Event::Appended { key, start, length });
            }
            NodeEvent::Downloaded { feed, start, length } => {
                self.publish_for(feed, |key| Event::Downloaded { key, start, length });
            }
            NodeEvent::Uploaded { connection, feed, start, length } => {
                self.publish_for(feed, |key| Event::Uploaded { connection, key, start, length });
            }
            NodeEvent::Cleared { feed, start, length } => {
                self.publish_for(feed, |key| Event::Cleared { key, start, length });
            }
            NodeEvent::FeedBlocked { key } => self.publish(Event::FeedBlocked { key }, None),
            NodeEvent::PeerOpened { connection, feed } => {
                self.publish_for(feed, |key| Event::PeerOpened { connection, key });
            }
            NodeEvent::PeerClosed { connection, feed } => {
                self.publish_for(feed, |key| Event::PeerClosed { connection, key });
            }
            NodeEvent::FeedInSync { connection, feed } => {
                self.publish_for(feed, |key| Event::FeedInSync { connection, key });
            }
            NodeEvent::FeedOutOfSync { connection, feed } => {
                self.publish_for(feed, |key| Event::FeedOutOfSync { connection, key });
            }
            NodeEvent::FeedFailed { feed, error } => {
                self.publish_for(feed, |key| Event::FeedFailed { key, error });
            }
            NodeEvent::FeedHealth { feed, health, connection } => {
                self.publish_for(feed, |key| Event::FeedHealth { key, health, connection });
            }
            NodeEvent::StorageFailed { multifeed, error } => {
                self.publish(Event::StorageFailed { multifeed, error }, Some(&[multifeed]));
            }
            NodeEvent::Connected { connection, remote_public_key } => {
                self.publish(Event::Connected { connection }, None);
                self.tell(connection, ReplicationEvent::Connected { remote_public_key });
            }
            NodeEvent::Ready { connection, multifeed, dialect, user_data } => {
                let ready = ReplicationEvent::Ready { multifeed, dialect, user_data };
                self.tell(connection, ready);
            }
            NodeEvent::Question(question) => {
                self.tell(question.connection, ReplicationEvent::Question(question));
            }
            NodeEvent::RemoteFeeds { connection, multifeed, keys } => {
                self.tell(connection, ReplicationEvent::RemoteFeeds { multifeed, keys });
            }
            NodeEvent::MultifeedFailed { connection, multifeed, error } => {
                self.tell(connection, ReplicationEvent::MultifeedFailed { multifeed, error });
            }
            NodeEvent::MultifeedInSync { connection, multifeed } => {
                self.tell(connection, ReplicationEvent::MultifeedInSync { multifeed });
            }
            NodeEvent::MultifeedOutOfSync { connection, multifeed } => {
                self.tell(connection, ReplicationEvent::MultifeedOutOfSync { multifeed });
            }
            NodeEvent::Extension { connection, feed, name, payload } => {
                let key = feed.and_then(|feed| self.node.feed(feed)).map(|info| info.key);
                let of = feed.map(|feed| self.node.multifeeds_of(feed).collect::<Vec<_>>());
                self.publish(Event::Extension { connection, key, name, payload }, of.as_deref());
            }
            NodeEvent::InSync { connection } => self.tell(connection, ReplicationEvent::InSync),
            NodeEvent::OutOfSync { connection } => {
                self.tell(connection, ReplicationEvent::OutOfSync);
            }
            NodeEvent::Stalled { connection, waiting } => {
                self.tell(connection, ReplicationEvent::Stalled { waiting });
            }
            NodeEvent::Closed { connection, error, counters, unsent } => {
                self.publish(Event::Closed { connection, error: error.clone() }, None);
                if let Some(link) = self.links.get_mut(&connection) {
                    link.counters = counters;
                    link.unsent = unsent;
                    link.end(error.map_or(Ending::Order, Ending::Peer), &mut self.wakes);
                }
            }
            // Nobody waits for these. The enum is open for more kinds.
            NodeEvent::FeedForgotten { .. } | NodeEvent::FeedsRefused { .. } | _ => {}
        }
    }

    fn publish_for(&mut self, feed: FeedId, event: impl FnOnce(FeedKey) -> Event) {
        if let Some(info) = self.node.feed(feed) {
            let of: Vec<MultifeedId> = self.node.multifeeds_of(feed).collect();
            self.publish(event(info.key), Some(&of));
        }
    }

    fn publish(&mut self, event: Event, of: Option<&[MultifeedId]>) {
        self.subscribers.publish(&event, of, &mut self.wakes);
    }

    fn tell(&mut self, connection: ConnectionId, event: ReplicationEvent) {
        if let Some(link) = self.links.get_mut(&connection) {
            link.push(event);
            self.wakes.extend(link.waker.take());
        }
    }
}
