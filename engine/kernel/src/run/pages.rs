//! Memory by pages: how it comes, and how it goes while its addresses stay.

use std::ops::Range;

const PAGE: usize = 4096;

/// Asks for a buffer's memory to come two mebibytes at a time where the system can: that costs a fraction of 512 faults.
pub fn prefer_huge(buffer: &mut Vec<u8>) {
    #[cfg(target_os = "linux")]
    advise(buffer, 0, libc::MADV_HUGEPAGE);
}

/// Gives the memory behind the first `kept` bytes of a buffer back to the system until it is written again. What was there is lost:
/// those of the bytes that are initialised may be zeros from then on.
pub fn give_back(buffer: &mut Vec<u8>, kept: usize) {
    #[cfg(target_os = "linux")]
    advise(buffer, kept, libc::MADV_DONTNEED);
}

/// Advice on the whole pages that a buffer has from `start` on.
#[cfg(target_os = "linux")]
fn advise(buffer: &mut Vec<u8>, start: usize, advice: i32) {
    let address = buffer.as_mut_ptr();
    let pages = whole_pages(address.addr() + start..address.addr() + buffer.capacity());
    if !pages.is_empty() {
        // SAFETY: the pages belong to the buffer alone, which is borrowed for this call. It is private memory without a file, so that
        // what was given back reads as zeros. Where the advice is refused, nothing happens.
        let _ = unsafe { libc::madvise(address.with_addr(pages.start).cast(), pages.len(), advice) };
    }
}

fn whole_pages(bytes: Range<usize>) -> Range<usize> {
    bytes.start.next_multiple_of(PAGE)..bytes.end / PAGE * PAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_pages_are_advised_about() {
        assert_eq!(whole_pages(1..3 * PAGE + 1), PAGE..3 * PAGE);
        assert_eq!(whole_pages(PAGE..2 * PAGE), PAGE..2 * PAGE);
        assert!(whole_pages(1..PAGE).is_empty() && whole_pages(1..2 * PAGE - 1).is_empty());
    }

    #[test]
    fn what_is_kept_stays() {
        let mut buffer = vec![7; 100 * PAGE];
        prefer_huge(&mut buffer);
        give_back(&mut buffer, 10 * PAGE + 1);
        assert!(buffer[..10 * PAGE + 1].iter().all(|b| *b == 7));
        #[cfg(target_os = "linux")]
        assert!(buffer[12 * PAGE..99 * PAGE].iter().all(|b| *b == 0));
    }
}
