//! Requests and answers as they are shown: what is in files is nobody's business.

use core::fmt;

use super::{Answer, Op};

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut one = |name: &str, path: &dyn fmt::Debug, numbers: &[(&str, u64)]| {
            let mut shown = f.debug_struct(name);
            shown.field("path", path);
            for (name, number) in numbers {
                shown.field(name, number);
            }
            shown.finish()
        };
        match self {
            Self::Read { path, offset, len } => {
                one("Read", path, &[("offset", *offset), ("len", *len as u64)])
            }
            Self::Length { path } => one("Length", path, &[]),
            Self::NextData { path, offset } => one("NextData", path, &[("offset", *offset)]),
            Self::Write { path, offset, data } => {
                one("Write", path, &[("offset", *offset), ("bytes", data.len() as u64)])
            }
            Self::Truncate { path, len } => one("Truncate", path, &[("len", *len)]),
            Self::Punch { path, offset, len } => {
                one("Punch", path, &[("offset", *offset), ("len", *len)])
            }
            Self::CreateSecret { path, .. } => one("CreateSecret", path, &[]),
            Self::Remove { path } => one("Remove", path, &[]),
            Self::Rename { from, to } => one("Rename", &(from, to), &[]),
            Self::List { path } => one("List", path, &[]),
            Self::Sync { path } => one("Sync", path, &[]),
            Self::Lock { path } => one("Lock", path, &[]),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("Done"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Length(length) => f.debug_tuple("Length").field(length).finish(),
            Self::Names(names) => f.debug_tuple("Names").field(names).finish(),
            Self::NotFound => f.write_str("NotFound"),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use crate::storage::{FilePath, SecretBytes};

    use super::*;

    #[test]
    fn what_is_written_and_read_is_not_shown() {
        let path = FilePath::new(&["ab", "data"]);
        let written = b"a diary"[..].to_vec();
        let write = Op::Write { path: path.clone(), offset: 7, data: written.clone().into() };
        let secret = Op::CreateSecret { path, data: SecretBytes::from(&written[..]) };
        let shown = format!("{write:?} {secret:?} {:?}", Answer::Bytes(written.into()));
        assert!(!shown.contains("diary"), "{shown}");
        assert!(shown.contains("offset: 7, bytes: 7") && shown.contains("ab/data"), "{shown}");
    }
}
