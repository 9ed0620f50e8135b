//! All scenarios on [`scenarios::TokioThreads`].
#![allow(missing_docs)]

scenarios::scenarios!(scenarios::TokioThreads);
