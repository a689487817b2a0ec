//! The data plane of Lowtide's engine: files into packs, packs into files.
//!
//! The surface that Python sees is in `lowtide_engine/_kernel.pyi` and is built in `python`; nothing here does network, storage,
//! config or locks.

pub mod backup;
pub mod blob;
pub mod check;
pub mod chunker;
pub mod codec;
pub mod error;
pub mod fs;
pub mod gojson;
pub mod gostring;
pub mod id;
pub mod index;
pub mod kdf;
mod mac;
pub mod node;
pub mod pack;
pub mod pattern;
pub mod polynomial;
#[cfg(test)]
mod properties;
mod python;
pub mod restore;
pub mod run;
pub mod seal;
pub mod sha;
#[cfg(test)]
mod stored_properties;
pub mod time;
#[cfg(test)]
mod timing;
pub mod tree;
pub mod trees;
