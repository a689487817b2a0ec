//! A run and its events, for Python.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::bytes::Bytes;
use crate::id::Id;
use crate::run::{Core, Event, Pooled, lock};

/// One running job of the kernel. `next` gives the events; whoever drives it answers each.
#[pyclass(subclass, frozen, module = "lowtide_engine._kernel")]
pub struct Run {
    pub core: Arc<Core>,
}

impl Drop for Run {
    fn drop(&mut self) {
        self.core.cancel();
    }
}

#[pymethods]
impl Run {
    /// The next event, or None after `timeout` seconds. Raises KernelError where a thread ended or the run was cancelled.
    fn next(&self, py: Python<'_>, timeout: f64) -> PyResult<Option<Py<PyAny>>> {
        let timeout = Duration::try_from_secs_f64(timeout.max(0.0))
            .map_err(|_| PyValueError::new_err("the timeout is not a number of seconds"))?;
        match py.detach(|| self.core.next(timeout))? {
            Some(event) => give(py, event).map(Some),
            None => Ok(None),
        }
    }

    fn provide(&self, ticket: u64, data: Bytes) -> PyResult<()> {
        Ok(self.core.provide(ticket, Box::new(data))?)
    }

    fn refuse(&self, ticket: u64, why: String) -> PyResult<()> {
        Ok(self.core.refuse(ticket, why)?)
    }

    /// Stop all threads soon; `next` then raises KernelError. Idempotent.
    fn cancel(&self, py: Python<'_>) {
        py.detach(|| self.core.cancel());
    }

    fn progress(&self) -> Progress {
        let seen = self.core.progress().seen();
        Progress {
            files_done: seen.files_done,
            files_total: seen.files_total,
            bytes_done: seen.bytes_done,
            bytes_total: seen.bytes_total,
            errors: seen.errors,
            steps: seen.steps,
            scan_finished: seen.scan_finished,
            current: seen.current,
        }
    }
}

fn give(py: Python<'_>, event: Event) -> PyResult<Py<PyAny>> {
    Ok(match event {
        Event::PackReady { pack, kind, data } => {
            let data = Py::new(py, PackBuffer::new(data))?;
            Py::new(py, PackReady { pack: pack.to_string(), kind: kind.as_str(), data })?.into_any()
        }
        Event::IndexReady { ticket, packs, json } => {
            let packs = packs.iter().map(Id::to_string).collect();
            Py::new(py, IndexReady { ticket, packs, json: PyBytes::new(py, &json).unbind() })?.into_any()
        }
        Event::Fetch { ticket, pack, offset, length, kind } => {
            Py::new(py, Fetch { ticket, pack: pack.to_string(), offset, length, kind: kind.as_str() })?.into_any()
        }
        Event::ItemError { path, during, message, notice } => {
            let path = PyBytes::new(py, &path).unbind();
            Py::new(py, ItemError { path, during, message, notice })?.into_any()
        }
        Event::ItemDone { path, action, size } => {
            Py::new(py, ItemDone { path: PyBytes::new(py, &path).unbind(), action, size })?.into_any()
        }
        Event::Problem { kind, message } => Py::new(py, Problem { kind, message })?.into_any(),
        Event::Finished(outcome) => {
            let summary = PyDict::new(py);
            for (name, number) in outcome.summary {
                summary.set_item(name, number)?;
            }
            let root = outcome.root.map(|id| id.to_string()).unwrap_or_default();
            Py::new(py, Finished { root, summary: summary.unbind() })?.into_any()
        }
    })
}

/// The bytes of a pack, read-only, by the buffer protocol. The kernel takes the memory back when the last reference goes, or when it is
/// released.
#[pyclass(frozen, module = "lowtide_engine._kernel")]
pub struct PackBuffer(Mutex<Lent>);

struct Lent {
    bytes: Option<Pooled>,
    views: usize,
}

impl PackBuffer {
    fn new(bytes: Pooled) -> Self {
        Self(Mutex::new(Lent { bytes: Some(bytes), views: 0 }))
    }

    /// Give the memory back, at once or, where there are views of it, when the last one goes; whether it was at once. The kernel does
    /// not wait for it any more.
    fn release(&self) -> bool {
        let mut lent = lock(&self.0);
        if lent.views == 0 {
            lent.bytes = None;
        } else if let Some(bytes) = &mut lent.bytes {
            bytes.give_up();
        }
        lent.bytes.is_none()
    }
}

#[pymethods]
impl PackBuffer {
    fn __len__(&self) -> usize {
        lock(&self.0).bytes.as_ref().map_or(0, |bytes| bytes.len())
    }

    /// # Safety
    /// `view` is a Py_buffer that the interpreter passes to be filled.
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let mut lent = lock(&slf.get().0);
        let Some(bytes) = &lent.bytes else { return Err(PyBufferError::new_err("the pack was released")) };
        let length = bytes.len().try_into().map_err(|_| PyBufferError::new_err("the pack is too long"))?;
        let start = bytes.as_ptr().cast_mut().cast::<c_void>();
        // SAFETY: `start` and `length` are one allocation that is neither moved nor freed while `views` counts this view, which also
        // gets a reference to `slf`; nothing writes to the bytes; the view is marked as read-only, and a request to write raises
        // BufferError.
        let done = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start, length, 1, flags) };
        if done != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        lent.views += 1;
        Ok(())
    }

    /// # Safety
    /// `view` is one that `__getbuffer__` filled.
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        lock(&self.0).views -= 1;
        // SAFETY: the view is valid until this returns; nothing was allocated for it.
        unsafe { (*view).internal = ptr::null_mut() };
    }
}

/// A finished pack. `data` is a buffer that the kernel takes back when the last reference to it goes, or by `release`.
#[pyclass(frozen, module = "lowtide_engine._kernel")]
pub struct PackReady {
    #[pyo3(get)]
    pack: String,
    #[pyo3(get)]
    kind: &'static str,
    #[pyo3(get)]
    data: Py<PackBuffer>,
}

#[pymethods]
impl PackReady {
    /// The bytes are needed no longer: the kernel may use as much memory again, even where somebody still holds `data`. False where
    /// there are views of it, so that the memory itself goes with the last of them.
    fn release(&self) -> bool {
        self.data.get().release()
    }
}

/// Plaintext JSON of an index file, and the packs that it names, which are all stored. Answer with `index_stored(ticket)`.
#[pyclass(frozen, get_all, module = "lowtide_engine._kernel")]
pub struct IndexReady {
    ticket: u64,
    packs: Vec<String>,
    json: Py<PyBytes>,
}

/// Piece of a pack that a run needs. Answer with `provide(ticket, data)` or `refuse(ticket, why)`.
#[pyclass(frozen, get_all, module = "lowtide_engine._kernel")]
pub struct Fetch {
    ticket: u64,
    pack: String,
    offset: u32,
    length: u32,
    kind: &'static str,
}

/// One file or folder that could not be read or written; the run goes on.
#[pyclass(frozen, get_all, module = "lowtide_engine._kernel")]
pub struct ItemError {
    path: Py<PyBytes>,
    during: &'static str,
    message: String,
    notice: bool,
}

#[pymethods]
impl ItemError {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let path = self.path.bind(py).repr()?;
        Ok(format!("ItemError({path}, during={:?}, {:?}, notice={})", self.during, self.message, self.notice))
    }
}

/// Only where asked for by `verbose`: what was done with one item.
#[pyclass(frozen, get_all, module = "lowtide_engine._kernel")]
pub struct ItemDone {
    path: Py<PyBytes>,
    action: &'static str,
    size: u64,
}

/// Damage found by a check: `kind` is a CamelCase word, `message` a sentence that names the blob, tree or pack.
#[pyclass(frozen, get_all, module = "lowtide_engine._kernel")]
pub struct Problem {
    kind: &'static str,
    message: String,
}

#[pymethods]
impl Problem {
    fn __repr__(&self) -> String {
        format!("Problem({:?}, {:?})", self.kind, self.message)
    }
}

/// The end of a run. `root` is the root tree's id of a backup (every pack and index acknowledged), else empty.
#[pyclass(frozen, get_all, module = "lowtide_engine._kernel")]
pub struct Finished {
    root: String,
    summary: Py<PyDict>,
}

/// How far a run is.
#[pyclass(frozen, module = "lowtide_engine._kernel")]
pub struct Progress {
    #[pyo3(get)]
    files_done: u64,
    #[pyo3(get)]
    files_total: u64,
    #[pyo3(get)]
    bytes_done: u64,
    #[pyo3(get)]
    bytes_total: u64,
    #[pyo3(get)]
    errors: u64,
    #[pyo3(get)]
    steps: u64,
    #[pyo3(get)]
    scan_finished: bool,
    current: Vec<Vec<u8>>,
}

#[pymethods]
impl Progress {
    #[getter]
    fn current<'py>(&self, py: Python<'py>) -> Vec<Bound<'py, PyBytes>> {
        self.current.iter().map(|path| PyBytes::new(py, path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::KernelError;
    use crate::run::start;

    #[test]
    fn a_thread_that_dies_is_a_kernel_error_in_python() {
        Python::initialize();
        let core = start("test", |core| {
            core.scope(|threads| threads.spawn("dies", || panic!("injected")))?;
            unreachable!("the scope has failed")
        })
        .unwrap();
        Python::attach(|py| {
            let run = Py::new(py, Run { core }).unwrap();
            let error = run.call_method1(py, "next", (60.0,)).unwrap_err();
            assert!(error.is_instance_of::<KernelError>(py), "{error}");
            let message = error.to_string();
            assert!(message.contains("thread dies died") && message.contains("injected"), "{message}");
        });
    }
}
