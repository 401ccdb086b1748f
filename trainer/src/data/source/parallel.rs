//! The same work on many items, by threads that wait for the file system rather than for the CPU.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that read indexes and labels.
const THREADS: usize = 8;

/// Does `work` on all items, several at a time. Results are in the order of the items; the first failure in that order
/// is returned.
pub(super) fn in_parallel<T: Sync, R: Send, E: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let run = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { return done };
            done.push((number, work(item)));
        }
    };
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..THREADS.min(items.len())).map(|_| scope.spawn(run)).collect();
        let mut all = run();
        for other in others {
            match other.join() {
                Ok(done) => all.extend(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.sort_unstable_by_key(|&(number, _)| number);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_the_first_failure_counts() {
        let items: Vec<usize> = (0..100).collect();
        let doubled: Result<Vec<usize>, ()> = in_parallel(&items, |item| Ok(2 * item));
        assert_eq!(doubled.unwrap()[37], 74);
        let failed: Result<Vec<()>, usize> =
            in_parallel(&items, |&item| if item > 5 { Err(item) } else { Ok(()) });
        assert_eq!(failed.unwrap_err(), 6);
    }
}
