//! A scanner over JSON text that gives values one by one and skips what it isn't asked for.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

/// How deep skipped values may nest; restic's own trees nest four deep.
const MAX_DEPTH: usize = 128;

/// Text that is not the JSON that was expected: what was wrong, and at which byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    pub what: &'static str,
    pub at: usize,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl std::error::Error for DecodeError {}

type Result<T> = std::result::Result<T, DecodeError>;

#[derive(Clone)]
pub struct Scanner<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Scanner { data, at: 0 }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    /// The text of a span that `skip` gave.
    pub fn text(&self, span: Range<usize>) -> &'a [u8] {
        &self.data[span]
    }

    pub fn fail<T>(&self, what: &'static str) -> Result<T> {
        Err(DecodeError { what, at: self.at })
    }

    /// The next byte that is not white space, or None at the end.
    pub fn peek(&mut self) -> Option<u8> {
        while let Some(&byte) = self.data.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Take `byte` if it comes next.
    pub fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, byte: u8, what: &'static str) -> Result<()> {
        if self.take(byte) { Ok(()) } else { self.fail(what) }
    }

    /// Take `null` if it comes next.
    pub fn take_null(&mut self) -> bool {
        let found = self.peek() == Some(b'n') && self.data[self.at..].starts_with(b"null");
        self.at += if found { 4 } else { 0 };
        found
    }

    /// Inside an object (or array) that ends with `close`: whether another member follows. `first` is kept by the caller.
    pub fn more(&mut self, first: &mut bool, close: u8) -> Result<bool> {
        if std::mem::take(first) {
            return Ok(!self.take(close));
        }
        if self.take(close) {
            return Ok(false);
        }
        self.expect(b',', "a comma is missing")?;
        Ok(true)
    }

    /// A member's name and the colon after it.
    pub fn key(&mut self) -> Result<Cow<'a, [u8]>> {
        let key = self.string()?;
        self.expect(b':', "a colon is missing")?;
        Ok(key)
    }

    /// A string, decoded; what is not valid UTF-8 in it, and lone surrogates, become U+FFFD, as in Go.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>> {
        self.expect(b'"', "a string was expected")?;
        let start = self.at;
        let data = self.data;
        loop {
            match data.get(self.at) {
                Some(b'"') => {
                    let raw = &data[start..self.at];
                    self.at += 1;
                    if raw.is_ascii() || std::str::from_utf8(raw).is_ok() {
                        return Ok(Cow::Borrowed(raw));
                    }
                    let mut out = Vec::with_capacity(raw.len() + 8);
                    push_valid(raw, &mut out);
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => break,
                Some(0x20..) => self.at += 1,
                Some(_) => return self.fail("a control character in a string"),
                None => return self.fail("a string has no end"),
            }
        }
        let mut out = Vec::with_capacity(self.at - start + 32);
        let mut plain = start;
        loop {
            match data.get(self.at) {
                Some(b'"') => {
                    push_valid(&data[plain..self.at], &mut out);
                    self.at += 1;
                    return Ok(Cow::Owned(out));
                }
                Some(b'\\') => {
                    push_valid(&data[plain..self.at], &mut out);
                    self.escape(&mut out)?;
                    plain = self.at;
                }
                Some(0x20..) => self.at += 1,
                Some(_) => return self.fail("a control character in a string"),
                None => return self.fail("a string has no end"),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let Some(&kind) = self.data.get(self.at + 1) else { return self.fail("a string has no end") };
        let byte = match kind {
            b'"' | b'\\' | b'/' => kind,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let Some(mut code) = self.unit(self.at) else { return self.fail("a bad \\u escape") };
                self.at += 6;
                if (0xd800..0xdc00).contains(&code)
                    && let Some(low @ 0xdc00..0xe000) = self.unit(self.at)
                {
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    self.at += 6;
                }
                let c = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return self.fail("an unknown escape in a string"),
        };
        out.push(byte);
        self.at += 2;
        Ok(())
    }

    /// The code unit of a `\uXXXX` that starts at `at`.
    fn unit(&self, at: usize) -> Option<u32> {
        let digits = self.data.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |code, &b| Some(code << 4 | char::from(b).to_digit(16)?))
    }

    /// An unsigned number of at most 64 bits.
    pub fn u64(&mut self) -> Result<u64> {
        self.peek();
        let digits = self.data[self.at..].iter().take_while(|b| b.is_ascii_digit()).count();
        let text = &self.data[self.at..self.at + digits];
        if digits == 0 || (text[0] == b'0' && digits > 1) {
            return self.fail("an unsigned number was expected");
        }
        let value = text.iter().try_fold(0u64, |value, &b| value.checked_mul(10)?.checked_add(u64::from(b - b'0')));
        let Some(value) = value else { return self.fail("a number is too large") };
        self.at += digits;
        if let Some(b'.' | b'e' | b'E') = self.data.get(self.at) {
            return self.fail("a whole number was expected");
        }
        Ok(value)
    }

    pub fn u32(&mut self) -> Result<u32> {
        let before = self.at;
        u32::try_from(self.u64()?).map_err(|_| DecodeError { what: "a number is too large", at: before })
    }

    /// Pass over any value; gives the bytes that it spans.
    pub fn skip(&mut self) -> Result<Range<usize>> {
        self.peek();
        let start = self.at;
        self.skip_below(MAX_DEPTH)?;
        Ok(start..self.at)
    }

    fn skip_below(&mut self, depth: usize) -> Result<()> {
        let Some(depth) = depth.checked_sub(1) else { return self.fail("values nest too deep") };
        match self.peek() {
            Some(open @ (b'{' | b'[')) => {
                self.at += 1;
                let mut first = true;
                let close = if open == b'{' { b'}' } else { b']' };
                while self.more(&mut first, close)? {
                    if open == b'{' {
                        self.key()?;
                    }
                    self.skip_below(depth)?;
                }
                Ok(())
            }
            Some(b'"') => self.string().map(drop),
            Some(b'-' | b'0'..=b'9') => self.skip_number(),
            _ => {
                for word in [&b"null"[..], b"true", b"false"] {
                    if self.data[self.at..].starts_with(word) {
                        self.at += word.len();
                        return Ok(());
                    }
                }
                self.fail("a value was expected")
            }
        }
    }

    fn skip_number(&mut self) -> Result<()> {
        let rest = &self.data[self.at..];
        let digits = |from: usize| rest[from..].iter().take_while(|b| b.is_ascii_digit()).count();
        let mut end = usize::from(rest[0] == b'-');
        let whole = digits(end);
        if whole == 0 || (rest[end] == b'0' && whole > 1) {
            return self.fail("a bad number");
        }
        end += whole;
        if rest.get(end) == Some(&b'.') {
            let fraction = digits(end + 1);
            if fraction == 0 {
                return self.fail("a bad number");
            }
            end += 1 + fraction;
        }
        if let Some(b'e' | b'E') = rest.get(end) {
            end += 1 + usize::from(matches!(rest.get(end + 1), Some(b'+' | b'-')));
            let exponent = if end <= rest.len() { digits(end) } else { 0 };
            if exponent == 0 {
                return self.fail("a bad number");
            }
            end += exponent;
        }
        self.at += end;
        Ok(())
    }
}

/// Append `raw`, with U+FFFD for each byte that is not part of valid UTF-8.
fn push_valid(raw: &[u8], out: &mut Vec<u8>) {
    for chunk in raw.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        for _ in chunk.invalid() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(json: &[u8]) -> Result<Vec<u8>> {
        Scanner::new(json).string().map(Cow::into_owned)
    }

    #[test]
    fn strings() {
        assert_eq!(string(br#"  "plain""#), Ok(b"plain".to_vec()));
        assert_eq!(string(br#""\"\\\/\b\f\n\r\t\u00e4""#), Ok("\"\\/\x08\x0c\n\r\tä".as_bytes().to_vec()));
        assert_eq!(string(br#""\ud83d\ude00""#), Ok("\u{1f600}".as_bytes().to_vec()));
        assert_eq!(string(br#""\ud83d\u0041""#), Ok("\u{fffd}A".as_bytes().to_vec()));
        assert_eq!(string(br#""\ude00""#), Ok("\u{fffd}".as_bytes().to_vec()));
        assert_eq!(string(b"\"a\xe2\x82b\""), Ok("a\u{fffd}\u{fffd}b".as_bytes().to_vec()));
        assert_eq!(string(b"\"\\n\xff\""), Ok("\n\u{fffd}".as_bytes().to_vec()));
        for bad in [&b"\"open"[..], b"\"\\", b"\"\\u12\"", b"\"\\q\"", b"\"a\nb\"", b"\"\\n\x01\"", b"plain", b""] {
            assert!(string(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(Scanner::new(b" 18446744073709551615,").u64(), Ok(u64::MAX));
        assert_eq!(Scanner::new(b"0").u64(), Ok(0));
        for bad in [&b"18446744073709551616"[..], b"-1", b"01", b"1.5", b"1e3", b"", b"x", b"null"] {
            assert!(Scanner::new(bad).u64().is_err(), "{bad:?}");
        }
        assert!(Scanner::new(b"4294967296").u32().is_err());
    }

    #[test]
    fn skips_values_and_nothing_else() {
        let json = br#" {"a":[1,-2.5e+3,{"b":null}],"c":"}","d":{},"e":[]} tail"#;
        let mut scanner = Scanner::new(json);
        let span = scanner.skip().expect("a value");
        assert_eq!(&json[span], &json[1..json.len() - 5]);
        for bad in [
            &b"{"[..],
            b"[1,]",
            b"[1 2]",
            b"{\"a\"}",
            b"{1:2}",
            b"tru",
            b"-",
            b"1.",
            b"1e",
            b"1e+",
            b"00",
            b"{,}",
            b"\"\\ud8\"",
        ] {
            assert!(Scanner::new(bad).skip().is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_overflow() {
        assert!(Scanner::new(&vec![b'['; 1_000_000]).skip().is_err());
        assert!(Scanner::new("{\"a\":".repeat(100_000).as_bytes()).skip().is_err());
    }
}
