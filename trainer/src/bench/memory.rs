//! Resident memory of the process, as reported by the kernel.

/// Current and peak resident bytes since the last [`forget_peak`]; none if the system does not report them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resident {
    /// Now.
    pub now: u64,
    /// Peak.
    pub peak: u64,
}

impl Resident {
    /// Reads the values from the kernel.
    pub fn read() -> Option<Self> {
        Self::parse(&std::fs::read_to_string("/proc/self/status").ok()?)
    }

    fn parse(status: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
        };
        Some(Self { now: bytes("VmRSS:")?, peak: bytes("VmHWM:")? })
    }
}

/// Resets the peak to the current resident memory. If that is not permitted, peaks are those of the whole process.
pub fn forget_peak() {
    // On an error, the peak is only too high.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn the_kernel_counts_in_kilobytes() {
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(Resident::parse(status), Some(Resident { now: 1 << 20, peak: 2 << 20 }));
        assert_eq!(Resident::parse("VmRSS:\t 1 kB\n"), None);
    }

    /// Set for the process that measures. Other tests of a process free memory in between.
    const ALONE: &str = "LIFT_TEST_ALONE";

    #[test]
    fn memory_that_is_touched_is_seen_at_its_peak() {
        if std::env::var_os(ALONE).is_none() {
            let name = "bench::memory::tests::memory_that_is_touched_is_seen_at_its_peak";
            let mut command = Command::new(std::env::current_exe().unwrap());
            let output = command.args([name, "--exact", "--nocapture"]).env(ALONE, "1").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && said.contains("1 passed"), "{said}");
            return;
        }
        forget_peak();
        let before = Resident::read().unwrap();
        let numbers = vec![1_u8; 64 << 20];
        assert!(std::hint::black_box(&numbers).iter().all(|&number| number == 1));
        drop(numbers);
        assert!(Resident::read().unwrap().peak >= before.now + (60 << 20));
    }
}
