//! Other services, known by what they say first: a wrong address is the commonest mistake of all.

/// What speaks like this, if that is certain enough to say so.
///
/// `first` is what a peer sent first. None of these begins a Noise message of this protocol: those have
/// 58 or 122 bytes, and say so in their first byte.
pub(super) fn service(first: &[u8]) -> Option<&'static str> {
    const SERVICES: &[(&[u8], &str)] = &[
        (b"HTTP/", "HTTP"),
        (b"GET ", "HTTP"),
        (b"HEAD ", "HTTP"),
        (b"POST ", "HTTP"),
        (b"PUT ", "HTTP"),
        (b"OPTIONS ", "HTTP"),
        (b"CONNECT ", "HTTP"),
        (b"PRI * HTTP/2", "HTTP"),
        (b"SSH-", "SSH"),
        (b"RFB ", "VNC"),
        (b"220 ", "SMTP or FTP"),
        (b"220-", "SMTP or FTP"),
        (b"+OK ", "POP3"),
        (b"* OK ", "IMAP"),
        (b"-ERR ", "Redis"),
        (b"\x13BitTorrent protocol", "BitTorrent"),
    ];
    if let [0x14..=0x16, 0x03, 0x00..=0x04, ..] = first {
        return Some("TLS");
    }
    SERVICES.iter().find(|(begin, _)| first.starts_with(begin)).map(|(_, name)| *name)
}

/// What sent this in place of a handshake, when it is certain that it is none.
pub(super) fn nature(first: &[u8]) -> Option<&'static str> {
    let printable = |byte: &u8| matches!(byte, b' '..=b'~' | b'\r' | b'\n' | b'\t');
    // Its first byte and some of the others of a message of ours may be printable by chance.
    let least = if matches!(first, [58 | 122, ..]) { LONG_TEXT } else { SHORT_TEXT };
    let text = || first.len() >= least && first.iter().take(least.max(TEXT)).all(printable);
    service(first).or_else(|| text().then_some("a protocol of text lines"))
}

/// Bytes that must be text, as far as they are there.
const TEXT: usize = 16;
/// Bytes that must be there.
const SHORT_TEXT: usize = 4;
/// The same where the first of them may begin a message of ours, and all of them text: those of a Noise key are so once
/// in 10^13 times.
const LONG_TEXT: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_known_by_their_first_words() {
        for (first, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some("HTTP")),
            (b"HTTP/1.1 400 Bad Request\r\n", Some("HTTP")),
            (b"SSH-2.0-OpenSSH_9.6\r\n", Some("SSH")),
            (b"\x16\x03\x01\x02\x00\x01", Some("TLS")),
            (b"\x15\x03\x03\x00\x02\x02\x46", Some("TLS")),
            (b"220 mail.example.org ESMTP\r\n", Some("SMTP or FTP")),
            (b"hello, who is there?\n", None),
            (b"\x3aGET ", None),
            (b"", None),
        ] {
            assert_eq!(service(first), expected, "{first:?}");
        }
        assert_eq!(nature(b"hello, who is there?\n"), Some("a protocol of text lines"));
        assert_eq!(nature(b"\x3a\x01\x02\x03"), None);
        assert_eq!(nature(b"ab"), None);
        assert_eq!(nature(b"what?"), Some("a protocol of text lines"));
    }

    #[test]
    fn a_handshake_that_is_cut_off_behind_bytes_that_look_like_text_is_no_text() {
        for message in [&b"zaB,"[..], b"z0123456789 abcdefghijk", b":~~~"] {
            for len in 0..message.len() {
                assert_eq!(nature(&message[..len]), None, "{len} bytes of {message:?}");
            }
        }
        assert_eq!(
            nature(b"zounds, says somebody who is no multifeed\n"),
            Some("a protocol of text lines")
        );
    }
}
