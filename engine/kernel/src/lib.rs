//! The data plane of Lowtide's engine: files into packs, packs into files.
//!
//! The surface that Python sees is in `lowtide_engine/_kernel.pyi`; nothing here does network, storage, config or locks.

use pyo3::prelude::*;

#[pymodule]
mod _kernel {
    #[pymodule_export]
    const ABI: u32 = 1;
}
