//! Sealing, hashing, compressing and cutting, for Python.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::IdArgument;
use super::bytes::Bytes;
use crate::chunker::Chunker;
use crate::error::Result;
use crate::pack::verify;
use crate::{blob, codec, kdf, polynomial, seal, sha};

/// The repository's master key (restic: AES-256-CTR with Poly1305-AES).
#[pyclass(frozen, module = "lowtide_engine._kernel")]
pub struct Key(pub seal::Key);

fn give<'py>(py: Python<'py>, bytes: Result<Vec<u8>>) -> PyResult<Bound<'py, PyBytes>> {
    Ok(PyBytes::new(py, &bytes?))
}

#[pymethods]
impl Key {
    #[new]
    fn new(encrypt: Bytes, mac_k: Bytes, mac_r: Bytes) -> PyResult<Self> {
        Ok(Self(seal::Key::new(&encrypt, &mac_k, &mac_r)?))
    }

    fn seal<'py>(&self, py: Python<'py>, plaintext: Bytes) -> PyResult<Bound<'py, PyBytes>> {
        give(py, py.detach(|| self.0.seal(&plaintext)))
    }

    fn unseal<'py>(&self, py: Python<'py>, sealed: Bytes) -> PyResult<Bound<'py, PyBytes>> {
        give(py, py.detach(|| self.0.unseal(&sealed)))
    }
}

/// What scrypt (RFC 7914) makes of a password: 64 bytes.
#[pyfunction]
pub fn scrypt<'py>(
    py: Python<'py>,
    password: Bytes,
    salt: Bytes,
    n: u64,
    r: u32,
    p: u32,
) -> PyResult<Bound<'py, PyBytes>> {
    let derived = py.detach(|| kdf::scrypt(&password, &salt, n, r, p))?;
    Ok(PyBytes::new(py, &*derived))
}

#[pyfunction]
pub fn sha256(py: Python<'_>, data: Bytes) -> String {
    py.detach(|| sha::sha256(&data)).to_string()
}

#[pyfunction]
#[pyo3(signature = (data, level = 3))]
pub fn zstd_compress(py: Python<'_>, data: Bytes, level: i32) -> PyResult<Bound<'_, PyBytes>> {
    give(py, py.detach(|| codec::compress(&data, level)))
}

/// Decompress one frame as a stream; raises KernelError where it would exceed `limit` bytes.
#[pyfunction]
pub fn zstd_decompress(py: Python<'_>, data: Bytes, limit: usize) -> PyResult<Bound<'_, PyBytes>> {
    give(py, py.detach(|| codec::decompress(&data, limit)))
}

#[pyfunction]
pub fn random_polynomial(py: Python<'_>) -> PyResult<u64> {
    Ok(py.detach(polynomial::random_polynomial)?)
}

#[pyfunction]
pub fn is_irreducible(py: Python<'_>, polynomial: u64) -> bool {
    py.detach(|| polynomial::is_irreducible(polynomial))
}

/// The lengths that restic's chunker cuts `data` into.
#[pyfunction]
pub fn chunk_lengths(py: Python<'_>, data: Bytes, polynomial: u64) -> PyResult<Vec<usize>> {
    Ok(py.detach(|| Chunker::new(polynomial).map(|c| c.lengths(&data)))?)
}

/// Unseal, decompress (if `uncompressed_length` is not 0) and check one blob against its id.
#[pyfunction]
pub fn open_blob<'py>(
    py: Python<'py>,
    key: &Key,
    sealed: Bytes,
    blob_id: IdArgument,
    uncompressed_length: u32,
) -> PyResult<Bound<'py, PyBytes>> {
    give(py, py.detach(|| blob::open_blob(&key.0, &sealed, &blob_id.0, uncompressed_length)))
}

/// Whether each of these pieces of `data` (offset, length, uncompressed length or 0, id) is a blob that opens to what its id says.
#[pyfunction]
pub fn check_blobs(
    py: Python<'_>,
    key: &Key,
    data: Bytes,
    blobs: Vec<(usize, usize, u32, IdArgument)>,
) -> PyResult<Vec<bool>> {
    let sealed = blobs.into_iter().map(|(offset, length, uncompressed_length, id)| {
        let bytes = offset.checked_add(length).and_then(|end| data.get(offset..end));
        blob::Sealed { bytes, id: id.0, uncompressed_length }
    });
    let sealed: Vec<_> = sealed.collect();
    Ok(py.detach(|| verify::check_blobs(&key.0, &sealed))?)
}
