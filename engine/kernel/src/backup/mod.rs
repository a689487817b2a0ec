//! A backup: walk, read, cut, deduplicate, compress, seal and pack.
//!
//! One thread walks (`walk`), some read and cut files (`read`), some hash and store chunks (`hash`), one builds trees in the walk's
//! order (`assemble`), and one hands out index files (`ledger`). What is between them is bounded, so that memory is.

mod assemble;
mod completion;
mod filter;
mod hash;
mod ledger;
mod packer;
mod parent;
mod read;
mod save;
mod stream;
mod summary;
mod targets;
mod walk;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::available_parallelism;
use std::time::Duration;

pub use ledger::Ledger;
pub use stream::Stream;

use crate::chunker::Chunker;
use crate::error::{Error, Result};
use crate::fs::metadata::Describer;
use crate::id::Id;
use crate::index::Index;
use crate::run::{Close, Core, Outcome, Pool, Queue, start};
use crate::seal::Key;

/// How hard data is compressed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Off,
    Fastest,
    Auto,
    Better,
    Max,
}

impl Compression {
    fn level(self) -> i32 {
        match self {
            Self::Fastest => 1,
            Self::Off | Self::Auto => 2,
            Self::Better => 6,
            Self::Max => 12,
        }
    }
}

pub struct Options {
    pub polynomial: u64,
    pub version: u32,
    pub targets: Vec<Vec<u8>>,
    /// In the place of targets.
    pub stream: Option<Stream>,
    pub parent: Option<Id>,
    pub excludes: Vec<Vec<u8>>,
    pub iexcludes: Vec<Vec<u8>>,
    pub exclude_if_present: Vec<(Vec<u8>, Vec<u8>)>,
    pub exclude_caches: bool,
    pub exclude_larger_than: u64,
    pub one_file_system: bool,
    pub force: bool,
    pub ignore_inode: bool,
    pub ignore_ctime: bool,
    pub with_atime: bool,
    pub omit_names: bool,
    pub compression: Compression,
    pub pack_size: usize,
    pub verify: bool,
    pub dry_run: bool,
    pub verbose: bool,
    pub readers: usize,
    /// How many packs of data may be on their way to the storage at a time.
    pub uploads: usize,
    pub index_packs: usize,
    pub index_after: Duration,
}

/// What the threads of a backup share.
struct Shared<'a> {
    core: &'a Core,
    key: &'a Key,
    index: &'a Index,
    options: &'a Options,
    chunker: Chunker,
    filter: filter::Filter,
    describer: Describer,
    working_folder: Vec<u8>,
    steps: Arc<Queue<Vec<walk::Step>>>,
    files: Arc<Queue<read::FileJob>>,
    batches: Arc<Queue<read::Batch>>,
    buffers: Arc<Pool>,
    completions: Arc<completion::Completions>,
}

/// Starts a backup. The ledger is where saves are acknowledged.
pub fn begin(key: Key, index: Arc<Index>, mut options: Options) -> Result<(Arc<Core>, Arc<Ledger>)> {
    if !(1..=2).contains(&options.version) {
        return Err(Error::invalid(format!("repositories of version {} are not known", options.version)));
    }
    if !(4 << 20..=128 << 20).contains(&options.pack_size) {
        return Err(Error::invalid("the size of packs must be between 4 and 128 MiB"));
    }
    if options.stream.is_some() && !options.targets.is_empty() {
        return Err(Error::invalid("either a stream is backed up, or files and folders are"));
    }
    if options.force {
        options.parent = None;
    }
    // On file systems without stable inodes, ctime is not reliable either; so does restic.
    options.ignore_ctime |= options.ignore_inode;
    let chunker = Chunker::new(options.polynomial)?;
    let filter = filter::Filter::new(
        &options.excludes,
        &options.iexcludes,
        &options.exclude_if_present,
        options.exclude_caches,
        options.exclude_larger_than,
    )?;
    let ledger = Arc::new(Ledger::new(Arc::clone(&index), options.index_packs, options.index_after));
    let of_job = Arc::clone(&ledger);
    let core = start("backup", move |core| back_up(core, &key, &index, &options, chunker, filter, &of_job))?;
    Ok((core, ledger))
}

/// Each folder on the way to a file that waits to be read holds a descriptor, and many systems grant 1024 unless asked for more.
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = now.maximum.map_or(MANY_FILES, |most| most.min(MANY_FILES));
    if now.current.is_some_and(|current| current < wanted) {
        // Where it is refused, folders that are too deep are told as errors.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: now.maximum });
    }
}

/// More threads that hash, compress and seal would cost up to 40 MiB each, on every node with many processors.
const HASHERS: usize = 4;

const MANY_FILES: u64 = 16 << 10;

fn back_up(
    core: &Core,
    key: &Key,
    index: &Index,
    options: &Options,
    chunker: Chunker,
    filter: filter::Filter,
    ledger: &Arc<Ledger>,
) -> Result<Outcome> {
    allow_many_files();
    let closing: std::sync::Weak<dyn Close> = Arc::downgrade(ledger) as _;
    core.adopt(closing);
    let completions = Arc::new(completion::Completions::default());
    let closing: std::sync::Weak<dyn Close> = Arc::downgrade(&completions) as _;
    core.adopt(closing);
    let root = targets::plan(&options.targets)?;
    let workers = available_parallelism().map_or(2, usize::from).clamp(1, HASHERS);
    let readers = options.readers.clamp(1, 64);
    let shared = Shared {
        core,
        key,
        index,
        options,
        chunker,
        filter,
        describer: Describer::new(options.omit_names, options.with_atime),
        working_folder: walk::working_folder()?,
        steps: core.queue(16),
        files: core.queue(256),
        batches: core.queue(workers),
        buffers: core.pool(readers + workers, read::BUFFER, read::KEPT),
        completions,
    };
    let packers = packer::Packers::new(core, key, ledger, options.pack_size, options.uploads.clamp(1, 64));
    let saver = save::Saver {
        key,
        ledger,
        packers: &packers,
        level: (options.version >= 2).then(|| options.compression.level()),
        compress_data: options.compression != Compression::Off,
        verify: options.verify,
        dry_run: options.dry_run,
        counts: save::Counts::default(),
    };
    let (id, summary) = core.scope(|threads| {
        threads.spawn("indexer", || ledger.write_indexes(core))?;
        let result = core.scope(|threads| {
            threads.spawn_deep("walker", walk::STACK, || match &options.stream {
                None => walk::Walk::new(&shared)?.run(&root),
                Some(stream) => stream.run(&shared),
            })?;
            threads.spawn("hashers", || {
                core.scope(|threads| {
                    for _ in 0..workers {
                        threads.spawn("hasher", || hash::run(&shared, &saver))?;
                    }
                    core.scope(|threads| {
                        (0..readers).try_for_each(|_| threads.spawn("reader", || read::Reader::new(&shared).run()))
                    })?;
                    shared.batches.finish();
                    Ok(())
                })
            })?;
            assemble::Assembler::new(&shared, &saver)?.run()
        })?;
        packers.flush()?;
        ledger.complete();
        Ok(result)
    })?;
    let errors = core.progress().errors.load(Relaxed);
    Ok(Outcome { root: Some(id), summary: summary.numbers(&saver.counts, errors) })
}
