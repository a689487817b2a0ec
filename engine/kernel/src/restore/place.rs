//! Names in a folder: what is there, and making room for what comes.

use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::fs::{self, AtFlags, FallocateFlags, FileType, Mode, OFlags, RenameFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

use super::holes;
use super::linked::Names;

/// Which file a name led to when it was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    dev: u64,
    ino: u64,
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        Identity { dev: stat.st_dev, ino: stat.st_ino }
    }
}

/// What to do with a folder that is not empty and in the way of something else.
#[derive(Clone, Copy, Debug)]
pub enum FullFolder<'a> {
    /// Leave it: what was to come fails.
    Keep,
    /// Give it another name, and say so; the deletion at the end finds it under that.
    SetAside(&'a AtomicBool),
}

/// What the other name starts with.
pub const ASIDE: &str = ".lowtide-replaced-";

/// What `name` is, or None. Links are not followed.
pub fn look(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

pub fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Whether a file may be written in place: a regular one that has no other name, or none but the `names` that are ours.
pub fn is_own(stat: &Stat, names: Option<Names>) -> bool {
    let all = names
        .is_some_and(|names| names.file == Identity::of(stat) && usize::try_from(stat.st_nlink) == Ok(names.count));
    kind(stat) == FileType::RegularFile && (stat.st_nlink == 1 || all)
}

/// Create a file that wasn't there (0600), after what is in its way is gone.
pub fn create(folder: BorrowedFd<'_>, name: &[u8], full: FullFolder<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    with_room(folder, name, full, || retry_on_intr(|| fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)))
}

/// Do what makes `name`; where something has that name, remove it and do it again.
pub fn with_room<T>(
    folder: BorrowedFd<'_>,
    name: &[u8],
    full: FullFolder<'_>,
    make: impl Fn() -> Result<T, Errno>,
) -> Result<T, Errno> {
    // Another process may put something there again: not for ever.
    for _ in 0..8 {
        match make() {
            Err(Errno::EXIST) => clear(folder, name, full)?,
            other => return other,
        }
    }
    Err(Errno::EXIST)
}

fn clear(folder: BorrowedFd<'_>, name: &[u8], full: FullFolder<'_>) -> Result<(), Errno> {
    let gone = |result| if result == Err(Errno::NOENT) { Ok(()) } else { result };
    let Some(stat) = look(folder, name)? else { return Ok(()) };
    if kind(&stat) != FileType::Directory {
        return gone(fs::unlinkat(folder, name, AtFlags::empty()));
    }
    match fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Err(error @ (Errno::NOTEMPTY | Errno::EXIST)) => match full {
            FullFolder::Keep => Err(error),
            FullFolder::SetAside(told) => set_aside(folder, name).inspect(|()| told.store(true, Ordering::Relaxed)),
        },
        other => gone(other),
    }
}

fn aside() -> String {
    format!("{ASIDE}{}-", std::process::id())
}

/// Whether this process gave something that name.
pub fn is_set_aside(name: &[u8]) -> bool {
    name.starts_with(aside().as_bytes())
}

fn set_aside(folder: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    for number in 0..1000 {
        let aside = format!("{}{number}", aside());
        match fs::renameat_with(folder, name, folder, aside.as_bytes(), RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => return other,
        }
    }
    Err(Errno::EXIST)
}

/// Open a file to be changed in place: only the one that was looked at, and only while it is our own.
pub fn open_in_place(
    folder: BorrowedFd<'_>,
    name: &[u8],
    expected: Identity,
    names: Option<Names>,
) -> Result<OwnedFd, Errno> {
    open_this(folder, name, expected, names, OFlags::RDWR)
}

/// Open a file to be compared only, with the same care.
pub fn open_to_compare(
    folder: BorrowedFd<'_>,
    name: &[u8],
    expected: Identity,
    names: Option<Names>,
) -> Result<OwnedFd, Errno> {
    open_this(folder, name, expected, names, OFlags::RDONLY)
}

fn open_this(
    folder: BorrowedFd<'_>,
    name: &[u8],
    expected: Identity,
    names: Option<Names>,
    access: OFlags,
) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = fs::openat(folder, name, flags, Mode::empty())?;
    let stat = fs::fstat(&fd)?;
    if Identity::of(&stat) != expected || !is_own(&stat, names) {
        return Err(Errno::STALE);
    }
    Ok(fd)
}

pub fn identity(fd: &OwnedFd) -> Result<Identity, Errno> {
    Ok(Identity::of(&fs::fstat(fd)?))
}

impl From<&Stat> for Identity {
    fn from(stat: &Stat) -> Self {
        Identity::of(stat)
    }
}

/// How data gets into a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Filling {
    /// Whether long runs of zeros become holes.
    pub sparse: bool,
    /// Whether the file is new, so that what isn't written reads as zeros.
    pub new: bool,
}

/// Write `data` at `offset`. True where it ends with a hole, so that the file may still end before it.
pub fn write(fd: &OwnedFd, data: &[u8], offset: u64, filling: Filling) -> Result<bool, Errno> {
    if !filling.sparse {
        return write_all(fd, data, offset).map(|()| false);
    }
    let mut hole_at_end = false;
    for (range, write) in holes::stretches(data, offset) {
        let at = offset + range.start as u64;
        hole_at_end = !write && (filling.new || punch(fd, at, range.len() as u64)?);
        if !hole_at_end {
            write_all(fd, &data[range], at)?;
        }
    }
    Ok(hole_at_end)
}

/// Make `length` bytes at `offset` read as zeros.
pub fn write_zeros(fd: &OwnedFd, offset: u64, length: u64, filling: Filling) -> Result<(), Errno> {
    if filling.sparse && (filling.new || punch(fd, offset, length)?) {
        return Ok(());
    }
    let zeros = [0; 64 << 10];
    let mut done = 0;
    while done < length {
        let part = (length - done).min(zeros.len() as u64);
        write_all(fd, &zeros[..part as usize], offset + done)?;
        done += part;
    }
    Ok(())
}

/// Whether a hole could be made; not every file system can.
fn punch(fd: &OwnedFd, offset: u64, length: u64) -> Result<bool, Errno> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match retry_on_intr(|| fs::fallocate(fd, flags, offset, length)) {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM) => Ok(false),
        Err(error) => Err(error),
    }
}

fn write_all(fd: &OwnedFd, mut data: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !data.is_empty() {
        match rustix::io::pwrite(fd, data, offset) {
            Ok(0) => return Err(Errno::IO),
            Ok(written) => {
                data = &data[written..];
                offset += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Read exactly `buffer.len()` bytes; false where the file ends before.
pub fn read_exact(fd: &OwnedFd, mut buffer: &mut [u8], mut offset: u64) -> Result<bool, Errno> {
    while !buffer.is_empty() {
        match rustix::io::pread(fd, &mut *buffer, offset) {
            Ok(0) => return Ok(false),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Give a file its final size; without holes the space is taken at once, so that a full disk shows early.
pub fn set_size(fd: &OwnedFd, size: u64, filling: Filling) -> Result<(), Errno> {
    if !filling.sparse && size > 0 {
        let taken = retry_on_intr(|| fs::fallocate(fd, FallocateFlags::empty(), 0, size));
        // Other errors say that the file system can't: the writes will tell.
        if let Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) = taken {
            return Err(error);
        }
    }
    retry_on_intr(|| fs::ftruncate(fd, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::restore::scratch::Scratch;
    use rustix::fd::AsFd;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn folder(scratch: &Scratch) -> OwnedFd {
        fs::open(scratch.path(), OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("a folder")
    }

    #[test]
    fn what_is_in_the_way_goes_and_nothing_behind_it() {
        let scratch = Scratch::new("way");
        let top = scratch.path();
        let fd = folder(&scratch);
        std::fs::write(top.join("victim"), b"precious").expect("a file");
        symlink("victim", top.join("link")).expect("a link");
        std::fs::hard_link(top.join("victim"), top.join("hard")).expect("a hard link");
        std::fs::create_dir(top.join("empty")).expect("a folder");
        fs::mknodat(&fd, "fifo", FileType::Fifo, Mode::RWXU, 0).expect("a fifo");
        for name in ["link", "hard", "empty", "fifo", "new"] {
            let made = create(fd.as_fd(), name.as_bytes(), FullFolder::Keep).expect(name);
            write(&made, b"data", 0, Filling { sparse: true, new: true }).expect("a write");
            let found = std::fs::symlink_metadata(top.join(name)).expect("stat");
            assert!(found.is_file() && found.nlink() == 1 && found.mode() & 0o7777 == 0o600, "{name}");
        }
        assert_eq!(std::fs::read(top.join("victim")).expect("still there"), b"precious");
    }

    #[test]
    fn a_full_folder_stays_or_is_set_aside() {
        let scratch = Scratch::new("full");
        let top = scratch.path();
        let fd = folder(&scratch);
        std::fs::create_dir_all(top.join("x/y")).expect("folders");
        assert_eq!(create(fd.as_fd(), b"x", FullFolder::Keep).err(), Some(Errno::NOTEMPTY));
        assert!(top.join("x/y").is_dir());
        let told = AtomicBool::new(false);
        create(fd.as_fd(), b"x", FullFolder::SetAside(&told)).expect("room was made");
        assert!(told.into_inner());
        assert!(top.join("x").is_file());
        let aside = format!("{ASIDE}{}-0/y", std::process::id());
        assert!(top.join(aside).is_dir());
    }

    #[test]
    fn only_the_file_that_was_seen_is_changed_in_place() {
        let scratch = Scratch::new("place");
        let top = scratch.path();
        let fd = folder(&scratch);
        std::fs::write(top.join("a"), b"old").expect("a file");
        let seen = look(fd.as_fd(), b"a").expect("stat").expect("there");
        assert!(is_own(&seen, None));
        assert!(open_in_place(fd.as_fd(), b"a", (&seen).into(), None).is_ok());
        std::fs::hard_link(top.join("a"), top.join("b")).expect("a hard link");
        assert_eq!(open_in_place(fd.as_fd(), b"a", (&seen).into(), None).err(), Some(Errno::STALE));
        let names = |count| Some(Names { file: (&seen).into(), count });
        assert!(open_in_place(fd.as_fd(), b"a", (&seen).into(), names(2)).is_ok());
        assert_eq!(open_in_place(fd.as_fd(), b"a", (&seen).into(), names(3)).err(), Some(Errno::STALE));
        std::fs::remove_file(top.join("a")).expect("removed");
        symlink("b", top.join("a")).expect("a link");
        assert_eq!(open_in_place(fd.as_fd(), b"a", (&seen).into(), None).err(), Some(Errno::LOOP));
    }

    #[test]
    fn zeros_become_holes_in_new_and_old_files() {
        let scratch = Scratch::new("holes");
        let top = scratch.path();
        let fd = folder(&scratch);
        let mut data = vec![7; 1 << 20];
        data[100_000..900_000].fill(0);
        for (name, new) in [("new", true), ("old", false)] {
            if !new {
                std::fs::write(top.join(name), vec![9; 1 << 20]).expect("a file");
            }
            let file = match new {
                true => create(fd.as_fd(), name.as_bytes(), FullFolder::Keep).expect("created"),
                false => fs::openat(&fd, name, OFlags::RDWR, Mode::empty()).expect("opened"),
            };
            let filling = Filling { sparse: true, new };
            write(&file, &data, 0, filling).expect("a write");
            write_zeros(&file, 1 << 20, 1 << 20, filling).expect("zeros");
            set_size(&file, 2 << 20, filling).expect("a size");
            let mut expected = data.clone();
            expected.resize(2 << 20, 0);
            assert!(std::fs::read(top.join(name)).expect("readable") == expected, "{name}");
            rustix::fs::fsync(&file).expect("synced");
            let blocks = std::fs::metadata(top.join(name)).expect("stat").blocks();
            assert!(blocks * 512 < 400_000, "{name} takes {blocks} blocks");
        }
        let plain = create(fd.as_fd(), b"plain", FullFolder::Keep).expect("created");
        let filling = Filling { sparse: false, new: true };
        set_size(&plain, 1 << 20, filling).expect("a size");
        write(&plain, &data, 0, filling).expect("a write");
        rustix::fs::fsync(&plain).expect("synced");
        assert!(std::fs::metadata(top.join("plain")).expect("stat").blocks() * 512 >= 1 << 20);
    }
}
