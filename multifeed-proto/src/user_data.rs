//! What an application says with the multifeed handshake.

use alloc::string::String;
use core::fmt;

use serde::de::IgnoredAny;

/// One JSON value, as text, that goes to the peer with the multifeed handshake: the `userData` of the
/// JavaScript. At most [`UserData::MAX`] bytes; `null` arrives as nothing.
///
/// Who knows the root key gets it, encrypted but not authenticated: it proves nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct UserData(String);

/// Why a text is no [`UserData`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserDataError {
    /// It is no JSON value.
    #[error("user data is one JSON value, and this is none")]
    Json,
    /// It is too long.
    #[error(
        "user data of {len} bytes, and the peer takes at most {max}: send more of it as a block or in \
         messages of an extension"
    )]
    TooLong {
        /// Bytes of the text.
        len: usize,
        /// Greatest number allowed.
        max: usize,
    },
}

impl fmt::Debug for UserData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserData({} bytes)", self.0.len())
    }
}

impl UserData {
    /// Bytes of the text at most. The limit is ours: the JavaScript has that of a frame, 8 MiB. What it sends
    /// beyond this is passed over, and the connection goes on as if nothing had been said.
    pub const MAX: usize = 65_536;

    /// The value that this text stands for.
    ///
    /// # Errors
    ///
    /// [`UserDataError`] says what is wrong with `text`.
    pub fn from_json(text: impl Into<String>) -> Result<Self, UserDataError> {
        let text = text.into();
        if text.len() > Self::MAX {
            return Err(UserDataError::TooLong { len: text.len(), max: Self::MAX });
        }
        match serde_json::from_str::<IgnoredAny>(&text) {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(UserDataError::Json),
        }
    }

    /// The text, as it was given.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    #[test]
    fn one_json_value_of_any_kind_is_kept_as_its_text() {
        for text in ["null", "0", r#""a""#, r#"{ "b": [1.50], "a": "ü" }"#] {
            assert_eq!(UserData::from_json(text).unwrap().as_json(), text);
        }
    }

    #[test]
    fn what_is_no_json_or_too_long_is_refused() {
        for text in ["", "{nope", "1 2", "undefined"] {
            assert_eq!(UserData::from_json(text), Err(UserDataError::Json), "{text}");
        }
        let long = |len: usize| format!("\"{}\"", "x".repeat(len - 2));
        assert!(UserData::from_json(long(UserData::MAX)).is_ok());
        let error = UserDataError::TooLong { len: UserData::MAX + 1, max: UserData::MAX };
        let text = error.to_string();
        assert!(text.contains("65537 bytes") && text.contains("at most 65536"), "{text}");
        assert_eq!(UserData::from_json(long(UserData::MAX + 1)), Err(error));
    }
}
