//! A run's configuration with flags over it.

use super::*;

fn changed(run: &Resolved, set: &[&str]) -> Result<Resolved, ConfigError> {
    let set: Vec<String> = set.iter().map(|&set| set.to_owned()).collect();
    run.changed(&set, Path::new(HERE))
}

#[test]
fn what_lies_below_the_root_moves_along() {
    let set = ["data.root=/old/set", "data.class_names=/names/own.txt", "data.images=/old/settled"];
    let weights = "model.weights=/old/set/clip.safetensors";
    let run = resolved(&select("imagenet_lt", "clip_vit_b16", "lift", &[&set[..], &[weights]].concat()));
    let run = Resolved::from_run_folder(&run.to_toml()).unwrap();
    let now = changed(&run, &["data.root=new", "data.test_list=/other/test.txt"]).unwrap();
    let data = &now.config.data;
    assert_eq!(data.root.as_deref(), Some(Path::new("/home/me/new")));
    assert_eq!(data.train_list.as_deref(), Some(Path::new("/home/me/new/ImageNet_LT_train.txt")));
    assert_eq!(data.test_list.as_deref(), Some(Path::new("/other/test.txt")));
    assert_eq!(data.class_names.as_deref(), Some(Path::new("/names/own.txt")));
    assert_eq!(data.images.as_deref(), Some(Path::new("/old/settled")));
    assert_eq!(now.config.model, run.config.model);
    assert_eq!(now.origins["data.root"], Origin::Set("data.root=new".into()));
    assert_eq!(changed(&run, &[]).unwrap(), run);
}

#[test]
fn other_crops_may_be_evaluated_than_the_run_had() {
    let run = resolved(&demo("lift", &["eval.crops=five", "eval.expand=6"]));
    let now = changed(&Resolved::from_run_folder(&run.to_toml()).unwrap(), &["eval.crops=centre"]).unwrap();
    assert_eq!(now.config.eval.crops, CropsName::Centre);
    let refused = changed(&run, &["eval.crops=random", "eval.expand=7"]).unwrap_err().to_string();
    assert!(refused.contains("`eval.expand` (from --set eval.expand=7) has no effect"), "{refused}");
}

#[test]
fn flags_are_checked_as_anywhere() {
    let run = resolved(&demo("lift", &[]));
    assert!(changed(&run, &["data.rot=x"]).unwrap_err().to_string().contains("data.root"));
    assert!(changed(&run, &["train.epochs=-1"]).is_err());
}
