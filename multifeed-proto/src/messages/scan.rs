//! A walk over the fields of a protobuf body before it is decoded.
//!
//! It finds what `prost` would accept but the JavaScript refuses, and counts repeated fields before
//! memory is spent on them. Nothing is copied or allocated.

use crate::wire::varint;

/// Walks over `body`, refuses groups, unknown wire types and fields that run past the end, and calls
/// `visit` with number and contents of each length-delimited field.
///
/// # Errors
///
/// What is wrong with the body, or what `visit` found.
pub(super) fn scan<'a, E: From<&'static str>>(
    mut body: &'a [u8],
    mut visit: impl FnMut(u64, &'a [u8]) -> Result<(), E>,
) -> Result<(), E> {
    while !body.is_empty() {
        let tag = take_varint(&mut body)?;
        match tag & 7 {
            VARINT => {
                take_varint(&mut body)?;
            }
            FIXED_64 => {
                take(&mut body, 8)?;
            }
            LENGTH_DELIMITED => {
                let len = take_varint(&mut body)?;
                let contents = take(&mut body, len)?;
                visit(tag >> 3, contents)?;
            }
            FIXED_32 => {
                take(&mut body, 4)?;
            }
            GROUP_START | GROUP_END => return Err(E::from("groups are not supported")),
            _ => return Err(E::from("unknown wire type")),
        }
    }
    Ok(())
}

fn take_varint(body: &mut &[u8]) -> Result<u64, &'static str> {
    let (value, len) =
        varint::read(body, varint::MAX_LEN).ok().flatten().ok_or("a varint does not end")?;
    *body = &body[len..];
    Ok(value)
}

fn take<'a>(body: &mut &'a [u8], len: u64) -> Result<&'a [u8], &'static str> {
    let (contents, rest) = usize::try_from(len)
        .ok()
        .and_then(|len| body.split_at_checked(len))
        .ok_or("a field runs past the end")?;
    *body = rest;
    Ok(contents)
}

const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const GROUP_START: u64 = 3;
const GROUP_END: u64 = 4;
const FIXED_32: u64 = 5;
