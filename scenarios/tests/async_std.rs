//! All scenarios on [`scenarios::AsyncStd`].
#![allow(missing_docs)]

scenarios::scenarios!(scenarios::AsyncStd);
