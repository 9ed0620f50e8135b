//! Finds the feeds of the store that is read: its folders, and the list that says which of them are in the multifeed.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use bytes::Bytes;
use multifeed_proto::FeedKey;

use super::ConvertError;
use super::machine::{Convert, Stage, Step};
use super::source::Found;
use crate::check::{self, Check, FeedFolder, Folders, FoldersStep, Subject, Unlisted};
use crate::format::{corestore, list as list_format};
use crate::node::Layout;
use crate::storage::{Answer, FilePath, StorageError};

impl Convert {
    pub(super) fn folders(
        &mut self,
        mut folders: Folders,
        answers: Vec<Result<Answer, StorageError>>,
    ) -> Result<Step, ConvertError> {
        match folders.answered(answers) {
            FoldersStep::Read(ops) => {
                self.stage = Stage::Folders(folders);
                return Ok(Step::Read(ops));
            }
            FoldersStep::Failed(error) => return Err(ConvertError::Read(error)),
            FoldersStep::Done(found) => self.folders = found,
        }
        if self.from == Layout::Numbered {
            self.found = Found::numbered(&self.folders);
            return self.look_at_feeds(0);
        }
        if !self.mastered {
            return Ok(self.look_by_name());
        }
        let name = corestore::list_name(&self.root);
        let key = corestore::derive(&self.master, &name).public();
        let list = key.discovery_key().to_hex();
        let feeds = |feed: &&FeedFolder| feed.layout == Layout::Corestore;
        if self.folders.iter().find(feeds).is_none() {
            return self.listed(&[], &list);
        }
        let Some(folder) = self.folders.iter().filter(feeds).find(|feed| feed.name == list) else {
            // The master key may be that of another store.
            self.mastered = false;
            self.master = self.fresh.clone();
            return Ok(self.look_by_name());
        };
        let folder = folder.path.clone();
        Ok(self.check_list(folder, key, Some(name), list))
    }

    /// Looks for the list by its name.
    fn look_by_name(&mut self) -> Step {
        let (unlisted, ops) = Unlisted::new();
        self.stage = Stage::Unlisted(Box::new(unlisted));
        Step::Read(ops)
    }

    /// Reads the list of feeds.
    fn check_list(
        &mut self,
        folder: FilePath,
        key: FeedKey,
        name: Option<String>,
        list: String,
    ) -> Step {
        let discovery = Some(list.clone());
        let (key, candidates) = (Some(key), Vec::new());
        let subject = Subject { folder, discovery, key, candidates, name, keep_blocks: true };
        let (check, ops) = Check::new(subject, self.mastered.then_some(&*self.master));
        self.stage = Stage::List(Box::new(check), list);
        Step::Read(ops)
    }

    /// The list is the feed that is called so; where there is none, what the folders tell takes its place.
    pub(super) fn unlisted(
        &mut self,
        mut unlisted: Box<Unlisted>,
        answers: Vec<Result<Answer, StorageError>>,
    ) -> Result<Step, ConvertError> {
        if let Some(ops) = unlisted.answered(answers).map_err(ConvertError::Read)? {
            self.stage = Stage::Unlisted(unlisted);
            return Ok(Step::Read(ops));
        }
        if let Some(key) = unlisted.list(&self.root) {
            let discovery = key.discovery_key();
            let folder = corestore::folder(&discovery);
            return Ok(self.check_list(folder, key, None, discovery.to_hex()));
        }
        let feeds = unlisted.feeds(&self.root);
        if feeds.is_empty() {
            return Err(ConvertError::NoMultifeed);
        }
        let line =
            |(key, name)| Bytes::from(list_format::encode(&list_format::Entry { key, name }));
        let lines: Vec<Bytes> = feeds.into_iter().map(line).collect();
        self.listed(&lines, "")
    }

    pub(super) fn list(
        &mut self,
        mut check: Box<Check>,
        list: String,
        answers: Vec<Result<Answer, StorageError>>,
    ) -> Result<Step, ConvertError> {
        let checked = match check.answered(answers) {
            check::Step::Read(ops) => {
                self.stage = Stage::List(check, list);
                return Ok(Step::Read(ops));
            }
            check::Step::Failed(error) => return Err(ConvertError::Read(error)),
            check::Step::Done(checked) => checked,
        };
        let report = &checked.report;
        if !report.is_sound() || checked.blocks.len() as u64 != report.proven {
            let (path, problem) = (report.folder.clone(), "the list of feeds is damaged");
            return Err(ConvertError::Damaged { path, problem });
        }
        self.listed(&checked.blocks, &list)
    }

    fn listed(&mut self, blocks: &[Bytes], list: &str) -> Result<Step, ConvertError> {
        self.found = Found::listed(&self.folders, blocks, list, self.is_copy());
        self.look_at_feeds(0)
    }
}
