//! All scenarios on [`scenarios::TokioThread`].
#![allow(missing_docs)]

scenarios::scenarios!(scenarios::TokioThread);
