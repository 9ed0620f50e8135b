//! The body of the fuzz target for a whole wire: the Noise handshake, the cipher, frames and messages.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use snow::{Builder, HandshakeState};

use super::cipher::Encryption;
use super::noise::{Finished, Handshake};
use super::resolver::Resolver;
use super::{SplitKeys, Wire, WireEvent, varint};
use crate::fuzzing::{Input, Reached};
use crate::{Config, Entropy, PeerError, Role};

/// One wire and a remote that says these bytes.
///
/// The first byte chooses: the role, the encryption, and whether the remote says them from the beginning, as
/// the payloads of a Noise handshake by the rules and what comes after it, or behind a handshake.
pub fn wire(data: &[u8], reached: &mut Reached) {
    let mut input = Input::new(data);
    let mode = input.byte();
    let role = if mode & 1 == 0 { Role::Responder } else { Role::Initiator };
    let encryption = if mode & 2 == 0 { Encryption::XSalsa20 } else { Encryption::Clear };
    match mode >> 2 & 3 {
        0 => {
            let mut wire = start(role, encryption);
            let (_, result) = feed(&mut wire, &mut input, reached);
            check_over(&mut wire, result, reached);
        }
        1 => handshake(encryption, &mut input, reached),
        _ => behind(role, &mut input, reached),
    }
}

/// The same bytes in other pieces, ciphered and in clear, are the same messages.
fn behind(role: Role, input: &mut Input<'_>, reached: &mut Reached) {
    let bytes = input.rest();
    let read = |encryption: Encryption, piece: usize| {
        let mut wire = start(role, encryption);
        wire.begin_behind(finished(), encryption);
        let mut said = bytes.to_vec();
        if encryption == Encryption::XSalsa20 {
            encryption.cipher(&finished().keys.rx, &[3; 24]).apply(&mut said);
        }
        let (mut events, mut result) = (Vec::new(), Ok(()));
        for piece in said.chunks(piece) {
            result = wire.handle_bytes(piece).and_then(|()| drain(&mut wire, &mut events));
            if result.is_err() {
                break;
            }
        }
        check_over(&mut wire, result.clone(), &mut Reached::default());
        (events, result)
    };
    let whole = read(Encryption::Clear, bytes.len().max(1));
    reached.peer(&whole.1);
    for (encryption, piece) in [(Encryption::XSalsa20, 7), (Encryption::Clear, 1 + bytes.len() / 3)]
    {
        assert_eq!(read(encryption, piece), whole, "{encryption:?} in pieces of {piece}");
    }
    for event in &whole.0 {
        check_echo(event);
    }
}

/// What was read goes through another wire unchanged.
fn check_echo(event: &WireEvent) {
    let WireEvent::Message { channel, message } = event else { return };
    let mut wire = start(Role::Initiator, Encryption::Clear);
    wire.begin_behind(finished(), Encryption::Clear);
    assert_eq!(wire.send(*channel, message), Ok(()), "what came does not fit a frame");
    let sent = wire.transmit().to_vec();
    wire.transmitted(sent.len());
    assert!(matches!(wire.poll_event(), Ok(Some(WireEvent::Connected { .. }))));
    assert_eq!(wire.handle_bytes(&sent), Ok(()));
    assert_eq!(wire.poll_event(), Ok(Some(event.clone())));
    assert!(!wire.is_mid_message() && wire.buffered() == 0);
}

/// A remote that knows Noise, whose payloads and later bytes are these.
fn handshake(encryption: Encryption, input: &mut Input<'_>, reached: &mut Reached) {
    let mut wire = start(Role::Responder, encryption);
    let mut remote = NoiseRemote::new();
    let mut result = Ok(());
    for round in 0..2 {
        let Some(said) = remote.say(input.bytes()) else { return };
        result = wire.handle_bytes(&said);
        let answer = wire.transmit().to_vec();
        wire.transmitted(answer.len());
        if result.is_err() {
            break;
        }
        assert!(round == 1 || remote.hear(&answer), "a bad answer: {answer:?}");
    }
    if result.is_ok() {
        assert!(wire.is_connected(), "the handshake is over there, not here");
        reached.note("connected");
        result = feed(&mut wire, input, reached).1;
    }
    check_over(&mut wire, result, reached);
}

/// An initiator that knows Noise, and sends what it likes as payloads.
pub struct NoiseRemote(HandshakeState);

impl NoiseRemote {
    /// Always the same one.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn new() -> Self {
        let params = "Noise_XX_25519_ChaChaPoly_BLAKE2b".parse().expect("snow knows the pattern");
        let state =
            Builder::with_resolver(params, Box::new(Resolver::new(Entropy::from_seed([9; 32]))))
                .local_private_key(&[8; 32])
                .and_then(Builder::build_initiator);
        Self(state.expect("the resolver has all that it takes"))
    }

    /// The next message, with its length before it.
    pub fn say(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        let mut message = [0; 4096];
        let len = self.0.write_message(payload, &mut message).ok()?;
        let mut said = Vec::new();
        varint::write(len as u64, &mut said);
        said.extend_from_slice(&message[..len]);
        Some(said)
    }

    /// Takes the answer; whether it is one, and nothing else.
    pub fn hear(&mut self, answer: &[u8]) -> bool {
        let Ok(Some((len, at))) = varint::read(answer, 8) else { return false };
        let mut payload = vec![0; answer.len()];
        answer.len() as u64 == at as u64 + len
            && self.0.read_message(&answer[at..], &mut payload).is_ok()
    }
}

impl Default for NoiseRemote {
    fn default() -> Self {
        Self::new()
    }
}

/// Hands pieces to the wire: a length of one byte, and so many bytes.
fn feed(
    wire: &mut Wire,
    input: &mut Input<'_>,
    reached: &mut Reached,
) -> (Vec<WireEvent>, Result<(), PeerError>) {
    let mut events = Vec::new();
    while !input.is_empty() {
        let result = wire.handle_bytes(input.bytes()).and_then(|()| drain(wire, &mut events));
        let waits = wire.transmit().len();
        wire.transmitted(waits / 2);
        if result.is_err() {
            return (events, result);
        }
    }
    if !wire.is_mid_message() {
        reached.note("whole");
    }
    (events, Ok(()))
}

fn drain(wire: &mut Wire, events: &mut Vec<WireEvent>) -> Result<(), PeerError> {
    while let Some(event) = wire.poll_event()? {
        events.push(event);
    }
    Ok(())
}

/// After an error there is nothing but that error.
fn check_over(wire: &mut Wire, result: Result<(), PeerError>, reached: &mut Reached) {
    reached.peer(&result);
    if result.is_err() {
        assert_eq!(wire.handle_bytes(b"more"), result);
        assert_eq!(wire.poll_event().map(|_| ()), result);
        assert!(!wire.is_connected() && !wire.is_mid_message());
        let waits = wire.transmit().len();
        wire.transmitted(waits);
        assert_eq!(wire.buffered(), 0);
    }
}

fn start(role: Role, encryption: Encryption) -> Wire {
    let handshake = Handshake::with_static_key(role, Entropy::from_seed([1; 32]), &[2; 32]);
    let config = Config { max_frame_body: 2000, max_channel: 1000, ..Config::default() };
    Wire::start(handshake, encryption, &config)
}

/// What a handshake might end with.
pub(crate) fn finished() -> Finished {
    Finished {
        keys: SplitKeys { tx: [1; 32], rx: [2; 32] },
        local_nonce: [4; 24],
        remote_nonce: [3; 24],
        remote_public_key: [5; 32],
        handshake_hash: [6; 64],
    }
}
