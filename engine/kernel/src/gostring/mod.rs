//! Go's `strconv.Quote` and `strconv.Unquote` on raw bytes, without the outer quotes.
//!
//! restic stores names so (restic-format 1.9); a tree's id therefore depends on what Go calls printable.

mod isprint;

use std::fmt;

/// A name that `strconv.Unquote` would refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadEscape;

impl fmt::Display for BadEscape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name is not a valid Go string literal")
    }
}

impl std::error::Error for BadEscape {}

/// Whether Go's `strconv.IsPrint` says yes: letters, marks, numbers, punctuation, symbols and the ASCII space.
pub fn is_print(c: char) -> bool {
    let code = c as u32;
    if code < 0x80 {
        return (0x20..0x7f).contains(&code);
    }
    let after = isprint::PRINTABLE.partition_point(|&(first, _)| first <= code);
    after > 0 && code <= isprint::PRINTABLE[after - 1].1
}

/// Append `raw` as `strconv.Quote` writes it, without the outer quotes. The result is always valid UTF-8.
pub fn quote_into(raw: &[u8], out: &mut Vec<u8>) {
    if raw.iter().all(|&b| matches!(b, 0x20..=0x7e) && b != b'"' && b != b'\\') {
        out.extend_from_slice(raw);
        return;
    }
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            quote_char(c, out);
        }
        for &byte in chunk.invalid() {
            push_hex(out, b'x', u32::from(byte), 2);
        }
    }
}

fn quote_char(c: char, out: &mut Vec<u8>) {
    let short = match c {
        '"' | '\\' => c as u8,
        '\x07' => b'a',
        '\x08' => b'b',
        '\x0c' => b'f',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        '\x0b' => b'v',
        _ if is_print(c) => {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return;
        }
        '\0'..=' ' | '\x7f' => return push_hex(out, b'x', c as u32, 2),
        '\0'..='\u{ffff}' => return push_hex(out, b'u', c as u32, 4),
        _ => return push_hex(out, b'U', c as u32, 8),
    };
    out.extend_from_slice(&[b'\\', short]);
}

fn push_hex(out: &mut Vec<u8>, kind: u8, value: u32, digits: u32) {
    out.extend_from_slice(&[b'\\', kind]);
    for shift in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(value >> (4 * shift) & 15) as usize]);
    }
}

/// The raw bytes of a quoted name (given without its outer quotes); every escape that Go accepts is accepted.
///
/// `quoted` comes out of a JSON decoder and is valid UTF-8 there; an invalid byte becomes U+FFFD, as in Go.
pub fn unquote(quoted: &[u8]) -> Result<Vec<u8>, BadEscape> {
    let mut out = Vec::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some(special) = rest.iter().position(|&b| matches!(b, b'\\' | b'"' | b'\n' | 0x80..)) {
        out.extend_from_slice(&rest[..special]);
        rest = &rest[special..];
        match rest[0] {
            b'\\' => rest = unquote_escape(&rest[1..], &mut out)?,
            b'"' | b'\n' => return Err(BadEscape),
            _ => {
                let end = rest.iter().position(|&b| b < 0x80).unwrap_or(rest.len());
                for chunk in rest[..end].utf8_chunks() {
                    out.extend_from_slice(chunk.valid().as_bytes());
                    for _ in chunk.invalid() {
                        out.extend_from_slice("\u{fffd}".as_bytes());
                    }
                }
                rest = &rest[end..];
            }
        }
    }
    out.extend_from_slice(rest);
    Ok(out)
}

/// Decode one escape (after its backslash) and give what follows it.
fn unquote_escape<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], BadEscape> {
    let (&kind, rest) = text.split_first().ok_or(BadEscape)?;
    let byte = match kind {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' => kind,
        b'x' => {
            out.push(number(rest, 2, 16)? as u8);
            return Ok(&rest[2..]);
        }
        b'u' | b'U' => {
            let digits = if kind == b'u' { 4 } else { 8 };
            let c = char::from_u32(number(rest, digits, 16)?).ok_or(BadEscape)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Ok(&rest[digits..]);
        }
        b'0'..=b'7' => {
            out.push(u8::try_from(number(text, 3, 8)?).map_err(|_| BadEscape)?);
            return Ok(&text[3..]);
        }
        _ => return Err(BadEscape),
    };
    out.push(byte);
    Ok(rest)
}

fn number(text: &[u8], digits: usize, radix: u32) -> Result<u32, BadEscape> {
    let text = text.get(..digits).ok_or(BadEscape)?;
    text.iter().try_fold(0u32, |value, &b| {
        let digit = char::from(b).to_digit(radix).ok_or(BadEscape)?;
        value.checked_mul(radix).and_then(|v| v.checked_add(digit)).ok_or(BadEscape)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(raw: &[u8]) -> String {
        let mut out = Vec::new();
        quote_into(raw, &mut out);
        String::from_utf8(out).expect("quoted text is UTF-8")
    }

    #[test]
    fn quotes_as_go_does() {
        // Each right side was printed by Go 1.26's strconv.Quote.
        let cases: [(&[u8], &str); 17] = [
            (b"plain name.txt", "plain name.txt"),
            (b"\x07\x08\x0c\n\r\t\x0b", r"\a\b\f\n\r\t\v"),
            (b"back\\slash \"quote\" 'single'", r#"back\\slash \"quote\" 'single'"#),
            (b"\x01\x1f\x7f\0", r"\x01\x1f\x7f\x00"),
            (b"\xff\xfe", r"\xff\xfe"),
            (b"a\xe2\x82", r"a\xe2\x82"),
            (b"\xed\xa0\x80", r"\xed\xa0\x80"),
            ("\u{a0}\u{200b}\u{2028}\u{2029}\u{feff}".as_bytes(), r"\u00a0\u200b\u2028\u2029\ufeff"),
            ("\u{80}\u{ad}".as_bytes(), r"\u0080\u00ad"),
            ("äöü €".as_bytes(), "äöü €"),
            ("\u{fffd}".as_bytes(), "\u{fffd}"),
            ("\u{1f600}".as_bytes(), "\u{1f600}"),
            ("\u{e0001}\u{10ffff}".as_bytes(), r"\U000e0001\U0010ffff"),
            (b"<>&", "<>&"),
            ("\u{3000}".as_bytes(), r"\u3000"),
            ("e\u{301}".as_bytes(), "e\u{301}"),
            // Assigned in Unicode 15.1 only: not printable for Go.
            ("\u{2ebf0}".as_bytes(), r"\U0002ebf0"),
        ];
        for (raw, expected) in cases {
            assert_eq!(quoted(raw), expected, "{raw:?}");
            assert_eq!(unquote(expected.as_bytes()).as_deref(), Ok(raw), "{expected}");
        }
    }

    #[test]
    fn unquotes_what_go_accepts_and_refuses_the_rest() {
        assert_eq!(unquote(br"\101\x41\u0041\U00000041"), Ok(b"AAAA".to_vec()));
        assert_eq!(unquote(br"\377\xFF"), Ok(b"\xff\xff".to_vec()));
        for bad in [
            &br"\400"[..],
            br"\",
            br"\x4",
            br"\xg0",
            br"\u12",
            br"\ud800",
            br"\U00110000",
            br"\UFFFFFFFFF",
            br"\q",
            br"\'",
            br"\8",
            br"\07",
            b"a\"b",
            b"a\nb",
        ] {
            assert_eq!(unquote(bad), Err(BadEscape), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn every_byte_string_survives_the_round_trip() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let raw = [first, second, b'x', first];
                assert_eq!(unquote(quoted(&raw).as_bytes()).as_deref(), Ok(&raw[..]));
            }
        }
        for code in (0..=0x10ffff).filter_map(char::from_u32) {
            let raw = code.to_string();
            assert_eq!(unquote(quoted(raw.as_bytes()).as_bytes()).as_deref(), Ok(raw.as_bytes()));
        }
    }
}
