//! From a password to the key that a key file is sealed with: scrypt (RFC 7914).

use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// AES key, k and r.
pub const LENGTH: usize = 64;

/// Takes 128·r·(n + p) bytes of memory; whoever calls bounds that. `n` is a power of two.
pub fn scrypt(password: &[u8], salt: &[u8], n: u64, r: u32, p: u32) -> Result<Zeroizing<[u8; LENGTH]>> {
    let impossible = || Error::invalid(format!("there is no scrypt with N={n}, r={r}, p={p}"));
    if !n.is_power_of_two() {
        return Err(impossible());
    }
    let params = scrypt::Params::new(n.ilog2() as u8, r, p).map_err(|_| impossible())?;
    has_room(128 * r as usize * n as usize)?;
    let mut derived = Zeroizing::new([0; LENGTH]);
    scrypt::scrypt(password, salt, &params, &mut *derived).map_err(|_| impossible())?;
    Ok(derived)
}

/// Memory that is not to be had would end the whole process, did the crate ask for it.
fn has_room(length: usize) -> Result<()> {
    Vec::<u8>::new()
        .try_reserve_exact(length)
        .map_err(|_| Error::system(format!("there are no {} MiB of memory for scrypt", length >> 20)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Those of RFC 7914, section 12, that take less than a GiB: the first four bytes and the last.
    #[test]
    fn the_vectors_of_the_rfc() {
        for (password, salt, n, r, p, begins, ends) in [
            ("", "", 16, 1, 1, [0x77, 0xd6, 0x57, 0x62], [0x38, 0xd1, 0x89, 0x06]),
            ("password", "NaCl", 1024, 8, 16, [0xfd, 0xba, 0xbe, 0x1c], [0xa2, 0xcc, 0x06, 0x40]),
            ("pleaseletmein", "SodiumChloride", 16384, 8, 1, [0x70, 0x23, 0xbd, 0xcb], [0x45, 0x57, 0x58, 0x87]),
        ] {
            let derived = scrypt(password.as_bytes(), salt.as_bytes(), n, r, p).unwrap();
            assert_eq!((&derived[..4], &derived[60..]), (&begins[..], &ends[..]), "N={n} r={r} p={p}");
        }
    }
}
