//! Folders of feeds, in the layout of corestore, that are on no list of feeds.
//!
//! A list that lost lines, or a master key that is another store's, shows nothing wrong by itself: the feeds are
//! just not there. So folders that no known feed explains are looked into: at the first joining those below
//! names that none explains, and all of them when asked.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use multifeed_proto::{Now, to_hex};

use super::{CommandId, Layout, MultifeedId, Node, NodeError, Outcome, Task};
use crate::check::{FeedFolder, Folders, FoldersStep};
use crate::format::{corestore, sleep};
use crate::storage::{Answer, FilePath, Op, StorageError};

/// Folders that are read at once.
const READ_FOLDERS: usize = 64;
/// What is asked of each folder.
const ASKED: usize = 4;

/// What is found out about the folders of a store.
#[derive(Debug)]
pub(super) struct Survey {
    folders: Folders,
    /// Folders of no known feed that were not read.
    left: Vec<FeedFolder>,
    asked: Vec<FeedFolder>,
    /// A multifeed whose joining waits for it.
    joining: Option<MultifeedId>,
    commands: Vec<CommandId>,
    /// Names that lead to their folder, and names that do not.
    named: u64,
    misnamed: u64,
    /// There are lists of other multifeeds.
    others: bool,
    /// Folders that belong on a list, and those that may.
    missing: Vec<String>,
    nameless: Vec<String>,
}

impl Node {
    /// Looks at all folders of feeds for those that are on no list, and answers with
    /// [`Outcome::Surveyed`]; [`Node::folder_problems`] then tells of them. Takes a read of each folder of the
    /// store. In the layout of multifeed 6, joining has done so.
    pub fn survey(&mut self, now: Now) -> CommandId {
        let command = self.command(now);
        if !self.store.is_ready() || self.closing.is_some() {
            self.complete(command, Err(NodeError::Closed));
        } else if self.store.layout == Layout::Numbered || !self.store.has_master() {
            self.complete(command, Ok(Outcome::Surveyed));
        } else if let Some(survey) = &mut self.store.survey {
            survey.commands.push(command);
        } else {
            self.begin_survey(None, None, Some(command));
        }
        command
    }

    /// The list of a multifeed was read. Its feeds are known, unless nothing is on the list and there are folders
    /// of feeds: then the master key may be the wrong one.
    pub(super) fn list_known(&mut self, multifeed: MultifeedId, length: u64) {
        let names = core::mem::take(&mut self.store.root_names);
        let known = self.feeds.ids();
        let known = known.filter_map(|id| self.feeds[id.0 as usize].folder.as_ref());
        let known: BTreeSet<&str> = known.filter_map(|folder| folder.as_str().get(..2)).collect();
        let unknown = names.into_iter().filter(|name| !known.contains(name.as_str()));
        let unknown: Vec<FilePath> = unknown.map(|name| FilePath::new(&[&name])).collect();
        let busy = self.store.survey.is_some();
        // Without a master key no name tells what it is for.
        if busy || unknown.is_empty() || !self.store.has_master() {
            return self.loaded(multifeed, Ok(()));
        }
        let joining = (length == 0).then_some(multifeed);
        self.begin_survey(Some(unknown), joining, None);
        if joining.is_none() {
            self.loaded(multifeed, Ok(()));
        }
    }

    fn begin_survey(
        &mut self,
        within: Option<Vec<FilePath>>,
        joining: Option<MultifeedId>,
        command: Option<CommandId>,
    ) {
        let (folders, ops) = match within {
            Some(first) => Folders::within(first),
            None => Folders::new(),
        };
        self.store.survey = Some(Box::new(Survey {
            folders,
            left: Vec::new(),
            asked: Vec::new(),
            joining,
            commands: command.into_iter().collect(),
            named: 0,
            misnamed: 0,
            others: false,
            missing: Vec::new(),
            nameless: Vec::new(),
        }));
        self.submit(None, ops, Task::Survey);
    }

    pub(super) fn survey_answered(&mut self, answers: Vec<Result<Answer, StorageError>>) {
        let Some(mut survey) = self.store.survey.take() else { return };
        if survey.asked.is_empty() {
            match survey.folders.answered(answers) {
                FoldersStep::Read(ops) => {
                    self.store.survey = Some(survey);
                    self.submit(None, ops, Task::Survey);
                    return;
                }
                FoldersStep::Done(found) => survey.left = self.unknown(found),
                FoldersStep::Failed(error) => return self.surveyed(*survey, Err(error.into())),
            }
        } else {
            let asked = core::mem::take(&mut survey.asked);
            for (folder, answers) in asked.into_iter().zip(answers.chunks(ASKED)) {
                self.classify(&mut survey, folder, answers);
            }
        }
        let rest = survey.left.len().saturating_sub(READ_FOLDERS);
        survey.asked = survey.left.split_off(rest);
        if survey.asked.is_empty() {
            return self.surveyed(*survey, Ok(()));
        }
        let ask = |folder: &FeedFolder| {
            let read = |name: &str, len| Op::Read { path: folder.path.join(name), offset: 0, len };
            let length = |name: &str| Op::Length { path: folder.path.join(name) };
            [
                read(corestore::NAME, corestore::MAX_NAME + 4),
                length(sleep::SIGNATURES),
                length(sleep::TREE),
                length(sleep::DATA),
            ]
        };
        let ops = survey.asked.iter().flat_map(ask).collect();
        self.store.survey = Some(survey);
        self.submit(None, ops, Task::Survey);
    }

    /// The folders among these that no known feed has.
    fn unknown(&self, found: Vec<FeedFolder>) -> Vec<FeedFolder> {
        let known = self.feeds.ids();
        let known = known.filter_map(|id| self.feeds[id.0 as usize].folder.as_ref());
        let known: BTreeSet<&FilePath> = known.collect();
        let blocked: BTreeSet<String> =
            self.blocked().map(|key| key.discovery_key().to_hex()).collect();
        let of_none = |folder: &FeedFolder| {
            folder.layout == Layout::Corestore
                && !known.contains(&folder.path)
                && !blocked.contains(&folder.name)
        };
        found.into_iter().filter(of_none).collect()
    }

    fn classify(
        &self,
        survey: &mut Survey,
        folder: FeedFolder,
        answers: &[Result<Answer, StorageError>],
    ) {
        let bytes = |at: usize| {
            let answer = answers.get(at)?.as_ref().ok()?;
            answer.bytes().filter(|bytes| !bytes.is_empty())
        };
        let has = |at: usize| matches!(answers.get(at), Some(Ok(Answer::Length(1..))));
        if !has(2) && !has(3) {
            // What a kill leaves of a writer that nobody was told of.
            return;
        }
        let Some(file) = bytes(0) else {
            survey.nameless.push(folder.path.as_str().to_string());
            return;
        };
        let name = corestore::decode_name(file);
        let derived = name.and_then(|name| self.store.derive(name));
        let fits = derived.map(|secret| secret.public().discovery_key().to_hex() == folder.name);
        if fits != Some(true) {
            survey.misnamed += u64::from(fits.is_some());
            survey.missing.push(folder.path.as_str().to_string());
            return;
        }
        survey.named += 1;
        let roots = self.multifeeds.iter().map(|multi| to_hex(multi.root.expose()));
        let of_multifeed = name.and_then(corestore::multifeed_of_name);
        let of_this = of_multifeed.is_some_and(|(root, _)| roots.into_iter().any(|r| r == root));
        match of_multifeed {
            Some((_, corestore::Part::Writer(_))) if of_this => {
                survey.missing.push(folder.path.as_str().to_string());
            }
            Some((_, corestore::Part::List)) => survey.others = true,
            // Of another multifeed, or of an application.
            Some(_) | None => {}
        }
    }

    fn surveyed(&mut self, survey: Survey, result: Result<(), NodeError>) {
        let mut result = result;
        let other = survey.misnamed > 0 && survey.named == 0;
        if let Some(multifeed) = survey.joining.filter(|_| other && self.is_read_only()) {
            // For reading, one that is of another store is as good as none.
            self.store.forget_master();
            self.find_feeds(multifeed);
            for command in survey.commands {
                self.complete(command, Ok(Outcome::Surveyed));
            }
            return;
        }
        if survey.joining.is_some() && other {
            let problem = "it is not the one that the feeds of this store were made with; restore it from a copy";
            result = Err(NodeError::Store { file: corestore::MASTER_KEY, problem });
        }
        if result.is_ok() {
            let nameless = survey.nameless.iter().filter(|_| !survey.others);
            for folder in survey.missing.iter().chain(nameless) {
                self.folder_problem(folder, "its feed is not on the list of feeds", false);
            }
        }
        if let Some(multifeed) = survey.joining {
            self.loaded(multifeed, result.clone());
        }
        for command in survey.commands {
            self.complete(command, result.clone().map(|()| Outcome::Surveyed));
        }
    }
}
