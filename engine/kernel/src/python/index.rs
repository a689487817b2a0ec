//! The index and packs' headers, for Python.

use std::sync::Arc;

use pyo3::prelude::*;

use super::blobs::Key;
use super::bytes::Bytes;
use super::{IdArgument, KindArgument};
use crate::index;
use crate::pack::{header, verify};

/// Where a blob is stored; `length` is the sealed length, `uncompressed_length` is 0 for a blob stored raw.
#[pyclass(frozen, eq, get_all, module = "lowtide_engine._kernel")]
#[derive(PartialEq)]
pub struct Location {
    pack: String,
    offset: u32,
    length: u32,
    uncompressed_length: u32,
}

#[pymethods]
impl Location {
    fn __repr__(&self) -> String {
        format!(
            "Location(pack={:?}, offset={}, length={}, uncompressed_length={})",
            self.pack, self.offset, self.length, self.uncompressed_length
        )
    }
}

/// One blob of a pack.
#[pyclass(frozen, eq, get_all, module = "lowtide_engine._kernel")]
#[derive(PartialEq)]
pub struct PackEntry {
    kind: &'static str,
    blob: String,
    offset: u32,
    length: u32,
    uncompressed_length: u32,
}

#[pymethods]
impl PackEntry {
    fn __repr__(&self) -> String {
        format!(
            "PackEntry(kind={:?}, blob={:?}, offset={}, length={}, uncompressed_length={})",
            self.kind, self.blob, self.offset, self.length, self.uncompressed_length
        )
    }
}

impl From<&header::Entry> for PackEntry {
    fn from(entry: &header::Entry) -> Self {
        Self {
            kind: entry.kind.as_str(),
            blob: entry.id.to_string(),
            offset: entry.offset,
            length: entry.length,
            uncompressed_length: entry.uncompressed_length,
        }
    }
}

/// Decode a sealed pack header (without its 4 length bytes), offsets by summation; KernelError where damaged.
#[pyfunction]
pub fn read_pack_header(py: Python<'_>, key: &Key, sealed_header: Bytes) -> PyResult<Vec<PackEntry>> {
    let entries = py.detach(|| header::read(&key.0, &sealed_header))?;
    Ok(entries.iter().map(PackEntry::from).collect())
}

/// What is wrong with a whole pack, one sentence each; empty where name, header, index and every blob agree.
#[pyfunction]
pub fn verify_pack(py: Python<'_>, key: &Key, index: &Index, pack: IdArgument, data: Bytes) -> PyResult<Vec<String>> {
    Ok(py.detach(|| verify::verify_pack(&key.0, &pack.0, index.0.pack_entries(&pack.0), &data))?)
}

/// The union of all index files, in memory. Safe to share between runs; a run adds what it stores.
#[pyclass(frozen, module = "lowtide_engine._kernel")]
pub struct Index(pub Arc<index::Index>);

#[pymethods]
impl Index {
    #[new]
    fn new() -> Self {
        Self(Arc::new(index::Index::new()))
    }

    /// Take in the plaintext JSON of one index file (restic-format 1.7).
    fn add(&self, py: Python<'_>, index_id: IdArgument, index_json: Bytes) -> PyResult<()> {
        Ok(py.detach(|| self.0.add_file(index_id.0, &index_json))?)
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn contains(&self, kind: KindArgument, blob: IdArgument) -> bool {
        self.0.contains(kind.0, &blob.0)
    }

    fn locate(&self, kind: KindArgument, blob: IdArgument) -> Vec<Location> {
        let places = self.0.locate(kind.0, &blob.0);
        places
            .iter()
            .map(|p| Location {
                pack: p.pack.to_string(),
                offset: p.offset,
                length: p.length,
                uncompressed_length: p.uncompressed_length,
            })
            .collect()
    }

    fn packs(&self) -> Vec<String> {
        self.0.packs().iter().map(ToString::to_string).collect()
    }

    /// The size in bytes that the pack's file must have by what the index says.
    fn pack_size(&self, pack: IdArgument) -> PyResult<u64> {
        let id = pack.0;
        self.0
            .pack_size(&id)
            .ok_or_else(|| crate::error::Error::invalid(format!("the index does not know pack {id}")).into())
    }

    fn pack_entries(&self, pack: IdArgument) -> Vec<PackEntry> {
        self.0.pack_entries(&pack.0).iter().map(PackEntry::from).collect()
    }

    fn index_files_of(&self, pack: IdArgument) -> Vec<String> {
        self.0.files_of(&pack.0).iter().map(ToString::to_string).collect()
    }

    fn has_tree_blobs(&self, pack: IdArgument) -> bool {
        self.0.has_tree_blobs(&pack.0)
    }
}
