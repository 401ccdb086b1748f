//! The values of the presets inside this program, to compare a run with.

use super::settings::flat;
use std::collections::BTreeMap;

/// Path below `configs` and content of each preset.
static FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/presets.rs"));

/// Each value as TOML, by `section.key`, for the names of a data, a model and a method preset. A later one overrides an
/// earlier one; a name that is not a preset of this version adds nothing.
pub fn values(names: &[String; 3]) -> BTreeMap<String, String> {
    let [data, model, method] = names;
    let layers = [
        "base.toml".to_owned(),
        format!("data/{data}.toml"),
        format!("model/{model}.toml"),
        format!("method/{method}.toml"),
    ];
    let texts = layers.iter().filter_map(|path| FILES.iter().find(|(name, _)| name == path));
    let tables = texts.filter_map(|(_, text)| text.parse::<toml::Table>().ok());
    tables.flat_map(|table| flat(&table)).map(|(key, value)| (present(key), value.to_string())).collect()
}

/// The present name of a key, which presets may write under a former one.
fn present(key: String) -> String {
    if key == "tuner.kind" { "tuner.kinds".to_owned() } else { key }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_preset_overrides_an_earlier_one() {
        let names = ["demo", "demo", "lift"].map(str::to_owned);
        let values = values(&names);
        assert_eq!(values["data.layout"], "\"demo\"");
        assert_eq!(values["train.momentum"], "0.9");
        assert_eq!(values["tuner.kinds"], "\"adaptformer\"");
    }

    #[test]
    fn every_preset_is_toml() {
        assert!(FILES.len() > 10);
        for (path, text) in FILES {
            assert!(text.parse::<toml::Table>().is_ok(), "{path}");
        }
    }
}
