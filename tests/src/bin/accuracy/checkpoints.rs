//! What official checkpoints answer here, beside what they answer there.

use crate::Compared;
use tests::official::Official;

const RANKS: [usize; 2] = [1, 3];

pub fn compare(official: &Official) -> Compared {
    let mut table = vec![
        "| checkpoint | official: correct | ours: correct, on 1 and 3 ranks | different predictions |"
            .to_owned(),
        "| --- | --- | --- | --- |".to_owned(),
    ];
    let mut apart = Vec::new();
    for run in official.runs() {
        let answers = RANKS.map(|ranks| {
            let folder = tempfile::tempdir().expect("a folder for one evaluation");
            let answers = run.evaluate(official, ranks, folder.path());
            eprintln!("{} on {ranks} ranks: {answers:?}", run.name);
            if !answers.agree() {
                apart.push(format!("{} on {ranks} ranks: {answers:?}", run.name));
            }
            answers
        });
        let [one, three] = &answers;
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
    Compared { table, apart }
}
