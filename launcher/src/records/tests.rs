use super::*;
use std::fs;

const RESULT: &str = r#"{"data":"d","model":"m","method":"lift","seed":0,"world_size":1,"accuracy":50.0,"many":50.0,
    "medium":null,"few":null,"mean_class_accuracy":50.0,"correct":1,"total":2,"trainable_parameters":7,
    "images_per_second":null,"seconds":1.5,
    "per_class":[{"name":"a","train_count":500,"test_count":2,"correct":1,"accuracy":50.0}]}"#;

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn refusal(files: &[(&str, &str)]) -> String {
    let folder = folder(files);
    let path = folder.path().display().to_string();
    RunRecords::read(folder.path()).unwrap_err().to_string().replace(&path, "RUN")
}

#[test]
fn a_run_in_progress_has_what_it_has() {
    let metrics = "{\"kind\":\"step\",\"epoch\":0,\"step\":1,\"loss\":null,\"learning_rate\":0.1,\"samples\":4,\
                   \"images_per_second\":8.0,\"data_wait\":0.0,\"finite\":false}\n\
                   {\"kind\":\"weather\",\"sun\":true}\n\
                   {\"kind\":\"eval\",\"epoch\":1,\"step\":1,\"accuracy\":50.0}\n{\"kind\":\"st";
    let folder = folder(&[("metrics.jsonl", metrics)]);
    let records = RunRecords::read(folder.path()).unwrap();
    assert!(records.result.is_none() && records.evaluation.is_none() && records.status.is_none());
    let [step] = records.metrics.steps[..] else { panic!("one step") };
    assert_eq!((step.loss, step.seconds()), (None, Some(0.5)));
    assert_eq!(records.metrics.evaluations[0].accuracy, Some(50.0));
}

#[test]
fn settings_of_the_user_are_those_with_such_an_origin() {
    let old = "[names]\ndata = \"demo\"\nmodel = \"demo\"\nmethod = \"lift\"\n\n[train]\n\
               momentum = 0.5          # from --set train.momentum=0.5\nepochs = 5  # from configs/data/demo.toml\n";
    let new = "format = 2\n[names]\ndata = \"demo\"\nmodel = \"demo\"\nmethod = \"lift\"\n[train]\nmomentum = 0.5\n\
               epochs = 5\n[origins]\n\"train.momentum\" = \"--set train.momentum=0.5\"\n\
               \"train.epochs\" = \"configs/data/demo.toml\"\n";
    for text in [old, new] {
        let folder = folder(&[("metrics.jsonl", ""), ("config.toml", text)]);
        let settings = RunRecords::read(folder.path()).unwrap().settings.unwrap();
        let [changed] = &settings.changed()[..] else { panic!("one change: {settings:?}") };
        assert_eq!((changed.key.as_str(), changed.value.as_str()), ("train.momentum", "0.5"));
        assert_eq!(changed.preset.as_deref(), Some("0.9"));
        assert_eq!(changed.origin, "--set train.momentum=0.5");
    }
}

#[test]
fn what_is_not_a_run_is_refused() {
    let gone = RunRecords::read(Path::new("/gone/run")).unwrap_err().to_string();
    assert_eq!(gone, "`/gone/run` is not a folder; expected the folder of a run");
    assert_eq!(
        refusal(&[]),
        "`RUN` is not the folder of a run: it has neither `result.json` nor `metrics.jsonl`"
    );
    assert_eq!(
        refusal(&[("metrics.jsonl", "\"\"\n")]).split(" is not").next(),
        Some("`RUN/metrics.jsonl` line 1")
    );
    assert!(
        refusal(&[("result.json", "{}")])
            .starts_with("`RUN/result.json` line 1 is not the result of a run: ")
    );
    let config = refusal(&[("metrics.jsonl", ""), ("config.toml", "a = ")]);
    assert!(config.starts_with("`RUN/config.toml` is not the configuration of a run: "), "{config}");
    assert_eq!(
        refusal(&[("metrics.jsonl", ""), ("config.toml", "format = 3\n")]),
        "`RUN/config.toml` has format 3; this version reads format 1 to 2\nhint: use the `lift` of the version that wrote the run"
    );
}

#[test]
fn an_evaluation_of_another_version_or_model_is_refused() {
    let evaluation = |format: u32, classes: usize, confusion: &str| {
        format!(
            "{{\"format\":{format},\"classes\":{classes},\"images\":2,\"confusion\":{confusion},\"reliability\":[],\"mistakes\":[]}}"
        )
    };
    let with = |text: &str| refusal(&[("result.json", RESULT), ("evaluation.json", text)]);
    assert_eq!(
        with(&evaluation(9, 1, "[]")),
        "`RUN/evaluation.json` has format 9; this version reads format 1\nhint: use the `lift` of the version that wrote the run"
    );
    let counts = "`RUN/evaluation.json` is not the record of the evaluation in `result.json`: it counts";
    assert_eq!(with(&evaluation(1, 2, "[]")), format!("{counts} 2 classes, the result 1"));
    assert_eq!(with(&evaluation(1, 1, "[[0,7,1]]")), format!("{counts} 1 classes, the result 1"));
    let folder = folder(&[("result.json", RESULT), ("evaluation.json", &evaluation(1, 1, "[]"))]);
    assert!(RunRecords::read(folder.path()).unwrap().evaluation.is_some());
}
