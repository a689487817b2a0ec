//! Check, for Python.

use std::sync::Arc;

use pyo3::prelude::*;

use super::IdArgument;
use super::blobs::Key;
use super::index::Index;
use super::run::Run;
use crate::check::{self, Used};
use crate::id::Id;
use crate::{index, run};

/// Load every tree below `roots` and see that each blob they name is in the index.
#[pyclass(extends = Run, frozen, module = "lowtide_engine._kernel")]
pub struct Check {
    index: Arc<index::Index>,
    used: Arc<Used>,
}

#[pymethods]
impl Check {
    #[new]
    #[pyo3(signature = (key, index, *, roots))]
    fn new(key: &Key, index: &Index, roots: Vec<IdArgument>) -> PyResult<PyClassInitializer<Self>> {
        let (key, index) = (key.0.clone(), Arc::clone(&index.0));
        let used = Arc::new(Used::new(&index));
        let check = Self { index: Arc::clone(&index), used: Arc::clone(&used) };
        let roots: Vec<Id> = roots.into_iter().map(|root| root.0).collect();
        let core = run::start("check", move |core| check::run(core, &key, &index, &roots, &used))?;
        Ok(PyClassInitializer::from(Run { core }).add_subclass(check))
    }

    /// The blobs that no tree names, after the run has finished without a problem.
    fn unused(&self, py: Python<'_>) -> Vec<(&'static str, String)> {
        let unused = py.detach(|| self.used.unused(&self.index));
        unused.into_iter().map(|(kind, id)| (kind.as_str(), id.to_string())).collect()
    }
}
