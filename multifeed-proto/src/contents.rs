//! Bytes that are the application's business.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use bytes::Bytes;

/// Bytes that an application or its peer said. `Debug` tells how many, and not which: logs are read by others.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Contents(pub Bytes);

impl Deref for Contents {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.0
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({} bytes)", self.len())
    }
}

impl AsRef<[u8]> for Contents {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for Contents {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Contents> for Bytes {
    fn from(contents: Contents) -> Self {
        contents.0
    }
}

impl From<Vec<u8>> for Contents {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<String> for Contents {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&'static [u8]> for Contents {
    fn from(bytes: &'static [u8]) -> Self {
        Self(Bytes::from_static(bytes))
    }
}

impl PartialEq<[u8]> for Contents {
    fn eq(&self, other: &[u8]) -> bool {
        self.0 == other
    }
}

impl<'a, T: ?Sized> PartialEq<&'a T> for Contents
where
    Bytes: PartialEq<&'a T>,
{
    fn eq(&self, other: &&'a T) -> bool {
        self.0 == *other
    }
}
