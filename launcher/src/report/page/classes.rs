//! The table of classes that a reader sorts and filters. Its rows are data for the script of the page.

use super::super::figures::{predicted_counts, taken_for};
use crate::records::result::ResultRecord;
use maud::{Markup, PreEscaped, html};
use protocol::evaluation::EvaluationRecord;
use protocol::evaluation::Shot;
use protocol::terminal::escaped_line;
use serde_json::{Value, json};

const HEADS: [&str; 8] =
    ["class", "group", "training images", "test images", "correct", "accuracy, %", "predicted", "taken for"];

/// The section of all classes of a run.
pub fn section(result: &ResultRecord, evaluation: Option<&EvaluationRecord>) -> Markup {
    html! {
        h3 { "Classes" }
        div.classes {
            // The script reads the rows from its text.
            script type="application/json" { (PreEscaped(in_script(&Value::Array(rows(result, evaluation))))) }
            noscript { p.alert { "This table needs JavaScript. " code { "lift report --format markdown" } " prints it as text." } }
            div.controls {
                label { "Name contains" input type="search" autocomplete="off"; }
                label {
                    "Group"
                    select {
                        option value="" { "all" }
                        @for group in Shot::ALL {
                            option value=(group.word()) { (group.word()) " (" (result.groups.range(group)) ")" }
                        }
                    }
                }
                p role="status" {}
            }
            div.scroll tabindex="0" role="region" aria-label="Table of classes" {
                table {
                    thead {
                        tr {
                            @for (at, head) in HEADS.into_iter().enumerate() {
                                th scope="col" class=[(2..7).contains(&at).then_some("number")] { button type="button" { (head) } }
                            }
                        }
                    }
                    tbody {}
                }
            }
            button.more type="button" hidden { "Show more" }
        }
    }
}

fn rows(result: &ResultRecord, evaluation: Option<&EvaluationRecord>) -> Vec<Value> {
    let predicted = evaluation.map(|evaluation| predicted_counts(result, evaluation));
    let taken = evaluation.map(taken_for);
    let row = |(label, class): (usize, &crate::records::result::ClassRecord)| {
        let most = taken.as_ref().and_then(|taken| taken[label].predicted.first());
        json!([
            escaped_line(&class.name),
            result.groups.group(class.train_count).word(),
            class.train_count,
            class.test_count,
            class.correct,
            class.accuracy.map(|accuracy| (accuracy * 100.0).round() / 100.0),
            predicted.as_ref().map(|predicted| predicted[label]),
            most.map(|(class, _)| class),
            most.map(|(_, images)| images),
        ])
    };
    result.per_class.iter().enumerate().map(row).collect()
}

/// JSON that cannot end the element that holds it.
fn in_script(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
