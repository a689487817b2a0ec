//! Writing a tree into a folder.
//!
//! One thread walks the tree and makes folders, links and other small things; files go in batches to `batch`, which compares what
//! is there, reads packs and writes. Hard links, deletion and the folders' own metadata come last (`finish`).

mod batch;
mod content;
mod delete;
mod device;
mod file;
mod finish;
mod holes;
mod linked;
mod metadata;
mod owners;
mod place;
mod plan;
mod prepare;
mod root;
#[cfg(test)]
pub(crate) mod scratch;
mod walk;

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use rustix::io::Errno;

use crate::error::{Error, Result};
use crate::id::Id;
use crate::index::Index;
use crate::pattern::PatternList;
use crate::run::{Core, Event, Outcome, lock};
use crate::seal::Key;
use crate::time::Time;
pub use device::Device;
use owners::Owners;
use root::Root;
pub use root::is_safe_name;

/// What happens to a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overwrite {
    /// Its content is compared blob by blob, and what differs is written.
    Always,
    /// As `Always`, but a file with the same size and modification time is taken for unchanged.
    IfChanged,
    /// As `Always` where the snapshot's is newer, else it stays.
    IfNewer,
    /// It stays.
    Never,
}

impl Overwrite {
    pub fn from_word(word: &str) -> Result<Self> {
        Ok(match word {
            "always" => Overwrite::Always,
            "if-changed" => Overwrite::IfChanged,
            "if-newer" => Overwrite::IfNewer,
            "never" => Overwrite::Never,
            _ => {
                return Err(Error::invalid(format!(
                    "overwrite is always, if-changed, if-newer or never, not {word:?}"
                )));
            }
        })
    }

    /// Whether something with that modification time gives way to a node.
    fn replaces(self, node: Time, there: Time) -> bool {
        match self {
            Overwrite::Always | Overwrite::IfChanged => true,
            Overwrite::IfNewer => node.is_after(there),
            Overwrite::Never => false,
        }
    }
}

/// What to restore, and how.
pub struct Options {
    pub tree: Id,
    pub target: Vec<u8>,
    pub subfolder: Vec<u8>,
    /// Where the one file that `subfolder` names goes in the place of a folder; `target` is then only how it is called.
    pub device: Option<Device>,
    /// Two lists each: with and without regard to case. Patterns see paths below the restored folder, with a leading slash.
    pub includes: [PatternList; 2],
    pub excludes: [PatternList; 2],
    pub overwrite: Overwrite,
    pub delete: bool,
    pub sparse: bool,
    pub numeric_owner: bool,
    pub owner: bool,
    pub root_metadata: bool,
    pub verify: bool,
    pub dry_run: bool,
    pub verbose: bool,
}

impl Options {
    /// Whether a path is to be restored, and whether something below it may be.
    fn selects(&self, path: &[u8]) -> (bool, bool) {
        let location = [b"/", path].concat();
        if self.excludes.iter().any(|list| list.matches(&location)) {
            return (false, false);
        }
        if self.includes.iter().all(PatternList::is_empty) {
            return (true, true);
        }
        let verdicts = self.includes.each_ref().map(|list| list.verdict(&location));
        (verdicts.iter().any(|v| v.matched), verdicts.iter().any(|v| v.child_may_match))
    }
}

#[derive(Default)]
struct Tally {
    files_restored: AtomicU64,
    files_skipped: AtomicU64,
    files_deleted: AtomicU64,
    dirs_restored: AtomicU64,
    bytes_restored: AtomicU64,
    bytes_skipped: AtomicU64,
}

/// What all threads of one restore share.
struct Session<'a> {
    core: &'a Core,
    key: &'a Key,
    index: &'a Index,
    options: &'a Options,
    /// None for a device, and in a dry run where the target doesn't exist.
    root: Option<Root>,
    owners: Owners,
    tally: Tally,
    /// Why nothing may be deleted.
    kept: Mutex<Option<String>>,
    /// A folder that was in the way of something was given another name.
    aside: AtomicBool,
    /// Files with several names whose data could not be written.
    failed: Mutex<HashSet<Vec<u8>>>,
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Relaxed);
}

impl Session<'_> {
    /// The path on this machine.
    fn shown(&self, path: &[u8]) -> Vec<u8> {
        if path.is_empty() { self.options.target.clone() } else { root::join(&self.options.target, path) }
    }

    fn fault(&self, path: &[u8], during: &'static str, message: impl Into<String>) -> Result<()> {
        self.core.item_error(&self.shown(path), during, message.into(), false)
    }

    fn notice(&self, path: &[u8], during: &'static str, message: impl Into<String>) -> Result<()> {
        self.core.item_error(&self.shown(path), during, message.into(), true)
    }

    /// A failure after which the target isn't what the snapshot says: what may be all that is left of it is not deleted.
    fn grave(&self, path: &[u8], during: &'static str, message: impl Into<String>) -> Result<()> {
        let message = message.into();
        lock(&self.kept).get_or_insert_with(|| format!("{} ({during}): {message}", self.shown(path).escape_ascii()));
        self.fault(path, during, message)
    }

    fn done(&self, path: &[u8], action: &'static str, size: u64) -> Result<()> {
        if !self.options.verbose {
            return Ok(());
        }
        self.core.emit(Event::ItemDone { path: self.shown(path), action, size })
    }

    fn root(&self) -> std::result::Result<&Root, Errno> {
        self.root.as_ref().ok_or(Errno::NOENT)
    }

    fn shortfalls(&self, path: &[u8], shortfalls: Vec<metadata::Shortfall>) -> Result<()> {
        for shortfall in shortfalls {
            self.core.item_error(&self.shown(path), shortfall.during, shortfall.message, shortfall.notice)?;
        }
        Ok(())
    }
}

/// The whole job, on a thread of a run.
pub fn run(core: &Core, key: &Key, index: &Index, options: &Options) -> Result<Outcome> {
    let session = Session {
        core,
        key,
        index,
        options,
        root: if options.device.is_none() { open_target(options)? } else { None },
        owners: Owners::new(options.owner, options.numeric_owner),
        tally: Tally::default(),
        kept: Mutex::new(None),
        aside: AtomicBool::new(false),
        failed: Mutex::new(HashSet::new()),
    };
    let walked = core.scope(|threads| {
        let batches = core.queue(1);
        let to_restore = batches.clone();
        threads.spawn("restore-batches", || batch::restore_all(&session, to_restore))?;
        let walked = match options.device {
            None => Some(walk::walk(&session, &batches)?),
            Some(_) => device::hand_out(&session, &batches).map(|()| None)?,
        };
        batches.finish();
        Ok(walked)
    })?;
    if let Some(walked) = walked {
        finish::finish(&session, walked)?;
    }
    let tally = &session.tally;
    let summary = [
        ("files_restored", &tally.files_restored),
        ("files_skipped", &tally.files_skipped),
        ("files_deleted", &tally.files_deleted),
        ("dirs_restored", &tally.dirs_restored),
        ("bytes_restored", &tally.bytes_restored),
        ("bytes_skipped", &tally.bytes_skipped),
        ("errors", &core.progress().errors),
    ];
    Ok(Outcome { root: None, summary: summary.map(|(name, counter)| (name, counter.load(Relaxed))).to_vec() })
}

/// Open the target, made where it is missing (0700), but in a dry run.
fn open_target(options: &Options) -> Result<Option<Root>> {
    let shown = options.target.escape_ascii();
    if options.target.is_empty() {
        return Err(Error::invalid("the target of a restore is empty"));
    }
    if !options.dry_run {
        let path = Path::new(std::ffi::OsStr::from_bytes(&options.target));
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| Error::system(format!("the target {shown} cannot be made: {error}")))?;
    }
    match Root::open(&options.target) {
        Ok(root) => Ok(Some(root)),
        Err(Errno::NOENT) if options.dry_run => Ok(None),
        Err(error) => Err(Error::system(format!("the target {shown} cannot be opened: {error}"))),
    }
}
