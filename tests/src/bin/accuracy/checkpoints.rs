//! Compares the predictions of official checkpoints with the official predictions.

use crate::Compared;
use tests::official::Official;

const RANKS: [usize; 2] = [1, 3];

pub fn compare(official: &Official) -> Compared {
    let mut table = vec![
        "| checkpoint | official: correct | ours: correct, on 1 and 3 ranks | different predictions |"
            .to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    let mut excessive = Vec::new();
    for run in official.runs() {
        let comparisons = RANKS.map(|ranks| {
            let folder = tempfile::tempdir().expect("a folder for one evaluation");
            let comparisons = run.evaluate(official, ranks, folder.path());
            eprintln!("{} on {ranks} ranks: {comparisons:?}", run.name);
            if !comparisons.agree() {
                excessive.push(format!("{} on {ranks} ranks: {comparisons:?}", run.name));
            }
            comparisons
        });
        let [one, three] = &comparisons;
        table.push(format!(
            "| {} | {} | {}, {} | {}, {} |",
            run.name,
            one.expected,
            one.correct,
            three.correct,
            one.different.len(),
            three.different.len()
        ));
    }
    Compared { table, excessive }
}
