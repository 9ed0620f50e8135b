//! The JSON of the multifeed messages, in both dialects, against a reader that builds the whole tree.

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::Value;

use super::Reached;
use crate::messages::{Message, Open, Options};
use crate::session::{Mux, Session};
use crate::wire::{SplitKeys, remote_capability};
use crate::{Config, Dialect, FeedKey, Now, Output, PeerError, RootId, RootKey};

const ROOT: [u8; 32] = [7; 32];
const GOOD: &[u8] = br#"{"client":"MULTIFEED","version":"4.0.0"}"#;
/// Feeds that a remote may offer.
const MAX_OFFERED: usize = 6;

/// Multifeed messages of a remote that knows the root key.
///
/// The first byte chooses the dialect and whether a good handshake comes first. Then come messages with a
/// zero byte between them: the number of the extension, and the JSON.
pub fn json(data: &[u8], reached: &mut Reached) {
    let Some((mode, rest)) = data.split_first() else { return };
    let dialect = [Dialect::RootChannel, Dialect::Stream, Dialect::Auto][usize::from(mode % 3)];
    // A peer of unknown dialect speaks one of them.
    let on_stream = dialect == Dialect::Stream || (dialect == Dialect::Auto && mode & 64 != 0);
    let mut remote = Remote::new(dialect, on_stream);
    if mode & 128 == 0 {
        remote.say(0, GOOD, reached);
    }
    for message in rest.split(|byte| *byte == 0) {
        let Some((extension, body)) = message.split_first() else { continue };
        if !remote.say(extension % 4, body, reached) {
            return;
        }
    }
}

struct Remote {
    session: Session,
    channel: u32,
    ready: bool,
    offered_by_us: BTreeSet<FeedKey>,
    offered: BTreeSet<FeedKey>,
}

impl Remote {
    fn new(dialect: Dialect, on_stream: bool) -> Self {
        let config = Config { dialect, max_offered_feeds: MAX_OFFERED, ..Config::default() };
        let keys = SplitKeys { tx: [1; 32], rx: [2; 32] };
        let mut session = Session::new(&config);
        session.handle_connected(Now::default(), keys.clone());
        let root = RootKey::new(ROOT);
        session.join(Now::default(), root.clone(), None).expect("nothing is joined yet");
        let capability = Some(remote_capability(&keys, &ROOT));
        let open = Open { discovery_key: root.discovery_key(), capability };
        let names = Mux::NAMES.iter().map(ToString::to_string).collect();
        let channel = if on_stream { 0 } else { 1 };
        for (channel, message) in [
            (1, Message::Open(open)),
            (channel, Message::Options(Options { extensions: names, ack: None })),
        ] {
            let taken = session.handle_message(Now::default(), channel, message);
            assert_eq!(taken, Ok(()));
        }
        let (offered_by_us, offered) = (BTreeSet::new(), BTreeSet::new());
        Self { session, channel, ready: false, offered_by_us, offered }
    }

    /// Says one message and checks what comes of it. `false`: the session is over.
    fn say(&mut self, extension: u8, body: &[u8], reached: &mut Reached) -> bool {
        let payload = body.to_vec().into();
        let message = Message::Extension { id: extension.into(), payload };
        let was_ready = self.ready;
        let result = self.session.handle_message(Now::default(), self.channel, message);
        reached.peer(&result);
        let outputs: Vec<_> = core::iter::from_fn(|| self.session.poll_output()).collect();
        while self.session.poll_message().is_some() {}
        let plain = Plain::read(body);
        match (extension, &result) {
            (0, Ok(())) if !was_ready => {
                self.ready = true;
                assert!(matches!(&outputs[..], [Output::Ready { .. }]), "{outputs:?}");
                plain.check_handshake();
                let ours = [1, 2, 3].map(|n| FeedKey([n; 32]));
                assert_eq!(self.session.offer(RootId(0), &ours), Ok(()));
                self.offered_by_us.extend(ours);
                reached.note("ready");
            }
            (1, Ok(())) => self.check_manifest(&outputs, &plain, reached),
            (2, Ok(())) => self.check_replicate(&outputs, &plain, reached),
            (3, Ok(())) => self.check_request(&outputs, &plain, reached),
            (_, Ok(())) => {}
            (_, Err(PeerError::Json { .. })) => plain.check_refused(extension),
            (_, Err(_)) => {}
        }
        result.is_ok()
    }

    fn check_manifest(&mut self, outputs: &[Output], plain: &Plain, reached: &mut Reached) {
        let [Output::Offered { keys, .. }] = outputs else {
            assert!(outputs.is_empty() && !self.may_speak(), "{outputs:?}");
            return;
        };
        if let Some(expected) = plain.manifest() {
            let mut known = self.offered.clone();
            let new = |key: &FeedKey| key.0 != ROOT && known.insert(*key);
            let expected: Vec<_> = expected.into_iter().filter(new).collect();
            assert_eq!(*keys, expected, "another list than the plain reader's");
        }
        self.offered.extend(keys);
        assert!(self.offered.len() <= MAX_OFFERED);
        if self.session.request_feeds(RootId(0), &keys[..keys.len() / 2]).is_ok() {
            reached.note("offered");
        }
    }

    fn check_request(&self, outputs: &[Output], plain: &Plain, reached: &mut Reached) {
        let [Output::Requested { keys, .. }, Output::Replicate { keys: same, ours: true, .. }] =
            outputs
        else {
            assert!(outputs.is_empty() && !self.may_speak(), "{outputs:?}");
            return;
        };
        assert_eq!(keys, same);
        if let Some(expected) = plain.list() {
            let offered = |key: &FeedKey| self.offered_by_us.contains(key);
            let expected: BTreeSet<_> = expected.into_iter().filter(offered).collect();
            assert!(keys.iter().eq(&expected), "{keys:?}, not {expected:?}");
        }
        reached.note("requested");
    }

    fn check_replicate(&self, outputs: &[Output], plain: &Plain, reached: &mut Reached) {
        let [Output::Replicate { keys, ours: false, .. }] = outputs else {
            assert!(outputs.is_empty() && !self.may_speak(), "{outputs:?}");
            return;
        };
        if let Some(expected) = plain.list() {
            assert!(keys.iter().all(|key| expected.contains(key) && self.offered.contains(key)));
        }
        reached.note("replicate");
    }

    /// Whether messages other than a handshake count already.
    fn may_speak(&self) -> bool {
        self.ready || self.channel != 0
    }
}

/// What serde_json's tree says. Nothing, where that reader is stricter or laxer than the JavaScript.
struct Plain(Option<Value>);

impl Plain {
    fn read(body: &[u8]) -> Self {
        let text = core::str::from_utf8(body).unwrap_or("\\");
        // Of a repeated name the tree keeps the last, this crate refuses them.
        let repeated = ["keys", "client", "version", "userData"].iter().any(|name| {
            let quoted = alloc::format!("\"{name}\"");
            text.matches(&quoted).count() > 1
        });
        let odd = repeated || text.contains('\\');
        Self(if odd { None } else { serde_json::from_str(text).ok() })
    }

    fn manifest(&self) -> Option<Vec<FeedKey>> {
        let object = self.0.as_ref()?.as_object()?;
        object.get("keys").map_or(Some(Vec::new()), keys)
    }

    fn list(&self) -> Option<Vec<FeedKey>> {
        keys(self.0.as_ref()?)
    }

    fn check_handshake(&self) {
        let Some(value) = &self.0 else { return };
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(String::from);
        assert_eq!(text("client").as_deref(), Some("MULTIFEED"));
        assert!(text("version").is_some_and(|version| version.contains('4')));
    }

    fn check_refused(&self, extension: u8) {
        let good = match extension {
            0 => self.0.as_ref().is_some_and(Value::is_object),
            1 => self.manifest().is_some(),
            _ => self.list().is_some(),
        };
        assert!(!good, "refused, and is good JSON of the right kind: {:?}", self.0);
    }
}

fn keys(value: &Value) -> Option<Vec<FeedKey>> {
    let texts = value.as_array()?.iter().filter_map(Value::as_str);
    Some(texts.filter_map(|text| FeedKey::from_hex(text).ok()).collect())
}
