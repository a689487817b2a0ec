//! One path component against one pattern, as Go's `filepath.Match` does it on Unix.

/// A pattern that `filepath.Match` calls malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPattern;

/// What is left of a pattern and of a name.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// Whether `name` as a whole matches `pattern`: `*` and `?` (never a slash), `[a-z]`, `[^a-z]`, `\c`.
pub fn matches(pattern: &[u8], name: &[u8]) -> Result<bool, BadPattern> {
    let (mut pattern, mut name) = (pattern, name);
    // Where to go on when the text after a star doesn't fit: that text, and the name one character on.
    let mut retry: Option<Pair<'_>> = None;
    loop {
        if pattern.first() == Some(&b'*') {
            while pattern.first() == Some(&b'*') {
                pattern = &pattern[1..];
            }
            if pattern.is_empty() {
                return Ok(!name.contains(&b'/'));
            }
            retry = Some((pattern, name));
        }
        if pattern.is_empty() && name.is_empty() {
            return Ok(true);
        }
        match step(pattern, name)? {
            Some((after, rest)) => (pattern, name) = (after, rest),
            None => match retry {
                Some((after_star, from)) if !from.is_empty() && from[0] != b'/' => {
                    (pattern, name) = (after_star, &from[1..]);
                    retry = Some((after_star, name));
                }
                _ => return validate(pattern).map(|()| false),
            },
        }
    }
}

/// Match the one element at the pattern's start (not a star): what is left of both, or None where it doesn't fit.
fn step<'a>(pattern: &'a [u8], name: &'a [u8]) -> Result<Option<Pair<'a>>, BadPattern> {
    let Some(&first) = pattern.first() else { return Ok(None) };
    let (rest, fits, width) = match first {
        b'[' => {
            let (c, width) = decode(name);
            let (rest, fits) = class(&pattern[1..], c)?;
            (rest, fits, width)
        }
        b'?' => (&pattern[1..], name.first() != Some(&b'/'), decode(name).1),
        b'\\' => {
            let literal = *pattern.get(1).ok_or(BadPattern)?;
            (&pattern[2..], name.first() == Some(&literal), 1)
        }
        literal => (&pattern[1..], name.first() == Some(&literal), 1),
    };
    Ok((fits && !name.is_empty()).then(|| (rest, &name[width..])))
}

/// A character class after its bracket: what follows it, and whether `c` is in it.
fn class(pattern: &[u8], c: u32) -> Result<(&[u8], bool), BadPattern> {
    let (mut rest, negated) = match pattern.strip_prefix(b"^") {
        Some(rest) => (rest, true),
        None => (pattern, false),
    };
    let (mut found, mut ranges) = (false, 0);
    loop {
        if ranges > 0 && rest.first() == Some(&b']') {
            return Ok((&rest[1..], found != negated));
        }
        let low;
        (low, rest) = class_char(rest)?;
        let mut high = low;
        if rest.first() == Some(&b'-') {
            (high, rest) = class_char(&rest[1..])?;
        }
        found |= (low..=high).contains(&c);
        ranges += 1;
    }
}

/// One character of a class, which may be escaped; something must follow it.
fn class_char(pattern: &[u8]) -> Result<(u32, &[u8]), BadPattern> {
    let rest = match pattern.first() {
        None | Some(b'-' | b']') => return Err(BadPattern),
        Some(b'\\') => &pattern[1..],
        Some(_) => pattern,
    };
    let (c, width) = decode(rest);
    let rest = &rest[width.min(rest.len())..];
    if rest.is_empty() || (c == INVALID && width == 1) {
        return Err(BadPattern);
    }
    Ok((c, rest))
}

/// The rest of a pattern that has already failed must be well formed all the same.
fn validate(mut pattern: &[u8]) -> Result<(), BadPattern> {
    while let Some(&first) = pattern.first() {
        pattern = match first {
            b'[' => class(&pattern[1..], 0)?.0,
            b'\\' => pattern.get(2..).ok_or(BadPattern)?,
            _ => &pattern[1..],
        };
    }
    Ok(())
}

const INVALID: u32 = 0xfffd;

/// The first character and its width in bytes; U+FFFD and 1 where it is no UTF-8, as Go's `utf8.DecodeRune`.
fn decode(text: &[u8]) -> (u32, usize) {
    let Some(&first) = text.first() else { return (INVALID, 0) };
    let width = match first {
        0..0x80 => return (u32::from(first), 1),
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf5 => 4,
        _ => return (INVALID, 1),
    };
    let valid = text.get(..width).and_then(|bytes| std::str::from_utf8(bytes).ok());
    match valid.and_then(|text| text.chars().next()) {
        Some(c) => (c as u32, width),
        None => (INVALID, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matches() {
        for (pattern, name) in [
            ("", ""),
            ("*", ""),
            ("*", "abc"),
            ("a*", "a"),
            ("*c", "abc"),
            ("a*c*e", "abcde"),
            ("a*b?c*x", "abxbbxdbxebxczzx"),
            ("?", "ä"),
            ("[a-c]x", "bx"),
            ("[^a-c]", "d"),
            ("[ä-ü]", "ö"),
            ("[\\]a]", "]"),
            ("[\\-]", "-"),
            ("[-x\\-]*", "y"),
            ("\\*", "*"),
            ("a\\?", "a?"),
            ("**", "abc"),
            ("[^a]", "ä"),
            ("*.txt", "a.txt.txt"),
            ("[[]", "["),
            ("]", "]"),
            ("-", "-"),
            ("a[b]c", "abc"),
        ] {
            if pattern.starts_with("[-x") {
                assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), Err(BadPattern), "{pattern} {name}");
            } else {
                assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), Ok(true), "{pattern} {name}");
            }
        }
    }

    #[test]
    fn what_does_not() {
        for (pattern, name) in [
            ("", "a"),
            ("a", ""),
            ("a", "A"),
            ("a*", "ba"),
            ("*b", "abc"),
            ("?", ""),
            ("?", "ab"),
            ("?", "/"),
            ("*", "a/b"),
            ("[a-c]", "d"),
            ("[^a-c]", "b"),
            ("\\*", "x"),
            ("a*b?c*x", "abxbbxdbxebxczzy"),
            ("[a]", ""),
            ("[c-a]", "b"),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), Ok(false), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_malformed() {
        for pattern in [
            "[", "[a", "[]", "[]a]", "[-]", "[a-]", "[^", "[^]", "a[", "a[x", "\\", "a\\", "[\\", "[a\\", "[a-b-c]",
            "*[", "x[-y]",
        ] {
            assert_eq!(matches(pattern.as_bytes(), pattern.as_bytes()), Err(BadPattern), "{pattern}");
        }
        assert_eq!(matches(b"a[\xff]", b"a\xff"), Err(BadPattern));
    }

    #[test]
    fn many_stars_stay_quick() {
        let pattern = "*a".repeat(40) + "b";
        assert_eq!(matches(pattern.as_bytes(), "a".repeat(4000).as_bytes()), Ok(false));
    }
}
