//! The bytes of the files of a store, and the names of its files and feeds.
//!
//! Here: the five files of a feed ([`sleep`]), folders, names and derived keys ([`corestore`]), the
//! entries of the list of feeds ([`list`]), the folders of multifeed 6 ([`numbered`]), the feeds that are
//! kept out ([`blocked`]), and what proves a fork ([`forked`]). Everything that is read may be damaged or hostile.
//!
//! Not here: reading and writing (`storage` says what, `disk` does it), and what follows from the
//! contents.

pub mod blocked;
pub mod corestore;
pub mod forked;
pub mod list;
pub mod numbered;
pub mod sleep;
