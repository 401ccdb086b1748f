//! The numbers of a line of `metrics.jsonl`.

use serde_json::Value;

/// Fields that say where a line belongs, and are no figures.
const PLACE: [&str; 2] = ["epoch", "step"];

/// The figures of a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalars {
    /// Steps done.
    pub step: u64,
    /// `group/figure` and value of each number. The group is `train`, `epoch`, or the evaluated split.
    pub values: Vec<(String, f64)>,
}

impl Scalars {
    /// The figures of a line; none for one without a step or of an unknown kind. Null stands for a number that is not
    /// finite, which trackers do not show.
    pub fn of(line: &Value) -> Option<Self> {
        let fields = line.as_object()?;
        let group = match fields.get("kind")?.as_str()? {
            "step" => "train",
            "epoch" => "epoch",
            "eval" => fields.get("split").and_then(Value::as_str).unwrap_or("test"),
            _ => return None,
        };
        let numbers = fields.iter().filter(|(name, _)| !PLACE.contains(&name.as_str()));
        let values = numbers.filter_map(|(name, value)| Some((format!("{group}/{name}"), value.as_f64()?)));
        Some(Self { step: fields.get("step")?.as_u64()?, values: values.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_number_of_a_line_is_a_figure() {
        let evaluation = json!({"kind": "eval", "epoch": 1, "step": 7, "split": "train", "accuracy": 50.5, "few": null, "crops": "five"});
        let scalars = Scalars::of(&evaluation).unwrap();
        assert_eq!((scalars.step, scalars.values), (7, vec![("train/accuracy".to_owned(), 50.5)]));
        let epoch = Scalars::of(&json!({"kind": "epoch", "step": 7, "loss": 2})).unwrap();
        assert_eq!(epoch.values, [("epoch/loss".to_owned(), 2.0)]);
        for unknown in [json!({"kind": "weather", "step": 1}), json!({"kind": "step"}), json!([1])] {
            assert_eq!(Scalars::of(&unknown), None);
        }
    }
}
