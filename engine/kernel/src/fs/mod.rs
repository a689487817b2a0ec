//! What the file system says of files: everything by descriptors of folders, never through a symbolic link.

pub mod directory;
pub mod metadata;
pub mod names;
pub mod xattrs;
