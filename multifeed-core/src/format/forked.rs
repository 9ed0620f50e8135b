//! The file `forked` of a feed: what proves that two logs were signed with its key.
//!
//! | bytes | contents |
//! |---|---|
//! | 8 | `forked`, 0, version 1 |
//! | 104 | the log that is held here: length in blocks, big-endian; [`hash::root`](crate::tree::hash::root); signature |
//! | 104 | the other log, in the same form |
//!
//! The file is ours, the JavaScript does not look at it. What is of another size or version, or is not
//! signed by the key, claims nothing.

use crate::crypto::Verifier;

/// Name of the file.
pub const FORKED: &str = "forked";
/// Bytes of the file.
pub const FORKED_BYTES: usize = 8 + 2 * HEAD_BYTES;

const MAGIC: [u8; 8] = *b"forked\0\x01";
const HEAD_BYTES: usize = 8 + 32 + 64;

/// The end of a signed log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Blocks.
    pub length: u64,
    /// The hash of all its roots, which is signed.
    pub root: [u8; 32],
    /// The signature.
    pub signature: [u8; 64],
}

/// Two logs under one key, of which neither continues the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forked {
    /// The log that is held here.
    pub here: Head,
    /// The other one.
    pub there: Head,
}

impl Forked {
    /// The file.
    #[must_use]
    pub fn encode(&self) -> [u8; FORKED_BYTES] {
        let mut out = [0; FORKED_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        self.here.write(&mut out[8..8 + HEAD_BYTES]);
        self.there.write(&mut out[8 + HEAD_BYTES..]);
        out
    }

    /// Reads the file; `None`: it claims nothing.
    #[must_use]
    pub fn decode(file: &[u8]) -> Option<Self> {
        let rest = file.strip_prefix(&MAGIC).filter(|rest| rest.len() == 2 * HEAD_BYTES)?;
        let (here, there) = rest.split_at(HEAD_BYTES);
        let forked = Self { here: Head::read(here)?, there: Head::read(there)? };
        (forked.here.root != forked.there.root).then_some(forked)
    }

    /// Whether both logs are signed.
    #[must_use]
    pub fn is_signed(&self, key: &Verifier) -> bool {
        [self.here, self.there]
            .iter()
            .all(|head| key.verify(&head.root, head.length, &head.signature))
    }
}

impl Head {
    fn write(&self, out: &mut [u8]) {
        out[..8].copy_from_slice(&self.length.to_be_bytes());
        out[8..40].copy_from_slice(&self.root);
        out[40..].copy_from_slice(&self.signature);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (root, rest) = rest.split_first_chunk::<32>()?;
        let signature = <[u8; 64]>::try_from(rest).ok()?;
        Some(Self { length: u64::from_be_bytes(*length), root: *root, signature })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretKey;

    fn forked(secret: &SecretKey) -> Forked {
        let head = |length: u64, byte: u8| {
            let root = [byte; 32];
            Head { length, root, signature: secret.sign_log(&root, length) }
        };
        Forked { here: head(6, 1), there: head(10, 2) }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let secret = SecretKey::from_seed(&[7; 32]);
        let forked = forked(&secret);
        let read = Forked::decode(&forked.encode()).unwrap();
        assert_eq!(read, forked);
        assert!(read.is_signed(&Verifier::new(&secret.public()).unwrap()));
    }

    #[test]
    fn a_file_of_another_size_or_version_claims_nothing() {
        let file = forked(&SecretKey::from_seed(&[7; 32])).encode();
        let longer = [&file[..], &[0]].concat();
        let mut later = file;
        later[7] = 2;
        for file in [&[][..], &file[1..], &file[..FORKED_BYTES - 1], &longer, &later] {
            assert_eq!(Forked::decode(file), None, "{} bytes", file.len());
        }
        let same =
            Forked { here: Forked::decode(&file).unwrap().there, ..Forked::decode(&file).unwrap() };
        assert_eq!(Forked::decode(&same.encode()), None, "one log twice is no fork");
    }

    #[test]
    fn a_changed_file_is_not_signed() {
        let secret = SecretKey::from_seed(&[7; 32]);
        let verifier = Verifier::new(&secret.public()).unwrap();
        let file = forked(&secret).encode();
        for at in 8..FORKED_BYTES {
            let mut bad = file;
            bad[at] ^= 4;
            let read = Forked::decode(&bad);
            assert!(!read.is_some_and(|read| read.is_signed(&verifier)), "byte {at}");
        }
    }
}
