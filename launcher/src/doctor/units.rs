//! Sizes and rates for people.

/// `139.8 GiB`, `64.0 MiB`, `0 bytes`
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = UNITS.into_iter().find(|(_, unit)| bytes >= *unit);
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(name, unit)| format!("{:.1} {name}", bytes as f64 / unit as f64),
    )
}

/// `120 MB/s`, `2.4 GB/s`
pub(super) fn rate(bytes_per_second: f64) -> String {
    if bytes_per_second < 1e9 {
        format!("{:.0} MB/s", bytes_per_second / 1e6)
    } else {
        format!("{:.1} GB/s", bytes_per_second / 1e9)
    }
}

/// `1 rank`, `2 ranks`
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_have_units() {
        assert_eq!([size(0), size(64 << 20), size(150_109_880_320)], ["0 bytes", "64.0 MiB", "139.8 GiB"]);
        assert_eq!([rate(120.4e6), rate(2.44e9)], ["120 MB/s", "2.4 GB/s"]);
        assert_eq!([count(1, "GPU"), count(8, "GPU")], ["1 GPU", "8 GPUs"]);
    }
}
