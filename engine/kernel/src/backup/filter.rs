//! What is left out of a backup, by restic's rules.

use std::os::fd::AsFd;

use rustix::fs::Stat;

use crate::error::Result;
use crate::fs::directory;
use crate::node::NodeKind;
use crate::pattern::PatternList;

/// Left out without a word: by pattern, by a tag file next to it, by size.
pub struct Filter {
    excludes: PatternList,
    iexcludes: PatternList,
    tags: Vec<Tag>,
    larger_than: u64,
}

/// A file whose presence leaves out everything else in its folder; its content must start with the header.
pub struct Tag {
    pub name: Vec<u8>,
    pub header: Vec<u8>,
}

/// Which of the tags a folder has.
#[derive(Default)]
pub struct Tagged(Vec<usize>);

impl Filter {
    pub fn new(
        excludes: &[Vec<u8>],
        iexcludes: &[Vec<u8>],
        if_present: &[(Vec<u8>, Vec<u8>)],
        caches: bool,
        larger_than: u64,
    ) -> Result<Self> {
        let mut tags: Vec<Tag> =
            if_present.iter().map(|(name, header)| Tag { name: name.clone(), header: header.clone() }).collect();
        if caches {
            tags.push(Tag {
                name: b"CACHEDIR.TAG".to_vec(),
                header: b"Signature: 8a477f597d28d172789f06886806bc55".to_vec(),
            });
        }
        Ok(Self {
            excludes: PatternList::new(excludes, false)?,
            iexcludes: PatternList::new(iexcludes, true)?,
            tags,
            larger_than,
        })
    }

    /// By the absolute path alone.
    pub fn rejects_path(&self, path: &[u8]) -> bool {
        self.excludes.matches(path) || self.iexcludes.matches(path)
    }

    pub fn rejects_file(&self, kind: &NodeKind, stat: &Stat) -> bool {
        #[allow(clippy::unnecessary_cast, reason = "the type of the field differs between architectures")]
        let size = stat.st_size as u64;
        self.larger_than > 0 && *kind != NodeKind::Dir && size > self.larger_than
    }

    /// Which tags an open folder has. A tag that can't be read is none, and told with its name.
    pub fn tagged(&self, folder: impl AsFd, mut problem: impl FnMut(&[u8], String) -> Result<()>) -> Result<Tagged> {
        let mut tagged = Tagged::default();
        for (number, tag) in self.tags.iter().enumerate() {
            match has_tag(&folder, tag) {
                Ok(true) => tagged.0.push(number),
                Ok(false) => {}
                Err(why) => problem(&tag.name, why)?,
            }
        }
        Ok(tagged)
    }

    /// Whether a name in a folder with these tags is left out: all are but the tag itself.
    pub fn rejects_tagged(&self, tagged: &Tagged, name: &[u8]) -> bool {
        tagged.0.iter().any(|number| self.tags[*number].name != name)
    }
}

fn has_tag(folder: impl AsFd, tag: &Tag) -> std::result::Result<bool, String> {
    use rustix::io::Errno;
    match directory::stat(&folder, &tag.name) {
        Ok(_) if tag.header.is_empty() => return Ok(true),
        Ok(_) => {}
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
        Err(error) => return Err(format!("it can't be looked up: {error}")),
    }
    let file = directory::open_file(&folder, &tag.name).map_err(|e| format!("it can't be opened: {e}"))?;
    let mut start = vec![0; tag.header.len()];
    let mut filled = 0;
    while filled < start.len() {
        match rustix::io::read(&file, &mut start[filled..]) {
            Ok(0) => return Ok(false),
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(error) => return Err(format!("it can't be read: {error}")),
        }
    }
    Ok(start == tag.header)
}
