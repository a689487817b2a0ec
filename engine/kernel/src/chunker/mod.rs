//! restic's content-defined chunker (restic-format 1.12).
//!
//! Whether a cut is allowed after a byte depends on the 64 bytes up to it and on nothing else. So finding candidates is one thing
//! (`Chunker::first`), and choosing among them with minimum and maximum size another (`Chunker::cut`). The first `MIN_SIZE` - 64
//! bytes of a chunk are never looked at.

#[cfg(target_arch = "x86_64")]
mod planes;
#[cfg(target_arch = "x86_64")]
mod shuffled;
#[cfg(target_arch = "x86_64")]
mod sliced;
mod tables;

use tables::Tables;

use crate::error::{Error, Result};
use crate::polynomial::{DEGREE, degree, is_irreducible};

pub const WINDOW: usize = 64;
pub const MIN_SIZE: usize = 512 << 10;
pub const MAX_SIZE: usize = 8 << 20;
const MASK: u64 = (1 << 20) - 1;

/// Cuts data by one repository's polynomial.
#[derive(Clone)]
pub struct Chunker {
    tables: Box<Tables>,
    #[cfg(target_arch = "x86_64")]
    sliced: Option<sliced::Sliced>,
    #[cfg(target_arch = "x86_64")]
    shuffled: Option<shuffled::Shuffled>,
}

impl Chunker {
    pub fn new(polynomial: u64) -> Result<Self> {
        if degree(polynomial) != DEGREE || !is_irreducible(polynomial) {
            return Err(Error::invalid(format!(
                "the chunker's polynomial {polynomial:x} is not an irreducible one of degree {DEGREE}"
            )));
        }
        Ok(Self {
            tables: Box::new(Tables::new(polynomial)),
            #[cfg(target_arch = "x86_64")]
            sliced: sliced::Sliced::new(polynomial),
            #[cfg(target_arch = "x86_64")]
            shuffled: shuffled::Shuffled::new(polynomial),
        })
    }

    /// The first n in from..=to such that a cut is allowed after `data[..n]`, by the quickest way that this processor has.
    fn first(&self, data: &[u8], from: usize, to: usize) -> Option<usize> {
        #[cfg(target_arch = "x86_64")]
        {
            let tables = &self.tables;
            let looked = match (&self.sliced, &self.shuffled) {
                (Some(sliced), _) => Some(sliced.first(data, from, to)),
                (None, Some(shuffled)) => Some(shuffled.first(tables, data, from, to)),
                (None, None) => None,
            };
            match looked {
                Some(Ok(found)) => return Some(found),
                Some(Err(unseen)) => return tables.first(data, unseen, to),
                None => {}
            }
        }
        self.tables.first_by_lanes(data, from, to)
    }

    /// The length of the first chunk of `data`, which starts where a chunk starts; None where more of the file must be seen.
    /// The first `seen` bytes were given before, without result.
    pub fn cut(&self, data: &[u8], seen: usize) -> Option<usize> {
        let from = MIN_SIZE.max(seen + 1);
        let to = data.len().min(MAX_SIZE);
        let found = if from <= to { self.first(data, from, to) } else { None };
        found.or((to == MAX_SIZE).then_some(MAX_SIZE))
    }

    /// The lengths of all chunks of a whole file.
    pub fn lengths(&self, mut data: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !data.is_empty() {
            let length = self.cut(data, 0).unwrap_or(data.len());
            lengths.push(length);
            data = &data[length..];
        }
        lengths
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::polynomial::modulo;
    use crate::sha::sha256;

    pub const POLYNOMIAL: u64 = 0x3D_A335_8B4D_C173;

    pub fn noise(length: usize, mut seed: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(length + 8);
        while out.len() < length {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            out.extend_from_slice(&seed.to_le_bytes());
        }
        out.truncate(length);
        out
    }

    /// The digest by its definition: sum of b_i·x^(8·(63-i)) mod P.
    fn digest(window: &[u8]) -> u64 {
        window.iter().fold(0, |d, b| modulo(d << 8, POLYNOMIAL) ^ u64::from(*b))
    }

    fn plain_lengths(data: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        let mut start = 0;
        for n in 1..=data.len() {
            let length = n - start;
            let cut = length == MAX_SIZE
                || length >= MIN_SIZE && modulo(digest(&data[n - WINDOW..n]), POLYNOMIAL) & MASK == 0;
            if cut || n == data.len() {
                lengths.push(length);
                start = n;
            }
        }
        lengths
    }

    #[test]
    fn zeros_are_cut_at_the_minimum() {
        let chunker = Chunker::new(POLYNOMIAL).unwrap();
        let zeros = vec![0; 4 * MIN_SIZE];
        assert_eq!(chunker.lengths(&zeros), vec![MIN_SIZE; 4]);
        assert_eq!(
            sha256(&zeros[..MIN_SIZE]).to_string(),
            "07854d2fef297a06ba81685e660c332de36d5d18d546927d30daad6d7fda1541"
        );
    }

    #[test]
    fn same_cuts_as_the_definition() {
        let chunker = Chunker::new(POLYNOMIAL).unwrap();
        let mut data = noise(5_000_000, 88_172_645_463_325_252);
        data[1_000_000..1_900_000].fill(0);
        data.extend(std::iter::repeat_n(1, 9 << 20));
        let lengths = chunker.lengths(&data);
        assert!(lengths.contains(&MAX_SIZE));
        assert_eq!(lengths.iter().sum::<usize>(), data.len());
        assert_eq!(lengths, plain_lengths(&data));
    }

    #[test]
    fn data_in_steps_is_cut_as_data_at_once() {
        let chunker = Chunker::new(POLYNOMIAL).unwrap();
        let data = noise(12 << 20, 5);
        for step in [1 << 20, 300_001, 64] {
            let (mut lengths, mut start, mut seen) = (Vec::new(), 0, 0);
            for end in (step..data.len() + step).step_by(step).map(|e| e.min(data.len())) {
                while let Some(length) = chunker.cut(&data[start..end], seen) {
                    lengths.push(length);
                    start += length;
                    seen = 0;
                }
                seen = end - start;
            }
            lengths.push(data.len() - start);
            assert_eq!(lengths, chunker.lengths(&data), "{step}");
        }
    }

    #[test]
    fn short_data_is_one_chunk() {
        let chunker = Chunker::new(POLYNOMIAL).unwrap();
        assert_eq!(chunker.lengths(&[]), Vec::<usize>::new());
        assert_eq!(chunker.lengths(&[1]), vec![1]);
        assert_eq!(chunker.lengths(&noise(MIN_SIZE, 1)), vec![MIN_SIZE]);
    }

    #[test]
    fn refuses_other_polynomials() {
        assert!(Chunker::new(0).is_err());
        assert!(Chunker::new(POLYNOMIAL ^ 2).is_err());
        assert!(Chunker::new(0b1011).is_err());
    }

    /// Data with many candidates and with few, at all alignments of start and end to lanes and blocks.
    #[test]
    fn every_way_finds_what_the_plain_one_finds() {
        let chunker = Chunker::new(POLYNOMIAL).unwrap();
        let mut data = noise(3 << 20, 99);
        data[200_000..200_100].fill(0);
        data[1_500_000..1_600_000].fill(0);
        data[1_800_000..1_900_000].iter_mut().enumerate().for_each(|(i, b)| *b = (i % 3) as u8);
        let mut froms: Vec<usize> = vec![65, 66, 127, 128, 129, 4096, 69_000, 131_071, 199_999, 200_064, 200_065];
        let mut random = 1u64;
        for _ in 0..60 {
            random = (random * 48_271) % 2_147_483_647;
            froms.push(65 + random as usize % (data.len() - 65));
        }
        for from in froms {
            for length in [0, 1, 63, 64, 65, 4095, 4096, 4097, 69_632, 69_633, 150_000, 1 << 20] {
                let to = (from + length).min(data.len());
                let expected = chunker.tables.first(&data, from, to);
                assert_eq!(chunker.tables.first_by_lanes(&data, from, to), expected, "lanes {from} {to}");
                assert_eq!(chunker.first(&data, from, to), expected, "quickest {from} {to}");
                #[cfg(target_arch = "x86_64")]
                if let Some(shuffled) = &chunker.shuffled {
                    let found = shuffled.first(&chunker.tables, &data, from, to);
                    let found = found.map_or_else(|unseen| chunker.tables.first(&data, unseen, to), Some);
                    assert_eq!(found, expected, "shuffled {from} {to}");
                }
            }
        }
    }

    /// `cargo test --release --no-default-features -- --ignored --nocapture chunker::tests::speed`
    #[test]
    #[ignore = "prints how fast each way is"]
    fn speed() {
        let chunker = Chunker::new(POLYNOMIAL).unwrap();
        let data: Vec<u8> = noise(16 << 20, 3).into_iter().collect();
        let time = |name: &str, way: &dyn Fn(usize) -> Option<usize>| {
            let start = std::time::Instant::now();
            let (mut from, mut count) = (WINDOW + 1, 0);
            while from < data.len() {
                from = way(from).unwrap_or(data.len()) + 1;
                count += 1;
            }
            println!("{name}: {:.2} GB/s, {count} cuts", data.len() as f64 / start.elapsed().as_secs_f64() / 1e9);
        };
        for _ in 0..3 {
            time("one window", &|from| chunker.tables.first(&data, from, data.len()));
            time("six windows", &|from| chunker.tables.first_by_lanes(&data, from, data.len()));
            time("the quickest", &|from| chunker.first(&data, from, data.len()));
            #[cfg(target_arch = "x86_64")]
            if let Some(shuffled) = &chunker.shuffled {
                time("shuffled", &|from| shuffled.first(&chunker.tables, &data, from, data.len()).ok());
            }
        }
    }
}
