//! Files with several names that are there already. Where all their names are names of one file of the snapshot, they are compared
//! and changed in place like others: made anew they would need their space twice.

use std::collections::HashMap;

use rustix::fs::Stat;
use rustix::io::Errno;

use super::Session;
use super::batch::{FileJob, Folders};
use super::place::{self, Identity};
use super::root::join;
use super::walk::HardLink;
use crate::error::Result;

/// So many wait for the end of the walk, when their other names are known (about 30 MiB); more are made anew.
pub const MOST_WAITING: usize = 65_536;

/// How many names a file has that are the restore's own.
#[derive(Clone, Copy, Debug)]
pub struct Names {
    pub file: Identity,
    pub count: usize,
}

/// Whether there is a file with several names in the place of `job`.
pub fn has_names(session: &Session<'_>, job: &FileJob) -> bool {
    let there = look(session, &mut Folders::default(), job);
    !job.folder.fresh && there.is_ok_and(|stat| stat.is_some_and(|stat| stat.st_nlink > 1))
}

/// Count the names of the files that are in the place of `jobs`: their own, and those of the links to them.
pub fn count_names(session: &Session<'_>, jobs: &mut [FileJob], links: &[HardLink]) -> Result<()> {
    let mut folders = Folders::default();
    let mut numbers = HashMap::new();
    for (number, job) in jobs.iter_mut().enumerate() {
        session.core.alive()?;
        if let Ok(Some(stat)) = look(session, &mut folders, job) {
            job.names = Some(Names { file: (&stat).into(), count: 1 });
            numbers.insert(job.path.clone(), number);
        }
    }
    if numbers.is_empty() {
        return Ok(());
    }
    for link in links {
        session.core.alive()?;
        session.core.progress().step();
        let Some(&number) = numbers.get(&join(&link.original.0.path, &link.original.1)) else { continue };
        let there = folders.open(session, &link.folder).and_then(|folder| place::look(folder, &link.name));
        if let (Some(names), Ok(Some(stat))) = (&mut jobs[number].names, there)
            && names.file == Identity::from(&stat)
        {
            names.count += 1;
        }
    }
    Ok(())
}

fn look(session: &Session<'_>, folders: &mut Folders, job: &FileJob) -> std::result::Result<Option<Stat>, Errno> {
    place::look(folders.open(session, &job.folder)?, &job.name)
}
