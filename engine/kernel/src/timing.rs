//! How fast something is, for the tests that only print it: by the time that this thread had the processor, because others may have it
//! meanwhile.

/// Bytes a second that `work` gets through, in units of 10^9, where each of its `rounds` works on so many.
pub fn speed(rounds: usize, bytes: usize, mut work: impl FnMut()) -> f64 {
    let start = seconds();
    (0..rounds).for_each(|_| work());
    (rounds * bytes) as f64 / (seconds() - start) / 1e9
}

fn seconds() -> f64 {
    let read = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells it");
    read.split(' ').next().and_then(|n| n.parse::<f64>().ok()).expect("nanoseconds") / 1e9
}
