//! JSON as Go's `encoding/json` writes and reads it, for tree blobs.

mod base64;
mod encode;
mod scan;

pub use base64::{decode as base64_decode, encode_into as base64_encode_into};
pub use encode::{string_into, u64_into};
pub use scan::{DecodeError, Scanner};
