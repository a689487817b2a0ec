//! What Python sees: thin classes and functions over the rest of the crate. Every call that works on data releases the
//! interpreter's lock.

mod backup;
mod blobs;
mod bytes;
mod check;
mod index;
mod nodes;
mod restore;
mod run;

use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

use crate::error::Error;
use crate::id::Id;
use crate::pack::BlobKind;

create_exception!(
    lowtide_engine._kernel,
    KernelError,
    PyException,
    "A failure of the kernel that ends the whole run: damaged data, a bad argument, a thread that died."
);

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        KernelError::new_err(error.to_string())
    }
}

/// An id given by Python as 64 hexadecimal digits.
struct IdArgument(Id);

impl<'py> FromPyObject<'_, 'py> for IdArgument {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(value.extract::<String>()?.parse::<Id>()?))
    }
}

/// A descriptor of our own for what a descriptor of Python's stands for.
fn duplicate(descriptor: RawFd) -> PyResult<OwnedFd> {
    if descriptor < 0 {
        return Err(Error::invalid(format!("{descriptor} is no file descriptor")).into());
    }
    // SAFETY: it is borrowed for this one call, which fails where it isn't open; Python's threads are held off meanwhile.
    let given = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let own = given.try_clone_to_owned();
    Ok(own.map_err(|e| Error::invalid(format!("the descriptor {descriptor} can't be had: {e}")))?)
}

/// A kind given by Python as "data" or "tree".
struct KindArgument(BlobKind);

impl<'py> FromPyObject<'_, 'py> for KindArgument {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        match &*value.extract::<String>()? {
            "data" => Ok(Self(BlobKind::Data)),
            "tree" => Ok(Self(BlobKind::Tree)),
            other => Err(Error::invalid(format!("a blob is of kind data or tree, not {other:?}")).into()),
        }
    }
}

#[pymodule]
mod _kernel {
    #[pymodule_export]
    use super::KernelError;
    #[pymodule_export]
    use super::backup::Backup;
    #[pymodule_export]
    use super::blobs::{
        Key, check_blobs, chunk_lengths, is_irreducible, open_blob, random_polynomial, scrypt, sha256, zstd_compress,
        zstd_decompress,
    };
    #[pymodule_export]
    use super::check::Check;
    #[pymodule_export]
    use super::index::{Index, Location, PackEntry, read_pack_header, verify_pack};
    #[pymodule_export]
    use super::nodes::{Node, Patterns, decode_tree, encode_tree, reencode_tree};
    #[pymodule_export]
    use super::restore::Restore;
    #[pymodule_export]
    use super::run::{Fetch, Finished, IndexReady, ItemDone, ItemError, PackBuffer, PackReady, Problem, Progress, Run};
}
