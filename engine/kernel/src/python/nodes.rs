//! Trees and patterns, for Python.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::bytes::Bytes;
use crate::error::{Error, Result};
use crate::node::{self, mode};
use crate::pattern::PatternList;
use crate::time::Time;
use crate::tree::{self, TreeError, TreeReader, TreeWriter};

impl From<TreeError> for Error {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Write(_) => Error::system(error.to_string()),
            TreeError::NotAscending { .. } | TreeError::Decode(_) => Error::damaged(error.to_string()),
        }
    }
}

/// One decoded node of a tree.
#[pyclass(frozen, module = "lowtide_engine._kernel")]
pub struct Node(node::Node);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn pair(time: Time) -> (i64, u32) {
    (time.secs(), time.nanos())
}

#[pymethods]
impl Node {
    #[getter]
    fn name<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.name)
    }

    #[getter]
    fn r#type(&self) -> String {
        text(self.0.kind.word())
    }

    #[getter]
    fn mode(&self) -> u32 {
        self.0.mode
    }

    #[getter]
    fn permissions(&self) -> u32 {
        mode::permissions(self.0.mode)
    }

    #[getter]
    fn mtime(&self) -> (i64, u32) {
        pair(self.0.mtime)
    }

    #[getter]
    fn atime(&self) -> (i64, u32) {
        pair(self.0.atime)
    }

    #[getter]
    fn ctime(&self) -> (i64, u32) {
        pair(self.0.ctime)
    }

    #[getter]
    fn uid(&self) -> u32 {
        self.0.uid
    }

    #[getter]
    fn gid(&self) -> u32 {
        self.0.gid
    }

    #[getter]
    fn user(&self) -> String {
        text(&self.0.user)
    }

    #[getter]
    fn group(&self) -> String {
        text(&self.0.group)
    }

    #[getter]
    fn inode(&self) -> u64 {
        self.0.inode
    }

    #[getter]
    fn device_id(&self) -> u64 {
        self.0.device_id
    }

    #[getter]
    fn size(&self) -> u64 {
        self.0.size
    }

    #[getter]
    fn links(&self) -> u64 {
        self.0.links
    }

    #[getter]
    fn linktarget<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.linktarget)
    }

    #[getter]
    fn extended_attributes<'py>(&self, py: Python<'py>) -> Vec<(String, Bound<'py, PyBytes>)> {
        let value = |xattr: &node::Xattr| PyBytes::new(py, xattr.value.as_deref().unwrap_or_default());
        self.0.xattrs.iter().map(|xattr| (text(&xattr.name), value(xattr))).collect()
    }

    /// The JSON of the generic attributes, or an empty string.
    #[getter]
    fn generic_attributes(&self) -> String {
        text(&self.0.generic_attributes)
    }

    #[getter]
    fn device(&self) -> u64 {
        self.0.device
    }

    #[getter]
    fn content(&self) -> Option<Vec<String>> {
        self.0.content.as_ref().map(|ids| ids.iter().map(ToString::to_string).collect())
    }

    #[getter]
    fn subtree(&self) -> Option<String> {
        self.0.subtree.map(|id| id.to_string())
    }

    #[getter]
    fn error(&self) -> String {
        text(&self.0.error)
    }

    fn __repr__(&self) -> String {
        format!("Node(name=b\"{}\", type={:?})", self.0.name.escape_ascii(), self.r#type())
    }
}

/// Decode the bytes of a tree blob; KernelError where it isn't one.
#[pyfunction]
pub fn decode_tree(py: Python<'_>, tree: Bytes) -> PyResult<Vec<Node>> {
    let nodes = py.detach(|| -> Result<Vec<Node>> {
        let mut nodes = Vec::new();
        for entry in TreeReader::new(&tree)?.tolerant() {
            nodes.push(Node(entry?.node));
        }
        Ok(nodes)
    })?;
    Ok(nodes)
}

/// Build a tree from (name, raw node JSON) pairs in order.
#[pyfunction]
pub fn encode_tree(py: Python<'_>, entries: Vec<(Bytes, Bytes)>) -> PyResult<Bound<'_, PyBytes>> {
    let tree = py.detach(|| -> Result<Vec<u8>> {
        let mut writer = TreeWriter::new(Vec::new())?;
        for (name, json) in &entries {
            writer.raw(name, json)?;
        }
        Ok(writer.finish()?.2)
    })?;
    Ok(PyBytes::new(py, &tree))
}

/// The tree as this kernel would write it.
#[pyfunction]
pub fn reencode_tree(py: Python<'_>, tree: Bytes) -> PyResult<Bound<'_, PyBytes>> {
    let again = py.detach(|| tree::reencode(&tree).map_err(Error::from))?;
    Ok(PyBytes::new(py, &again))
}

/// A parsed list of patterns (restic's meaning).
#[pyclass(frozen, module = "lowtide_engine._kernel")]
pub struct Patterns(PatternList);

#[pymethods]
impl Patterns {
    #[new]
    #[pyo3(signature = (patterns, *, ignore_case = false))]
    fn new(patterns: Vec<Bytes>, ignore_case: bool) -> PyResult<Self> {
        Ok(Self(PatternList::new(patterns, ignore_case)?))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    /// Whether the list, as one of excludes, rejects `path`.
    fn matches(&self, path: Bytes) -> bool {
        self.0.matches(&path)
    }

    /// What the list, as one of includes, says: whether `path` matches, and whether something below it may.
    fn verdict(&self, path: Bytes) -> (bool, bool) {
        let verdict = self.0.verdict(&path);
        (verdict.matched, verdict.child_may_match)
    }
}
