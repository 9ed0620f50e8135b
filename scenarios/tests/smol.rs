//! All scenarios on [`scenarios::Smol`].
#![allow(missing_docs)]

scenarios::scenarios!(scenarios::Smol);
