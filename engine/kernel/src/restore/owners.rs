//! Who owns what is restored: the numbers of the snapshot, or the numbers that its names have here.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Mutex, PoisonError};

/// How owners are restored. Names are looked up once each.
pub struct Owners {
    wanted: bool,
    by_name: bool,
    users: Mutex<HashMap<Vec<u8>, Option<u32>>>,
    groups: Mutex<HashMap<Vec<u8>, Option<u32>>>,
}

impl Owners {
    pub fn new(wanted: bool, numeric: bool) -> Self {
        Owners { wanted, by_name: !numeric, users: Mutex::default(), groups: Mutex::default() }
    }

    /// Whether owners are to be set at all.
    pub fn wanted(&self) -> bool {
        self.wanted
    }

    /// The numbers for a node's owner and group; a name that isn't known here keeps the node's number.
    pub fn resolve(&self, uid: u32, gid: u32, user: &[u8], group: &[u8]) -> (u32, u32) {
        if !self.by_name {
            return (uid, gid);
        }
        (
            look_up(&self.users, user, user_number).unwrap_or(uid),
            look_up(&self.groups, group, group_number).unwrap_or(gid),
        )
    }
}

fn look_up(
    known: &Mutex<HashMap<Vec<u8>, Option<u32>>>,
    name: &[u8],
    ask: impl Fn(&CString, &mut [libc::c_char]) -> Answer,
) -> Option<u32> {
    if name.is_empty() {
        return None;
    }
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    *known.entry(name.to_vec()).or_insert_with(|| {
        let name = CString::new(name).ok()?;
        let mut buffer = vec![0; 4096];
        loop {
            match ask(&name, &mut buffer) {
                Answer::Number(number) => return Some(number),
                Answer::TooSmall if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
                Answer::TooSmall | Answer::Unknown => return None,
            }
        }
    })
}

enum Answer {
    Number(u32),
    TooSmall,
    Unknown,
}

fn user_number(name: &CString, buffer: &mut [libc::c_char]) -> Answer {
    let mut entry = std::mem::MaybeUninit::<libc::passwd>::uninit();
    let mut found = std::ptr::null_mut();
    // SAFETY: the name ends with a NUL, the buffer is as long as said, entry and found outlive the call, and entry is read only
    // where found says that it was filled.
    let (code, number) = unsafe {
        let code = libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found);
        (code, (code == 0 && !found.is_null()).then(|| (*found).pw_uid))
    };
    answer(code, number)
}

fn group_number(name: &CString, buffer: &mut [libc::c_char]) -> Answer {
    let mut entry = std::mem::MaybeUninit::<libc::group>::uninit();
    let mut found = std::ptr::null_mut();
    // SAFETY: as in user_number.
    let (code, number) = unsafe {
        let code = libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), buffer.as_mut_ptr(), buffer.len(), &mut found);
        (code, (code == 0 && !found.is_null()).then(|| (*found).gr_gid))
    };
    answer(code, number)
}

fn answer(code: libc::c_int, number: Option<u32>) -> Answer {
    match number {
        Some(number) => Answer::Number(number),
        None if code == libc::ERANGE => Answer::TooSmall,
        None => Answer::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_looked_up_only_where_asked_and_known() {
        assert_eq!(Owners::new(true, true).resolve(5, 6, b"root", b"root"), (5, 6));
        let by_name = Owners::new(true, false);
        assert_eq!(by_name.resolve(5, 6, b"root", b"root"), (0, 0));
        assert_eq!(by_name.resolve(5, 6, b"", b"no such group here"), (5, 6));
        assert_eq!(by_name.resolve(5, 6, b"a\0b", b"root"), (5, 0));
    }
}
