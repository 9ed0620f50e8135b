//! Errors of the operating system, by what the user can do about them.

use std::io::{self, ErrorKind};

use super::system;
use crate::storage::{NotAFile, StorageErrorKind};

/// An error that the operating system has no word for, on its way through its errors.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Known(StorageErrorKind);

/// An error that the operating system has no word for.
pub(super) fn known(kind: StorageErrorKind) -> io::Error {
    io::Error::other(Known(kind))
}

pub(super) fn not_a_file(found: NotAFile) -> io::Error {
    known(StorageErrorKind::NotAFile(found))
}

/// `None` for what does not exist, in a folder or because its folder is a file.
pub(super) fn or_missing<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether the operating system does not allow it.
pub(super) fn is_denied(error: &io::Error) -> bool {
    error.kind() == ErrorKind::PermissionDenied
}

/// What went wrong, by what the user can do about it.
#[must_use]
pub fn kind(error: &io::Error) -> StorageErrorKind {
    if let Some(Known(kind)) = error.get_ref().and_then(|inner| inner.downcast_ref()) {
        return kind.clone();
    }
    if system::is_too_many_files(error) {
        return StorageErrorKind::TooManyFiles;
    }
    if system::is_broken(error) {
        return StorageErrorKind::Broken(error.to_string());
    }
    #[allow(clippy::wildcard_enum_match_arm, reason = "the others have their own text")]
    match error.kind() {
        ErrorKind::StorageFull => StorageErrorKind::Full,
        ErrorKind::QuotaExceeded => StorageErrorKind::Quota,
        ErrorKind::PermissionDenied => StorageErrorKind::Denied,
        ErrorKind::ReadOnlyFilesystem => StorageErrorKind::ReadOnly,
        ErrorKind::StaleNetworkFileHandle => StorageErrorKind::Removed,
        _ => StorageErrorKind::Io(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_what_the_user_can_do() {
        let sorted = |error: ErrorKind| kind(&error.into());
        assert_eq!(sorted(ErrorKind::StorageFull), StorageErrorKind::Full);
        assert_eq!(sorted(ErrorKind::QuotaExceeded), StorageErrorKind::Quota);
        assert_eq!(sorted(ErrorKind::PermissionDenied), StorageErrorKind::Denied);
        assert_eq!(sorted(ErrorKind::ReadOnlyFilesystem), StorageErrorKind::ReadOnly);
        assert!(matches!(sorted(ErrorKind::TimedOut), StorageErrorKind::Io(_)));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_codes_of_the_operating_system_are_known() {
        let sorted = |code| kind(&io::Error::from_raw_os_error(code));
        assert_eq!(sorted(28), StorageErrorKind::Full, "ENOSPC");
        assert_eq!(sorted(122), StorageErrorKind::Quota, "EDQUOT");
        assert_eq!(sorted(13), StorageErrorKind::Denied, "EACCES");
        assert_eq!(sorted(1), StorageErrorKind::Denied, "EPERM");
        assert_eq!(sorted(30), StorageErrorKind::ReadOnly, "EROFS");
        assert_eq!(sorted(24), StorageErrorKind::TooManyFiles, "EMFILE");
        assert_eq!(sorted(116), StorageErrorKind::Removed, "ESTALE");
        for code in [5, 6, 19, 107, 108, 121, 123] {
            assert!(matches!(sorted(code), StorageErrorKind::Broken(_)), "{code}");
        }
    }
}
