//! Pack files: sealed blobs, then a sealed header that lists them, then the header's length (restic-format 1.5).

pub mod header;
pub mod verify;

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a blob holds: a piece of a file, or a folder.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobKind {
    Data,
    Tree,
}

impl BlobKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Tree => "tree",
        }
    }
}

impl fmt::Display for BlobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
