//! Names of users and groups, each looked up once.

use std::collections::HashMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::raw::{c_char, c_int};
use std::ptr;
use std::sync::Mutex;

use crate::run::lock;

#[derive(Default)]
pub struct Names {
    users: Mutex<HashMap<u32, Vec<u8>>>,
    groups: Mutex<HashMap<u32, Vec<u8>>>,
}

impl Names {
    /// A user's name; empty if there is none.
    pub fn user(&self, uid: u32) -> Vec<u8> {
        lock(&self.users)
            .entry(uid)
            .or_insert_with(|| look_up(uid, libc::getpwuid_r, |p: &libc::passwd| p.pw_name))
            .clone()
    }

    /// A group's name; empty if there is none.
    pub fn group(&self, gid: u32) -> Vec<u8> {
        lock(&self.groups)
            .entry(gid)
            .or_insert_with(|| look_up(gid, libc::getgrgid_r, |g: &libc::group| g.gr_name))
            .clone()
    }
}

type Call<T> = unsafe extern "C" fn(u32, *mut T, *mut c_char, libc::size_t, *mut *mut T) -> c_int;

fn look_up<T>(id: u32, call: Call<T>, name: impl Fn(&T) -> *mut c_char) -> Vec<u8> {
    let mut length = 1 << 12;
    loop {
        let mut buffer: Vec<c_char> = vec![0; length];
        let mut entry = MaybeUninit::<T>::uninit();
        let mut found: *mut T = ptr::null_mut();
        // SAFETY: all pointers are valid for the call and `length` is the buffer's.
        let error = unsafe { call(id, entry.as_mut_ptr(), buffer.as_mut_ptr(), length, &raw mut found) };
        if error == libc::ERANGE && length < 1 << 20 {
            length *= 4;
            continue;
        }
        if error != 0 || found.is_null() {
            return Vec::new();
        }
        // SAFETY: the call succeeded and `found` points to `entry`, which it filled; its strings are in `buffer`, which lives on.
        let text = unsafe { name(&*found) };
        if text.is_null() {
            return Vec::new();
        }
        // SAFETY: the name is a C string within `buffer`.
        return unsafe { CStr::from_ptr(text) }.to_bytes().to_vec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_nobody_at_all_has_none() {
        let names = Names::default();
        assert_eq!(names.user(0), b"root");
        assert_eq!(names.group(0), b"root");
        assert_eq!(names.user(4_000_000_123), b"");
    }
}
