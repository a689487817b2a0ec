//! zstd frames: without checksum and dictionary, with their content's size (restic-format 1.6).

use zstd::zstd_safe::{self, CParameter, DCtx, InBuffer, OutBuffer};

use crate::error::{Error, Result};

/// A compressor with its context, to be kept by a thread: setting one up costs more than a small blob.
pub struct Compressor(zstd::bulk::Compressor<'static>);

fn failed(doing: &str, why: impl std::fmt::Display) -> Error {
    Error::system(format!("zstd can't {doing}: {why}"))
}

fn named(code: usize) -> &'static str {
    zstd_safe::get_error_name(code)
}

impl Compressor {
    pub fn new(level: i32) -> Result<Self> {
        let mut inner = zstd::bulk::Compressor::new(level).map_err(|e| failed("start", e))?;
        inner.set_parameter(CParameter::ChecksumFlag(false)).map_err(|e| failed("start", e))?;
        Ok(Self(inner))
    }

    /// Puts one frame that holds `data` at the start of `out`, which has at least `bound` bytes; gives its length.
    pub fn compress_to(&mut self, data: &[u8], out: &mut [u8]) -> Result<usize> {
        self.0.compress_to_buffer(data, out).map_err(|e| failed("compress", e))
    }
}

/// So many bytes a frame for `length` bytes has at most.
pub fn bound(length: usize) -> usize {
    zstd_safe::compress_bound(length)
}

pub fn compress(data: &[u8], level: i32) -> Result<Vec<u8>> {
    let mut out = vec![0; bound(data.len())];
    let length = Compressor::new(level)?.compress_to(data, &mut out)?;
    out.truncate(length);
    Ok(out)
}

/// Up to here an output buffer is taken at once; beyond, it grows with what really comes out.
const AT_ONCE: usize = 16 << 20;

/// A decompressor with its context, to be kept by a thread.
pub struct Decompressor(DCtx<'static>);

impl Decompressor {
    pub fn new() -> Result<Self> {
        DCtx::try_create().map(Self).ok_or_else(|| failed("start", "out of memory"))
    }

    /// Replaces `out` by what `data` holds, at most `limit` bytes; more is an error, as are a cut frame and an empty input.
    pub fn decompress_into(&mut self, data: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        if data.is_empty() {
            return Err(Error::damaged("there is no zstd frame in 0 bytes"));
        }
        let too_long = || Error::damaged(format!("a zstd frame holds more than the {limit} bytes it may"));
        match zstd_safe::get_frame_content_size(data) {
            Ok(Some(size)) if size > limit as u64 => return Err(too_long()),
            Ok(_) => {}
            Err(_) => return Err(Error::damaged("this is no zstd frame")),
        }
        if limit <= AT_ONCE {
            out.reserve(limit);
            if self.0.decompress(out, data).is_ok() {
                return if out.len() > limit { Err(too_long()) } else { Ok(()) };
            }
        }
        self.stream(data, limit, out, too_long)
    }

    /// Fills `out` by what `data` holds, which must be exactly as much.
    pub fn decompress_to(&mut self, data: &[u8], out: &mut [u8]) -> Result<()> {
        let expected = out.len();
        match self.0.decompress(out, data) {
            Ok(length) if length == expected => Ok(()),
            Ok(length) => Err(Error::damaged(format!("it decompresses to {length} bytes instead of {expected}"))),
            Err(code) => Err(Error::damaged(format!("a zstd frame is damaged: {}", named(code)))),
        }
    }

    /// Decompresses piece by piece, so that memory follows the bytes that come out and not what a frame claims.
    fn stream(&mut self, data: &[u8], limit: usize, out: &mut Vec<u8>, too_long: impl Fn() -> Error) -> Result<()> {
        out.clear();
        self.pieces(data, |produced| {
            if produced.len() > limit - out.len() {
                return Err(too_long());
            }
            out.extend_from_slice(produced);
            Ok(())
        })
    }

    /// Hands out what `data` holds in pieces of 128 KiB at most; a cut frame is an error.
    pub fn pieces(&mut self, data: &[u8], mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.0.init().map_err(|c| failed("start", named(c)))?;
        let mut input = InBuffer::around(data);
        let mut piece = vec![0u8; DCtx::out_size()];
        loop {
            let mut output = OutBuffer::around(&mut piece[..]);
            let left = self
                .0
                .decompress_stream(&mut output, &mut input)
                .map_err(|c| Error::damaged(format!("a zstd frame is damaged: {}", named(c))))?;
            let produced = output.as_slice();
            take(produced)?;
            let at_end = input.pos() == data.len();
            if left == 0 && at_end {
                return Ok(());
            }
            if at_end && produced.is_empty() {
                return Err(Error::damaged("a zstd frame is cut short"));
            }
        }
    }
}

pub fn decompress(data: &[u8], limit: usize) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    Decompressor::new()?.decompress_into(data, limit, &mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn sample(length: usize) -> Vec<u8> {
        (0..length).map(|i| (i * i / 1000 % 251) as u8).collect()
    }

    #[test]
    fn there_and_back() {
        for length in [0, 1, 100, 1 << 20, (16 << 20) + 1] {
            let data = sample(length);
            let frame = compress(&data, 3).unwrap();
            assert_eq!(decompress(&frame, length).unwrap(), data);
            assert_eq!(decompress(&frame, length + 100).unwrap(), data);
        }
    }

    #[test]
    fn frames_say_their_size_and_carry_no_checksum() {
        let frame = compress(&sample(70_000), 3).unwrap();
        assert_eq!(zstd_safe::get_frame_content_size(&frame).unwrap(), Some(70_000));
        assert_eq!(frame[4] & 4, 0);
    }

    #[test]
    fn stops_at_the_limit() {
        let frame = compress(&sample(100_000), 3).unwrap();
        assert!(decompress(&frame, 99_999).is_err());
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.write_all(&sample(100_000)).unwrap();
        encoder.flush().unwrap();
        let unsized_frame = encoder.finish().unwrap();
        assert_eq!(zstd_safe::get_frame_content_size(&unsized_frame).unwrap(), None);
        assert!(decompress(&unsized_frame, 99_999).is_err());
        assert_eq!(decompress(&unsized_frame, 100_000).unwrap(), sample(100_000));
        assert_eq!(decompress(&unsized_frame, 1 << 30).unwrap(), sample(100_000));
    }

    #[test]
    fn cut_or_damaged_frames_are_errors() {
        let frame = compress(&sample(50_000), 3).unwrap();
        for length in 0..frame.len() {
            assert!(decompress(&frame[..length], 50_000).is_err(), "{length}");
            assert!(decompress(&frame[..length], 1 << 30).is_err(), "{length}");
        }
        assert!(decompress(b"{}", 10).is_err());
    }
}
