//! Gaps and names in the layout of multifeed 6.

use bytes::Bytes;

use super::{StoreCheck, StoreFinding};
use crate::check::{FeedFolder, Report};
use crate::format::numbered;
use crate::node::Layout;
use crate::storage::{Answer, FilePath, Op, StorageError};

impl StoreCheck<'_> {
    /// The name of a local writer. One that is lost becomes its number, as of a writer without a name.
    pub(super) fn local_name(
        &mut self,
        folder: &FeedFolder,
        report: &Report,
        repair: bool,
    ) -> Result<Option<String>, StorageError> {
        let path = folder.path.join(numbered::LOCAL_NAME);
        let read = Op::Read { path: path.clone(), offset: 0, len: numbered::MAX_NAME };
        let name = self.try_read(read).filter(|name| !name.is_empty());
        if let Some(name) = name {
            return Ok(Some(numbered::decode_name(&name)));
        }
        if !report.writer {
            return Ok(None);
        }
        let (number, place) = (folder.name.clone(), folder.path.as_str().to_owned());
        if repair {
            let listed = self.run(Vec::from([Op::List { path: path.clone() }]));
            if matches!(listed[..], [Ok(Answer::Names(_))]) {
                let to = self.free_name(&path)?;
                self.run_all(Vec::from([Op::Rename { from: path.clone(), to }]))?;
            }
            let data = Bytes::from(number.clone());
            self.run_all(Vec::from([Op::Write { path: path.clone(), offset: 0, data }]))?;
            self.run_all(Vec::from([Op::Sync { path }]))?;
        }
        self.findings.push(StoreFinding::NameLost { folder: place, named: repair });
        Ok(repair.then_some(number))
    }

    /// Finds numbers that are missing, and gives them to the last folders: the JavaScript reads on to the
    /// first that is missing, and the order of feeds means nothing.
    pub(super) fn fill_gaps(&mut self, repair: bool) -> Result<(), StorageError> {
        loop {
            let numbers = self.folders.iter().filter(|feed| feed.layout == Layout::Numbered);
            let mut numbers: Vec<u64> = numbers.filter_map(|feed| feed.name.parse().ok()).collect();
            numbers.sort_unstable();
            let gap = (0..).zip(&numbers).find(|(number, found)| number != *found);
            let (Some((number, _)), Some(&last)) = (gap, numbers.last()) else { return Ok(()) };
            let filled = repair.then_some(last);
            self.findings.push(StoreFinding::Gap { number, filled });
            if !repair {
                return Ok(());
            }
            let from = FilePath::new(&[&last.to_string()]);
            let to = FilePath::new(&[&number.to_string()]);
            let there = self.run(Vec::from([Op::List { path: to.clone() }]));
            if !matches!(there[..], [Ok(Answer::NotFound)]) {
                // Something is there, and no feed.
                let aside = self.free_name(&to)?;
                self.run_all(Vec::from([Op::Rename { from: to.clone(), to: aside }]))?;
            }
            self.run_all(Vec::from([Op::Rename { from: from.clone(), to: to.clone() }]))?;
            for feed in self.folders.iter_mut().filter(|feed| feed.path == from) {
                (feed.path, feed.name) = (to.clone(), number.to_string());
            }
        }
    }
}
