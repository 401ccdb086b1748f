//! The tables of `docs/scaling.md`.

use super::cluster::{Cluster, ClusterPlacement, Forecast, TrainingJob, forecast};
use super::machine::Measured;
use std::fmt::Write;

/// Batches of the forecasts: LIFT's, and larger ones.
const BATCHES: [u64; 3] = [128, 1024, 8192];
/// Numbers of GPUs.
const RANKS: [u64; 4] = [1, 8, 64, 512];

/// The tables, by name, in the order of the page.
pub fn tables(measured: &Measured) -> [(&'static str, String); 4] {
    [
        ("constants", constants(measured)),
        ("here", here(measured)),
        ("job", job(&TrainingJob::INATURALIST)),
        ("clusters", clusters(&forecasts())),
    ]
}

/// All forecasts of the page.
pub fn forecasts() -> Vec<Forecast> {
    let placements =
        [ClusterPlacement::Replicated, ClusterPlacement::ShardedHead, ClusterPlacement::ShardedBackbone];
    let mut all = Vec::new();
    for batch in BATCHES {
        for ranks in RANKS {
            let placements = if ranks == 1 { &placements[..1] } else { &placements[..] };
            all.extend(placements.iter().filter_map(|&placement| {
                forecast(&TrainingJob::INATURALIST, &Cluster::H100, placement, batch, ranks)
            }));
        }
    }
    all
}

fn constants(measured: &Measured) -> String {
    let machine = measured.machine();
    let mut text = String::from("| constant | value | from |\n| --- | --- | --- |\n");
    let mut row = |name: &str, value: String, from: &str| {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "| {name} | {value} | {from} |");
    };
    row("measured", format!("{}, {}", measured.date, measured.machine), "");
    row("trained", measured.run.clone(), "");
    row("a", milliseconds(machine.compute.fixed), "line through the steps of one rank");
    row("b", format!("{} per sample", milliseconds(machine.compute.each)), "the same");
    row("cores", format!("{}", machine.cores), "the system");
    row("other processes that want a core", format!("{:.1}", machine.others), "measured between the runs");
    row("hidden by overlap", format!("{:.0} %", machine.hidden * 100.0), "overlap on, off, none");
    row("gradient", format!("{:.3} MB", measured.gradient_bytes / 1e6), "bytes of the replicated trainables");
    row("collectives per step", format!("{}", measured.calls), "buckets and the row of scalars");
    for world in measured.worlds.iter().filter(|world| world.ranks > 1.0) {
        let link = format!("{}, {:.2} GB/s", milliseconds(world.latency), world.bandwidth / 1e9);
        row(&format!("latency and bandwidth, {} ranks", world.ranks), link, "`bench collectives`");
    }
    text
}

fn here(measured: &Measured) -> String {
    let mut text = String::from(
        "| ranks | computing | exposed | predicted step | measured step | error | constants from it |\n| --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for world in measured.predict() {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {:+.1} % | {} |",
            world.ranks,
            milliseconds(world.compute),
            milliseconds(world.exposed),
            milliseconds(world.step),
            milliseconds(world.measured),
            world.error * 100.0,
            if world.calibrated { "yes" } else { "no" },
        );
    }
    text
}

fn job(job: &TrainingJob) -> String {
    let mut text = String::from("| | |\n| --- | --- |\n");
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "| {name} | {value} |");
    };
    row("adapter bottleneck for 8142 classes in 12 blocks", job.adapter_dim().to_string());
    row("trainable parameters per block", job.module_parameters().to_string());
    row("gradient of the modules", megabytes(job.module_bytes()));
    row("gradient of the head, 8142 x 768", megabytes(job.head_bytes()));
    row("all-reduced with a replicated head", megabytes(job.module_bytes() + job.head_bytes()));
    row("a frozen block in bf16", megabytes(job.block_bytes()));
    row("blocks gathered per step, sharded backbone", job.gathers().to_string());
    row("operations per image", format!("{:.1} G", job.operations() / 1e9));
    text
}

fn clusters(forecasts: &[Forecast]) -> String {
    let mut text = String::from(
        "| batch | GPUs | placement | computing | decoding | sent per GPU | exposed | step | images/s | efficiency | epoch |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n",
    );
    for world in forecasts {
        let placement = match world.placement {
            ClusterPlacement::Replicated => "replicated",
            ClusterPlacement::ShardedHead => "head sharded",
            ClusterPlacement::ShardedBackbone => "backbone sharded",
        };
        let _ = writeln!(
            text,
            "| {} | {} | {placement} | {} | {} | {} | {} | {} | {:.0} | {:.0} % | {:.1} s |",
            world.batch_size,
            world.ranks,
            milliseconds(world.compute),
            milliseconds(world.data),
            megabytes(world.sent),
            milliseconds(world.exposed),
            milliseconds(world.step),
            world.images_per_second,
            world.efficiency * 100.0,
            world.epoch,
        );
    }
    text
}

fn milliseconds(seconds: f64) -> String {
    let digits = if seconds < 0.01 { 3 } else { 1 };
    format!("{:.digits$} ms", seconds * 1e3)
}

fn megabytes(bytes: f64) -> String {
    format!("{:.1} MB", bytes / 1e6)
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::ideal;
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn the_tables_have_a_row_for_each_world() {
        let tables = tables(&ideal());
        assert_eq!(tables[1].1.lines().count(), 2 + 4);
        assert!(tables[1].1.contains("| 4 | ") && tables[1].1.contains("+0.0 %"), "{}", tables[1].1);
        // 512 GPUs cannot share 128 images; one GPU has one placement.
        assert_eq!(forecasts().len(), (1 + 2 * 3) + 2 * (1 + 3 * 3));
    }

    #[test]
    fn the_scaling_page_is_up_to_date() {
        let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/scaling.md"));
        let found = std::fs::read_to_string(&path).unwrap();
        let mut page = found.clone();
        for (name, table) in tables(&Measured::parse(crate::MEASURED).unwrap()) {
            let (start, end) = (format!("<!-- table: {name} -->"), "<!-- end of table -->");
            let (before, rest) = page.split_once(&start).unwrap_or_else(|| panic!("no mark for {name}"));
            let (_, after) = rest.split_once(end).unwrap();
            page = format!("{before}{start}\n\n{table}\n{end}{after}");
        }
        if std::env::var_os("LIFT_UPDATE_DOCS").is_some_and(|value| value == "1") {
            std::fs::write(&path, &page).unwrap();
            return;
        }
        assert!(found == page, "{} is out of date; run the test with LIFT_UPDATE_DOCS=1", path.display());
    }
}
