//! Strings and numbers as `json.Marshal` writes them (HTML characters escaped).

/// Append `raw` as a JSON string with its quotes; each invalid UTF-8 byte becomes the six characters `\ufffd`.
pub fn string_into(raw: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in raw.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(at) = rest.find(needs_escape) {
            out.extend_from_slice(&rest.as_bytes()[..at]);
            let mut chars = rest[at..].chars();
            if let Some(c) = chars.next() {
                escape_into(c, out);
            }
            rest = chars.as_str();
        }
        out.extend_from_slice(rest.as_bytes());
        for _ in chunk.invalid() {
            out.extend_from_slice(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn needs_escape(c: char) -> bool {
    matches!(c, '\0'..='\x1f' | '"' | '\\' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}')
}

fn escape_into(c: char, out: &mut Vec<u8>) {
    let short = match c {
        '"' | '\\' => c as u8,
        '\x08' => b'b',
        '\x0c' => b'f',
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        _ => {
            let code = c as u32;
            out.extend_from_slice(b"\\u");
            out.extend((0..4).rev().map(|i| b"0123456789abcdef"[(code >> (4 * i) & 15) as usize]));
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Append `value` in decimal.
pub fn u64_into(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(raw: &[u8]) -> String {
        let mut out = Vec::new();
        string_into(raw, &mut out);
        String::from_utf8(out).expect("encoded text is UTF-8")
    }

    #[test]
    fn escapes_as_go_does() {
        assert_eq!(encoded(b"a<b>&\"\\/"), r#""a\u003cb\u003e\u0026\"\\/""#);
        assert_eq!(encoded(b"\n\r\t\x08\x0c\x0b\0\x1f\x7f"), "\"\\n\\r\\t\\b\\f\\u000b\\u0000\\u001f\x7f\"");
        assert_eq!(encoded("\u{2028}\u{2029}\u{a0}ä".as_bytes()), "\"\\u2028\\u2029\u{a0}ä\"");
        assert_eq!(encoded(b"x\xe2\x82y"), r#""x\ufffd\ufffdy""#);
    }

    #[test]
    fn numbers() {
        for value in [0, 9, 10, 4_294_967_296, u64::MAX] {
            let mut out = Vec::new();
            u64_into(value, &mut out);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }
}
