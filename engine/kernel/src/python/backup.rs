//! A backup, for Python.

use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::blobs::Key;
use super::bytes::Bytes;
use super::index::Index;
use super::run::Run;
use super::{IdArgument, duplicate};
use crate::backup::{self, Compression, Ledger, Options};
use crate::error::Error;
use crate::time::Time;

/// Walk, read, cut, deduplicate, compress, seal and pack.
#[pyclass(frozen, extends = Run, module = "lowtide_engine._kernel")]
pub struct Backup {
    ledger: Arc<Ledger>,
}

fn compression(word: &str) -> PyResult<Compression> {
    Ok(match word {
        "off" => Compression::Off,
        "fastest" => Compression::Fastest,
        "auto" => Compression::Auto,
        "better" => Compression::Better,
        "max" => Compression::Max,
        other => return Err(Error::invalid(format!("there is no compression called {other:?}")).into()),
    })
}

/// A stream given by Python: the file's path, the descriptor, and its time in seconds and nanoseconds.
type StreamArgument = (Bytes, RawFd, (i64, u32));

fn opened((path, descriptor, (seconds, nanoseconds)): StreamArgument) -> PyResult<backup::Stream> {
    Ok(backup::Stream::new(&path, duplicate(descriptor)?, Time::from_unix(seconds, nanoseconds))?)
}

fn owned(given: Vec<Bytes>) -> Vec<Vec<u8>> {
    given.iter().map(|bytes| bytes.to_vec()).collect()
}

#[pymethods]
impl Backup {
    #[new]
    #[allow(clippy::too_many_arguments, reason = "they are keywords in Python")]
    #[pyo3(signature = (
        key, index, *, polynomial, version, targets, stream = None, parent = None, excludes = vec![], iexcludes = vec![],
        exclude_if_present = vec![], exclude_caches = false, exclude_larger_than = 0, one_file_system = false,
        force = false, ignore_inode = false, ignore_ctime = false, with_atime = false, omit_names = false,
        compression = "auto", pack_size = 16 << 20, verify = true, dry_run = false, verbose = false, readers = 2, uploads = 2,
        index_packs = 32, index_seconds = 120.0
    ))]
    fn new(
        key: &Key,
        index: &Index,
        polynomial: u64,
        version: u32,
        targets: Vec<Bytes>,
        stream: Option<StreamArgument>,
        parent: Option<IdArgument>,
        excludes: Vec<Bytes>,
        iexcludes: Vec<Bytes>,
        exclude_if_present: Vec<(Bytes, Bytes)>,
        exclude_caches: bool,
        exclude_larger_than: u64,
        one_file_system: bool,
        force: bool,
        ignore_inode: bool,
        ignore_ctime: bool,
        with_atime: bool,
        omit_names: bool,
        compression: &str,
        pack_size: usize,
        verify: bool,
        dry_run: bool,
        verbose: bool,
        readers: usize,
        uploads: usize,
        index_packs: usize,
        index_seconds: f64,
    ) -> PyResult<PyClassInitializer<Self>> {
        let options = Options {
            polynomial,
            version,
            targets: owned(targets),
            stream: stream.map(opened).transpose()?,
            parent: parent.map(|id| id.0),
            excludes: owned(excludes),
            iexcludes: owned(iexcludes),
            exclude_if_present: exclude_if_present.iter().map(|(name, head)| (name.to_vec(), head.to_vec())).collect(),
            exclude_caches,
            exclude_larger_than,
            one_file_system,
            force,
            ignore_inode,
            ignore_ctime,
            with_atime,
            omit_names,
            compression: self::compression(compression)?,
            pack_size,
            verify,
            dry_run,
            verbose,
            readers,
            uploads,
            index_packs,
            index_after: Duration::try_from_secs_f64(index_seconds)
                .map_err(|_| PyValueError::new_err("index_seconds is not a number of seconds"))?,
        };
        let (core, ledger) = backup::begin(key.0.clone(), Arc::clone(&index.0), options)?;
        Ok(PyClassInitializer::from(Run { core }).add_subclass(Self { ledger }))
    }

    /// The storage's save of this pack returned.
    fn pack_stored(slf: &Bound<'_, Self>, pack: IdArgument) -> PyResult<()> {
        let ledger = &slf.get().ledger;
        slf.py().detach(|| ledger.pack_stored(pack.0))?;
        slf.as_super().get().core.progress().step();
        Ok(())
    }

    /// The storage's save of the index file with this ticket returned.
    fn index_stored(&self, py: Python<'_>, ticket: u64) -> PyResult<()> {
        Ok(py.detach(|| self.ledger.index_stored(ticket))?)
    }

    /// Emit an index of all acknowledged packs at once (SIGTERM); events go on until `cancel`.
    fn flush_index(&self, py: Python<'_>) {
        py.detach(|| self.ledger.flush());
    }

    /// How many acknowledged packs no acknowledged index names yet: 0 once all of `flush_index` is done.
    fn unindexed_packs(&self, py: Python<'_>) -> usize {
        py.detach(|| self.ledger.unindexed())
    }
}
