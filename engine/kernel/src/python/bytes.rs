//! Bytes that Python hands in.

use std::ops::Deref;

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

/// The content of an object with the buffer protocol. That of `bytes` is used in place, for nobody can change it; anything else is
/// copied, because its owner may write to it while the interpreter's lock is released.
pub enum Bytes {
    Shared(PyBackedBytes),
    Copied(Vec<u8>),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Copied(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<'py> FromPyObject<'_, 'py> for Bytes {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = value.extract::<PyBackedBytes>() {
            return Ok(Self::Shared(bytes));
        }
        Ok(Self::Copied(PyBuffer::<u8>::get(&value)?.to_vec(value.py())?))
    }
}
