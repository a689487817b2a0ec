//! Restore, for Python.

use std::os::fd::RawFd;
use std::sync::Arc;

use pyo3::prelude::*;

use super::blobs::Key;
use super::bytes::Bytes;
use super::index::Index;
use super::run::Run;
use super::{IdArgument, duplicate};
use crate::pattern::PatternList;
use crate::restore::{self, Device, Options, Overwrite};
use crate::run;

/// Write a tree into a folder.
#[pyclass(extends = Run, frozen, module = "lowtide_engine._kernel")]
pub struct Restore;

#[pymethods]
impl Restore {
    #[new]
    #[pyo3(signature = (
        key, index, *, tree, target, subfolder = None, device = None, includes = vec![], excludes = vec![], iincludes = vec![],
        iexcludes = vec![], overwrite = "always", delete = false, sparse = true, numeric_owner = true, owner = true,
        root_metadata = false, verify = false, dry_run = false, verbose = false,
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        key: &Key,
        index: &Index,
        tree: IdArgument,
        target: Bytes,
        subfolder: Option<Bytes>,
        device: Option<RawFd>,
        includes: Vec<Bytes>,
        excludes: Vec<Bytes>,
        iincludes: Vec<Bytes>,
        iexcludes: Vec<Bytes>,
        overwrite: &str,
        delete: bool,
        sparse: bool,
        numeric_owner: bool,
        owner: bool,
        root_metadata: bool,
        verify: bool,
        dry_run: bool,
        verbose: bool,
    ) -> PyResult<PyClassInitializer<Self>> {
        let options = Options {
            tree: tree.0,
            target: target.to_vec(),
            subfolder: subfolder.map(|path| path.to_vec()).unwrap_or_default(),
            device: device.map(duplicate).transpose()?.map(Device::new).transpose()?,
            includes: [PatternList::new(includes, false)?, PatternList::new(iincludes, true)?],
            excludes: [PatternList::new(excludes, false)?, PatternList::new(iexcludes, true)?],
            overwrite: Overwrite::from_word(overwrite)?,
            delete,
            sparse,
            numeric_owner,
            owner,
            root_metadata,
            verify,
            dry_run,
            verbose,
        };
        let (key, index) = (key.0.clone(), Arc::clone(&index.0));
        let core = run::start("restore", move |core| restore::run(core, &key, &index, &options))?;
        Ok(PyClassInitializer::from(Run { core }).add_subclass(Self))
    }
}
