//! Include and exclude patterns with the meaning that restic gives them.
//!
//! A pattern is a path of components, each as for Go's `filepath.Match`; `**` stands for any number of folders. A pattern
//! with a leading slash is anchored at the root, any other matches at any depth; what it matches, it matches with all that is
//! below. A pattern with a leading `!` takes back what earlier patterns of its list matched.

mod glob;

use std::borrow::Cow;

use crate::error::{Error, Result};

/// A parsed list of patterns of one sort (with or without regard to case).
#[derive(Debug, Default, Clone)]
pub struct PatternList {
    patterns: Vec<Pattern>,
    fold_case: bool,
    any_negated: bool,
}

/// What a list says about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verdict {
    pub matched: bool,
    /// Whether something below the path may match.
    pub child_may_match: bool,
}

#[derive(Debug, Clone)]
struct Pattern {
    parts: Vec<Part>,
    negated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Root,
    /// `**`
    Deep,
    Literal(Vec<u8>),
    Glob(Vec<u8>),
}

impl Part {
    fn matches(&self, component: &[u8]) -> bool {
        match self {
            Part::Root => component == b"/",
            Part::Deep => component != b"/",
            Part::Literal(text) => text == component,
            // Parsing has refused malformed patterns, so an error can't come here.
            Part::Glob(pattern) => glob::matches(pattern, component).unwrap_or(false),
        }
    }
}

impl PatternList {
    /// Parse patterns; empty ones are left out, malformed ones are an error that names them.
    pub fn new<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>, fold_case: bool) -> Result<Self> {
        let mut list = PatternList { fold_case, ..PatternList::default() };
        for text in patterns {
            let text = text.as_ref();
            if text.is_empty() {
                continue;
            }
            let folded = if fold_case { lower(text) } else { Cow::Borrowed(text) };
            let pattern = Pattern::parse(&folded).map_err(|_| {
                Error::invalid(format!(
                    "\"{}\" is not a valid pattern: a bracket or a backslash in it has no end",
                    text.escape_ascii()
                ))
            })?;
            list.any_negated |= pattern.negated;
            list.patterns.push(pattern);
        }
        Ok(list)
    }

    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether an excluding list rejects `path`.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.judge(path, false).matched
    }

    /// What an including list says about `path`.
    pub fn verdict(&self, path: &[u8]) -> Verdict {
        self.judge(path, true)
    }

    fn judge(&self, path: &[u8], children: bool) -> Verdict {
        let mut verdict = Verdict::default();
        if self.patterns.is_empty() || path.is_empty() {
            return verdict;
        }
        let folded = if self.fold_case { lower(path) } else { Cow::Borrowed(path) };
        let components = split(&folded);
        for pattern in &self.patterns {
            let matched = pattern.matches(&components);
            if pattern.negated {
                verdict.matched &= !matched;
                verdict.child_may_match &= !matched;
                continue;
            }
            verdict.matched |= matched;
            verdict.child_may_match |= !children || pattern.may_match_below(&components);
            if verdict.matched && verdict.child_may_match && !self.any_negated {
                break;
            }
        }
        verdict
    }
}

impl Pattern {
    fn parse(text: &[u8]) -> std::result::Result<Self, glob::BadPattern> {
        let (text, negated) = match text.strip_prefix(b"!") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let mut parts = Vec::new();
        for (i, part) in split(&clean(text)).into_iter().enumerate() {
            parts.push(match part {
                b"/" if i == 0 => Part::Root,
                // The empty part is the one of "/", which restic takes for "/**".
                b"**" | b"" => Part::Deep,
                _ if part.iter().any(|b| b"\\[]*?".contains(b)) => {
                    glob::matches(part, part)?;
                    Part::Glob(part.to_vec())
                }
                _ => Part::Literal(part.to_vec()),
            });
        }
        Ok(Pattern { parts, negated })
    }

    fn matches(&self, components: &[&[u8]]) -> bool {
        matches_parts(&self.parts, components)
    }

    /// Whether something below may match: always for a pattern that isn't anchored, else if the path fits the pattern's start.
    fn may_match_below(&self, components: &[&[u8]]) -> bool {
        if self.parts.first() != Some(&Part::Root) {
            return true;
        }
        let deep = self.parts.iter().position(|part| *part == Part::Deep).unwrap_or(usize::MAX);
        let length = components.len().min(deep);
        matches_parts(&self.parts[..length.min(self.parts.len())], &components[..length])
    }
}

/// Whether `parts` match a run of `components`: from the start where anchored, else from anywhere. What follows the run is free.
///
/// restic replaces each `**` from left to right by a number of `*` so that the pattern never gets longer than the path, counting
/// the `**` still to come as one each. So `a/**/b/**` doesn't match `a/x/b`, and the number of components that the part before a
/// `**` and itself may use is bounded by `limit` below.
fn matches_parts(parts: &[Part], components: &[&[u8]]) -> bool {
    if parts.is_empty() {
        return components.is_empty();
    }
    let first = match (&parts[0], components.first()) {
        (Part::Root, _) => 0..1,
        (_, Some(root)) if *root == b"/" => 1..components.len() + 1,
        _ => 0..components.len() + 1,
    };
    first.into_iter().any(|start| matches_from(parts, components, start))
}

fn matches_from(parts: &[Part], components: &[&[u8]], start: usize) -> bool {
    let (all, total) = (components.len(), parts.len());
    // reached[p]: the parts so far can match exactly the components from `start` up to `p`.
    let mut reached = vec![false; all + 1];
    reached[start] = true;
    let (mut plain, mut deep) = (0, 0);
    for part in parts {
        let mut next = vec![false; all + 1];
        if *part == Part::Deep {
            deep += 1;
            // Components that all `**` so far may stand for.
            let Some(limit) = (all + deep).checked_sub(total) else { return false };
            let mut open = false;
            for at in start..=all {
                open = reached[at] || (open && at > start && part.matches(components[at - 1]));
                next[at] = open && at - start <= plain + limit;
            }
        } else {
            plain += 1;
            for at in start..all {
                next[at + 1] = reached[at] && part.matches(components[at]);
            }
        }
        if !next.contains(&true) {
            return false;
        }
        reached = next;
    }
    // A pattern that has shrunk to nothing matches no path.
    plain > 0 || reached[start + 1..].contains(&true)
}

/// The components of a path; the first is "/" where it is absolute.
fn split(path: &[u8]) -> Vec<&[u8]> {
    let mut components: Vec<&[u8]> = path.split(|&b| b == b'/').collect();
    if components[0].is_empty() {
        components[0] = b"/";
    }
    components
}

/// Go's `filepath.Clean`: no doubled slashes, no `.`, `..` resolved, no slash at the end; "." where nothing is left.
pub(crate) fn clean(path: &[u8]) -> Vec<u8> {
    let rooted = path.first() == Some(&b'/');
    let mut kept: Vec<&[u8]> = Vec::new();
    for component in path.split(|&b| b == b'/') {
        match component {
            b"" | b"." => {}
            b".." if kept.last().is_some_and(|last| *last != b"..") => drop(kept.pop()),
            b".." if rooted => {}
            _ => kept.push(component),
        }
    }
    let joined = kept.join(&b'/');
    match (rooted, joined.is_empty()) {
        (true, _) => [b"/", &joined[..]].concat(),
        (false, true) => b".".to_vec(),
        (false, false) => joined,
    }
}

/// Go's `strings.ToLower`: character by character, U+FFFD for what is not UTF-8.
fn lower(text: &[u8]) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        if !text.iter().any(u8::is_ascii_uppercase) {
            return Cow::Borrowed(text);
        }
        return Cow::Owned(text.to_ascii_lowercase());
    }
    let mut out = String::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        // Only U+0130 has a lower case of two characters; Go takes the first.
        out.extend(chunk.valid().chars().filter_map(|c| c.to_lowercase().next()));
        out.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    Cow::Owned(out.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What restic 0.19.1's filter package answered: patterns, path, whether a pattern is refused, matched, child may match.
    const VECTORS: &str = include_str!("vectors.jsonl");

    #[test]
    fn answers_as_restic_does() {
        let wanted =
            std::env::var("LOWTIDE_PATTERN_VECTORS").map(|path| std::fs::read_to_string(path).expect("vectors"));
        let vectors = wanted.as_deref().unwrap_or(VECTORS);
        let mut cases = 0;
        for line in vectors.lines() {
            let (patterns, path, bad, matched, child_may_match): (Vec<String>, String, bool, bool, bool) =
                serde_json::from_str(line).expect("a case");
            match PatternList::new(&patterns, false) {
                Err(_) => assert!(bad, "{patterns:?} was refused"),
                Ok(list) => {
                    assert!(!bad, "{patterns:?} was not refused");
                    assert_eq!(
                        list.verdict(path.as_bytes()),
                        Verdict { matched, child_may_match },
                        "{patterns:?} on {path:?}"
                    );
                    assert_eq!(list.matches(path.as_bytes()), matched, "{patterns:?} on {path:?}");
                }
            }
            cases += 1;
        }
        assert!(cases >= 1600);
    }

    fn matched(pattern: &str, fold_case: bool, path: &[u8]) -> bool {
        PatternList::new([pattern], fold_case).expect("a pattern").matches(path)
    }

    #[test]
    fn case_is_folded_only_where_asked() {
        assert!(matched("*.TXT", true, b"/a/b.txt"));
        assert!(matched("*.txt", true, b"/a/B.TXT"));
        assert!(!matched("*.TXT", false, b"/a/b.txt"));
        assert!(matched("ÄÖ\u{130}", true, "/äöi".as_bytes()));
        assert!(matched("Σ", true, "/σ".as_bytes()));
    }

    #[test]
    fn paths_need_not_be_utf8() {
        assert!(matched("*.bin", false, b"/a/\xff.bin"));
        assert!(matched("?.bin", false, b"/a/\xff.bin"));
        assert!(PatternList::new([b"\xff".as_slice()], false).expect("a pattern").matches(b"/x/\xff"));
    }

    #[test]
    fn many_deep_wildcards_stay_quick() {
        let pattern = "/".to_owned() + &"**/a/".repeat(30) + "b";
        let path = "/a".repeat(400);
        assert!(!matched(&pattern, false, path.as_bytes()));
    }

    #[test]
    fn a_malformed_pattern_is_named() {
        let error = PatternList::new(["ok", "a/[b"], false).expect_err("malformed");
        assert!(error.to_string().contains("a/[b"), "{error}");
    }

    #[test]
    fn clean_is_go_s() {
        for (path, cleaned) in [
            ("", "."),
            ("a//b/./c/", "a/b/c"),
            ("/..", "/"),
            ("/", "/"),
            ("a/..", "."),
            ("../a", "../a"),
            ("a/../../b", "../b"),
            ("/a/../../b", "/b"),
            ("..", ".."),
            ("../..", "../.."),
            ("./a", "a"),
            ("//a", "/a"),
        ] {
            assert_eq!(clean(path.as_bytes()), cleaned.as_bytes(), "{path}");
        }
    }
}
