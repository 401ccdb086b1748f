//! Configuration files on disk: data sets of the user's, folders of presets.

use super::{HERE, demo, select};
use crate::config::*;
use crate::model::losses::{cross_entropy, logit_adjusted};
use crate::model::tuners::full;
use crate::options::Several;
use std::fs;
use std::path::Path;

fn resolve(selection: &Selection, presets: &Presets) -> Result<Resolved, String> {
    Resolved::new(selection, presets, Path::new(HERE)).map_err(|error| error.to_string())
}

#[test]
fn a_data_set_may_be_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flowers.toml");
    let lists = "train_list = 'a.txt'\ntest_list = '/b.txt'\nclass_names = 'names.txt'\n";
    fs::write(&path, format!("[data]\nroot = 'pictures'\nlayout = 'lists'\n{lists}")).unwrap();
    let path = path.to_str().unwrap();
    let resolved = resolve(&select(path, "demo", "lift", &[]), &Presets::embedded()).unwrap();
    let root = folder.path().join("pictures");
    assert_eq!(resolved.names.data, "flowers");
    assert_eq!(resolved.config.data.root.as_deref(), Some(&*root));
    assert_eq!(resolved.config.data.train_list, Some(root.join("a.txt")));
    assert_eq!(resolved.config.data.test_list.as_deref(), Some(Path::new("/b.txt")));
    assert_eq!(resolved.origins["data.layout"], Origin::File(path.to_owned()));

    let moved = resolve(&select(path, "demo", "lift", &["data.root=/other"]), &Presets::embedded()).unwrap();
    assert_eq!(moved.config.data.train_list.as_deref(), Some(Path::new("/other/a.txt")));
}

#[test]
fn what_a_user_wrote_wins_over_every_preset() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let loss = "[loss]\nkind = 'cross_entropy'\n";
    let data = file("mine.toml", &format!("[data]\nlayout = 'demo'\n[tuner]\nkind = 'full'\n{loss}"));
    let found = resolve(&select(&data, "demo", "lift", &[]), &Presets::embedded()).unwrap();
    assert_eq!(found.config.tuner.kinds, Several::of(&full::METHOD));
    assert!(found.config.loss.kind.is(&cross_entropy::METHOD));
    assert_eq!(found.origins["tuner.kinds"], Origin::File(data.clone()));
    assert_eq!(found.origins["head.kind"].to_string(), "configs/method/lift.toml");
    // Model and method may be files too. Of these the later kind wins, and flags win over all.
    let model = file("small.toml", "[model]\nkind = 'demo'\nresolution = 32\n");
    let method = file("probe.toml", "[tuner]\nkind = 'none'\n");
    let set = ["loss.kind=logit_adjusted"];
    let found = resolve(&select(&data, &model, &method, &set), &Presets::embedded()).unwrap();
    assert!(found.config.tuner.kinds.is_none() && found.config.loss.kind.is(&logit_adjusted::METHOD));
    assert_eq!(found.origins["tuner.kinds"], Origin::File(method));
    assert_eq!(
        found.names,
        SelectedNames { data: "mine".into(), model: "small".into(), method: "probe".into() }
    );
}

#[test]
fn faults_of_a_file_name_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let name = path.to_str().unwrap();
    let refusal = |text: &str| {
        fs::write(&path, text).unwrap();
        resolve(&select(name, "demo", "lift", &[]), &Presets::embedded()).unwrap_err()
    };
    let syntax = refusal("[data]\nroot = \"x\"\nlayout = lists\n");
    assert!(syntax.starts_with(&format!("file {name} is not TOML at line 3: ")), "{syntax}");
    assert_eq!(
        refusal("[data]\nrot = \"x\"\n"),
        format!("unknown key `data.rot` in file {name}\nhint: did you mean `data.root`?")
    );
    assert_eq!(
        refusal("epochs = 3\n"),
        format!("unknown key `epochs` in file {name}\nhint: did you mean `train.epochs`?")
    );
    assert_eq!(
        refusal("data = 3\n"),
        format!(
            "unknown key `data` in file {name}: it is a section, with the keys root, layout, train_list, \
             test_list, class_names, images, image_column, label_column, first_label, split, imbalance, demo_seed, demo_style, \
             sampler, samples_per_class, repeat_threshold, shots, decode, max_bad_images, cache, cache_limit, \
             read_ahead, workers, prefetch"
        )
    );
    assert_eq!(
        refusal("[data]\nshots = \"many\"\n"),
        format!(
            "`data.shots` expects a whole number from 0 to 4294967295; found the text \"many\" (from file \
             {name})"
        )
    );
}

#[test]
fn a_file_that_is_not_there_names_itself() {
    let text = resolve(&select("no/such.toml", "demo", "lift", &[]), &Presets::embedded()).unwrap_err();
    assert_eq!(text, "cannot read `/home/me/no/such.toml`: No such file or directory (os error 2)");
}

/// A folder with the embedded presets, to change.
fn preset_folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let embedded = Presets::embedded();
    fs::write(folder.path().join("base.toml"), embedded.base().unwrap().text).unwrap();
    for kind in PresetKind::ALL {
        fs::create_dir(folder.path().join(kind.folder())).unwrap();
        for name in embedded.names(kind).unwrap() {
            let text = embedded.read(kind, &name).unwrap().text;
            fs::write(folder.path().join(kind.folder()).join(format!("{name}.toml")), text).unwrap();
        }
    }
    folder
}

#[test]
fn the_environment_names_a_folder_of_presets() {
    let folder = preset_folder();
    fs::write(folder.path().join("data/pets.toml"), "[data]\nlayout = \"folders\"\nroot = \"pets\"\n")
        .unwrap();
    let presets = Presets::find_from(Some(folder.path().into()), None).unwrap();
    assert_eq!(presets.source(), &PresetSource::Environment(folder.path().to_owned()));
    assert_eq!(
        presets.source().to_string(),
        format!("presets of {} (LIFT_CONFIGS)", folder.path().display())
    );
    let pets = resolve(&select("pets", "demo", "lift", &[]), &presets).unwrap();
    assert_eq!(pets.config.data.root, Some(folder.path().join("data/pets")));
    assert_eq!(pets.origins["data.root"].to_string(), "configs/data/pets.toml");
    let text = resolve(&select("pet", "demo", "lift", &[]), &presets).unwrap_err();
    assert!(
        text.ends_with(
            "pets, places_lt, or the path of a .toml file of your own\nhint: did you mean `pets`?"
        ),
        "{text}"
    );
    let outside = resolve(&select("../base", "demo", "lift", &[]), &presets).unwrap_err();
    assert!(outside.starts_with("unknown data set `../base`"), "{outside}");
}

#[test]
fn an_environment_without_presets_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = Presets::find_from(Some(folder.path().into()), None).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "`{}` (LIFT_CONFIGS) is not a folder of presets: expected base.toml in it\nhint: correct the path, or \
             leave LIFT_CONFIGS unset to use the presets of the program",
            folder.path().display()
        )
    );
    assert_eq!(Presets::find_from(Some("".into()), None), Ok(Presets::embedded()));
}

#[test]
fn presets_lie_beside_the_binary_or_above_its_build_folder() {
    let folder = preset_folder();
    let project = tempfile::tempdir().unwrap();
    fs::rename(folder.path(), project.path().join("configs")).unwrap();
    for binary in ["lift-trainer", "target/release/lift-trainer", "target/release/deps/test-1"] {
        let presets = Presets::find_from(None, Some(&project.path().join(binary))).unwrap();
        assert_eq!(presets.source(), &PresetSource::Beside(project.path().join("configs")), "{binary}");
        resolve(&demo("lift", &[]), &presets).unwrap();
    }
    let far = Presets::find_from(None, Some(&project.path().join("a/b/c/d/lift-trainer"))).unwrap();
    assert_eq!(far.source(), &PresetSource::Embedded);
}

#[test]
fn a_base_without_a_key_is_refused() {
    let folder = preset_folder();
    let base = folder.path().join("base.toml");
    let text = fs::read_to_string(&base).unwrap().replace("momentum = 0.9", "");
    fs::write(&base, text).unwrap();
    let presets = Presets::find_from(Some(folder.path().into()), None).unwrap();
    assert_eq!(
        resolve(&demo("lift", &[]), &presets).unwrap_err(),
        "`train.momentum` is missing in configs/base.toml; expected every key there\nhint: compare it with \
         docs/configuration.md"
    );
}

#[test]
fn a_preset_may_be_idle_where_the_user_may_not() {
    let folder = preset_folder();
    fs::write(folder.path().join("data/own.toml"), "[data]\nlayout = \"demo\"\n[tuner]\nadapter_dim = 8\n")
        .unwrap();
    let presets = Presets::find_from(Some(folder.path().into()), None).unwrap();
    resolve(&select("own", "demo", "classifier", &[]), &presets).unwrap();
    let file = folder.path().join("data/own.toml");
    let name = file.to_str().unwrap();
    let text = resolve(&select(name, "demo", "classifier", &[]), &presets).unwrap_err();
    assert_eq!(
        text,
        format!(
            "`tuner.adapter_dim` (from file {name}) has no effect with `tuner.kinds = \"none\"` \
             (from configs/method/classifier.toml)\nhint: leave it out or change `tuner.kinds`"
        )
    );
}

#[test]
fn a_folder_of_presets_without_its_parts_names_the_part() {
    let folder = preset_folder();
    fs::remove_dir_all(folder.path().join("method")).unwrap();
    let presets = Presets::find_from(Some(folder.path().into()), None).unwrap();
    assert_eq!(
        resolve(&demo("lift", &[]), &presets).unwrap_err(),
        format!(
            "cannot read `{}`: No such file or directory (os error 2)",
            folder.path().join("method").display()
        )
    );
}

#[test]
fn a_path_that_toml_cannot_hold_is_refused() {
    use std::os::unix::ffi::OsStrExt;
    let here = Path::new(std::ffi::OsStr::from_bytes(b"/home/\xff"));
    let selection = select("demo", "clip_vit_b16", "lift", &["model.weights=w.pt"]);
    let error = Resolved::new(&selection, &Presets::embedded(), here).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the path `/home/\u{fffd}/w.pt` is not UTF-8, and a configuration can contain only UTF-8\nhint: rename or move it"
    );
}
