//! What can go wrong in the kernel. Python sees every kind as `KernelError` with the message.

use std::fmt;

/// A failure that ends the call or the run that met it. Messages are whole sentences without a full stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Stored bytes are not what they must be: a wrong MAC, hash, length or form.
    Damaged(String),
    /// The caller passed something that can't be meant.
    Invalid(String),
    /// A piece of a pack could not be had.
    Refused(String),
    /// The machine failed: no random numbers, no memory for a context, a thread that died.
    System(String),
    /// The run was cancelled, or another thread of it failed first.
    Cancelled,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn damaged(message: impl Into<String>) -> Self {
        Self::Damaged(message.into())
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    pub fn system(message: impl Into<String>) -> Self {
        Self::System(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(m) | Self::Invalid(m) | Self::Refused(m) | Self::System(m) => f.write_str(m),
            Self::Cancelled => f.write_str("the run was cancelled"),
        }
    }
}

impl std::error::Error for Error {}
