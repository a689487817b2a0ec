//! Polynomials over GF(2) as bits of a u64, and the irreducible ones that a repository's chunker uses.

use crate::error::{Error, Result};

/// The degree that restic's chunker needs.
pub const DEGREE: u32 = 53;

/// The degree; of 0 it is taken as 0, which no caller here tells apart from 1's.
pub fn degree(x: u64) -> u32 {
    63 - (x | 1).leading_zeros()
}

/// x modulo m; m is not 0.
pub fn modulo(mut x: u64, m: u64) -> u64 {
    let d = degree(m);
    if d == 0 {
        return 0;
    }
    while x != 0 && degree(x) >= d {
        x ^= m << (degree(x) - d);
    }
    x
}

/// a·b modulo m, for a and b of a lower degree than m, and m's degree at most 62.
fn multiply(mut a: u64, mut b: u64, m: u64) -> u64 {
    let top = 1 << degree(m);
    let mut product = 0;
    while b != 0 {
        if b & 1 != 0 {
            product ^= a;
        }
        b >>= 1;
        a <<= 1;
        if a & top != 0 {
            a ^= m;
        }
    }
    product
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, modulo(a, b));
    }
    a
}

/// Ben-Or's test: p of degree n is irreducible iff gcd(p, x^(2^i) - x mod p) is 1 for i = 1 … n/2.
pub fn is_irreducible(p: u64) -> bool {
    let n = degree(p);
    if !(1..=62).contains(&n) {
        return false;
    }
    let x = modulo(2, p);
    let mut power = x;
    for _ in 0..n / 2 {
        power = multiply(power, power, p);
        if gcd(p, power ^ x) != 1 {
            return false;
        }
    }
    true
}

/// A random irreducible polynomial of degree 53, from the system's random numbers.
pub fn random_polynomial() -> Result<u64> {
    for _ in 0..1_000_000 {
        let random = getrandom::u64().map_err(|e| Error::system(format!("the system gives no random numbers: {e}")))?;
        let candidate = random & ((1 << (DEGREE + 1)) - 1) | 1 << DEGREE | 1;
        if is_irreducible(candidate) {
            return Ok(candidate);
        }
    }
    Err(Error::system("no irreducible polynomial in a million tries: the random numbers can't be random"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_irreducible_polynomials_are_those_of_the_sieve() {
        let mut reducible = [false; 1 << 9];
        for a in 2u64..1 << 8 {
            for b in 2u64..1 << 8 {
                let product = (0..8).filter(|i| b >> i & 1 != 0).fold(0, |p, i| p ^ a << i);
                if product < 1 << 9 {
                    reducible[product as usize] = true;
                }
            }
        }
        for p in 2u64..1 << 9 {
            assert_eq!(is_irreducible(p), !reducible[p as usize], "{p:b}");
        }
        assert!(!is_irreducible(0) && !is_irreducible(1));
    }

    #[test]
    fn the_known_one_is_irreducible_and_its_neighbours_are_not() {
        assert!(is_irreducible(0x3D_A335_8B4D_C173));
        assert!(!is_irreducible(0x3D_A335_8B4D_C172));
        assert!(!is_irreducible(0x3D_A335_8B4D_C171));
    }

    #[test]
    fn random_ones_have_the_degree() {
        for _ in 0..5 {
            let p = random_polynomial().unwrap();
            assert_eq!(degree(p), DEGREE);
            assert!(is_irreducible(p));
        }
    }
}
