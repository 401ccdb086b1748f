//! Every form that weights come in, on files of PyTorch itself and on files made here.

use super::*;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::fs;
use tempfile::TempDir;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/torch_files").join(name)
}

/// The tensors of `make.py`: name, kind, shape, first number. Those of a transposed view come in its order.
const TENSORS: [(&str, Kind, &[i64], f64); 6] = [
    ("text_projection", Kind::Float, &[4], 402.0),
    ("visual.class_embedding", Kind::Float, &[4], 0.0),
    ("visual.conv1.weight", Kind::Half, &[4, 3, 2, 2], 10.0),
    ("visual.ln_post.weight", Kind::Double, &[4], 200.0),
    ("visual.positional_embedding", Kind::Float, &[5, 4], 300.0),
    ("visual.proj", Kind::BFloat16, &[4, 3], 100.0),
];

fn check(tensors: &NamedTensors, prefix: &str, left_out: &[&str]) {
    let expected = TENSORS.iter().filter(|(name, ..)| !left_out.contains(name));
    for &(name, kind, shape, first) in expected.clone() {
        let tensor = tensors.get(&format!("{prefix}{name}")).unwrap();
        assert_eq!((tensor.kind(), tensor.size().as_slice()), (kind, shape), "{name}");
        let count = shape.iter().product::<i64>();
        let mut numbers = Tensor::arange(count, (Kind::Double, Device::Cpu)) + first;
        numbers = match name {
            "visual.positional_embedding" => numbers.view([4, 5]).transpose(0, 1),
            _ => numbers.view(shape),
        };
        assert_eq!(tensor.to_kind(Kind::Double), numbers, "{name}");
        assert!(tensor.is_contiguous(), "{name}");
    }
    assert_eq!(tensors.names().count(), expected.count());
}

fn refusal(path: &Path) -> String {
    NamedTensors::open(path).unwrap_err().to_string()
}

/// A safetensors file of tensors of two numbers: the tensor's position, and that plus a half.
fn write(path: &Path, names: &[&str]) {
    let tensors: Vec<Vec<u8>> = (0..names.len())
        .map(|i| [i as f32, i as f32 + 0.5].iter().flat_map(|x| x.to_le_bytes()).collect())
        .collect();
    let views = names
        .iter()
        .zip(&tensors)
        .map(|(name, bytes)| (*name, TensorView::new(Dtype::F32, vec![2], bytes).unwrap()));
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn index(folder: &Path, places: &[(&str, &str)]) -> PathBuf {
    let map: BTreeMap<&str, &str> = places.iter().copied().collect();
    let path = folder.join("model.safetensors.index.json");
    fs::write(&path, serde_json::json!({ "metadata": {}, "weight_map": map }).to_string()).unwrap();
    path
}

#[test]
fn a_state_dict_of_torch_save_is_read() {
    check(&NamedTensors::open(&fixture("state_dict.pt")).unwrap(), "", &[]);
}

#[test]
fn the_format_before_zip_archives_is_read() {
    check(&NamedTensors::open(&fixture("old_format.pth")).unwrap(), "", &[]);
}

#[test]
fn the_state_dict_of_a_training_checkpoint_is_read_and_the_rest_is_named() {
    let tensors = NamedTensors::open(&fixture("training.pt")).unwrap();
    check(&tensors, "module.", &[]);
    assert_eq!(
        tensors.notes(),
        ["the tensors are those of its entry `state_dict`; ignored: `args`, `optimizer`"]
    );
}

#[test]
fn two_models_in_one_file_are_refused_by_name() {
    let error = super::super::normalise(NamedTensors::open(&fixture("two_models.pt")).unwrap()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("contains several models, with names that begin with `model.` and `model_ema.`"),
        "{text}"
    );
}

#[test]
fn a_torchscript_archive_is_read_and_its_program_is_not_run() {
    let tensors = NamedTensors::open(&fixture("torchscript.pt")).unwrap();
    assert_eq!(tensors.get("visual.proj").unwrap().kind(), Kind::BFloat16);
    assert_eq!(tensors.get("visual.conv1.weight").unwrap().double_value(&[0, 0, 0, 1]), 11.0);
    assert_eq!(tensors.get("input_resolution").unwrap().int64_value(&[]), 4);
    assert_eq!(tensors.notes(), ["a TorchScript archive; its code is not run"]);
}

#[test]
fn a_pickled_module_is_refused_with_its_class() {
    let text = refusal(&fixture("whole_model.pt"));
    assert!(text.contains("global `__main__.Model`") && text.contains("no code in it was run"), "{text}");
    assert!(text.contains("state_dict()"), "{text}");
}

#[test]
fn a_fingerprint_is_that_of_the_tensors_whatever_the_form() {
    let prints = ["state_dict.pt", "old_format.pth"]
        .map(|name| NamedTensors::open(&fixture(name)).unwrap().fingerprint());
    assert_eq!(prints[0], prints[1]);
    let folder = TempDir::new().unwrap();
    let whole = folder.path().join("whole.safetensors");
    write(&whole, &["a", "b"]);
    let mapped = MappedWeights::open(&whole).unwrap().fingerprint();
    assert_eq!(NamedTensors::open(&whole).unwrap().fingerprint(), mapped);
}

#[test]
fn damage_in_an_archive_is_noticed() {
    let folder = TempDir::new().unwrap();
    let good = fs::read(fixture("state_dict.pt")).unwrap();
    let numbers: Vec<u8> = [1.0_f32, 2.0, 3.0].iter().flat_map(|x| x.to_le_bytes()).collect();
    let at = good.windows(numbers.len()).position(|window| window == numbers).unwrap();
    let mut bad = good.clone();
    bad[at] ^= 1;
    for (name, bytes) in [("flipped.pt", &bad[..]), ("cut.pt", &good[..good.len() - 40])] {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        assert!(refusal(&path).contains("damaged or cut short"), "{}", refusal(&path));
    }
    let old = fs::read(fixture("old_format.pth")).unwrap();
    for cut in [20, 300, old.len() - 3] {
        let path = folder.path().join("old.pth");
        fs::write(&path, &old[..cut]).unwrap();
        let text = refusal(&path);
        assert!(text.contains("ends early"), "{cut}: {text}");
    }
}

#[test]
fn shards_are_read_through_their_index_or_folder() {
    let folder = TempDir::new().unwrap();
    let [first, second] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    write(&folder.path().join(first), &["a", "b"]);
    write(&folder.path().join(second), &["c"]);
    let index = index(folder.path(), &[("a", first), ("b", first), ("c", second)]);
    for given in [index.as_path(), folder.path()] {
        let tensors = NamedTensors::open(given).unwrap();
        assert_eq!(tensors.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(tensors.get("b").unwrap().double_value(&[1]), 1.5);
        assert_eq!(tensors.maps().len(), 2);
        assert_eq!(tensors.notes().last().unwrap(), "2 shards are read");
    }
    let text = refusal(&folder.path().join(first));
    assert!(text.contains("one of 2 shards") && text.contains("model.safetensors.index.json"), "{text}");
    fs::remove_file(&index).unwrap();
    assert!(refusal(&folder.path().join(second)).contains("one of 2 shards"));
    assert!(refusal(folder.path()).contains("2 files that may be weights"));
}

#[test]
fn an_index_that_does_not_fit_its_files_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    write(&path.join("x.safetensors"), &["a", "b"]);
    let text = refusal(&index(path, &[("a", "x.safetensors"), ("b", "y.safetensors")]));
    assert!(text.contains("1 of the 2 files that this index names are missing"), "{text}");
    let text = refusal(&index(path, &[("a", "x.safetensors")]));
    assert!(text.contains("holds tensor `b`, which this index does not place there"), "{text}");
    let text =
        refusal(&index(path, &[("a", "x.safetensors"), ("b", "x.safetensors"), ("c", "x.safetensors")]));
    assert!(text.contains("places tensor `c` in `x.safetensors`, which does not hold it"), "{text}");
    let text = refusal(&index(path, &[("a", "../x.safetensors")]));
    assert!(text.contains("outside of its own folder"), "{text}");
    assert!(refusal(&index(path, &[])).contains("names no files"));
}

#[test]
fn a_folder_is_read_by_a_fixed_order_of_names() {
    let folder = TempDir::new().unwrap();
    let path = folder.path();
    assert!(refusal(path).contains("holds no weights"));
    write(&path.join("mine.safetensors"), &["a"]);
    assert_eq!(NamedTensors::open(path).unwrap().notes(), ["`mine.safetensors` of the folder is read"]);
    write(&path.join("other.safetensors"), &["b"]);
    assert!(refusal(path).contains("2 files that may be weights"));
    write(&path.join("open_clip_model.safetensors"), &["c"]);
    fs::copy(fixture("state_dict.pt"), path.join("pytorch_model.bin")).unwrap();
    let tensors = NamedTensors::open(path).unwrap();
    assert_eq!(tensors.names().collect::<Vec<_>>(), ["c"]);
    let expected = "`open_clip_model.safetensors` of the folder is read, not `pytorch_model.bin`";
    assert_eq!(tensors.notes(), [expected]);
    write(&path.join("model.safetensors"), &["d"]);
    assert_eq!(NamedTensors::open(path).unwrap().names().collect::<Vec<_>>(), ["d"]);
    index(path, &[("d", "model.safetensors")]);
    assert!(refusal(path).contains("both `model.safetensors` and `model.safetensors.index.json`"));
}

#[test]
fn a_configuration_is_looked_for_beside_the_path_and_then_beside_the_file() {
    let (given, target) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let file = target.path().join("blob");
    write(&file, &["a"]);
    let link = given.path().join("model.safetensors");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let beside = |path: &Path| NamedTensors::open(path).unwrap().beside("config.json");
    assert_eq!(beside(&link), None);
    fs::write(target.path().join("config.json"), "{}").unwrap();
    assert_eq!(beside(given.path()), Some(target.path().canonicalize().unwrap().join("config.json")));
    fs::write(given.path().join("config.json"), "{}").unwrap();
    assert_eq!(beside(&link), Some(given.path().join("config.json")));
}

#[test]
fn what_is_no_weights_is_named_as_what_it_is() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    let mut zip = zip::ZipWriter::new(fs::File::create(&path).unwrap());
    zip.start_file("arr_0.npy", zip::write::SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap();
    assert!(refusal(&path).contains("a file of NumPy arrays"), "{}", refusal(&path));
    for (bytes, expected) in [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer"),
        ("<!DOCTYPE html><html></html>", "a web page (HTML)"),
        ("{\"model_type\": \"clip\"}", "a JSON file that lists no shards"),
        ("Invalid username or password.", "a text file that begins with `Invalid username or password.`"),
        ("", "the file is empty"),
    ] {
        fs::write(&path, bytes).unwrap();
        assert!(refusal(&path).contains(expected), "{}", refusal(&path));
    }
}

/// The demo's CLIP, written in other forms: the same names and numbers are read from each.
#[test]
fn every_form_of_a_model_gives_the_same_tensors() {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../assets/demo_clip.safetensors");
    let read = |path: &Path| super::super::normalise(NamedTensors::open(path).unwrap()).unwrap().0;
    let plain = read(&demo);
    let mapped = MappedWeights::open(&demo).unwrap();
    let folder = TempDir::new().unwrap();
    let write = |file: &str, name: &dyn Fn(&str) -> Option<String>| {
        let views = mapped.tensors().filter_map(|(own, raw)| {
            Some((name(own)?, TensorView::new(raw.dtype.into(), raw.shape.to_vec(), raw.bytes).unwrap()))
        });
        fs::write(folder.path().join(file), safetensors::serialize(views, None).unwrap()).unwrap();
        folder.path().join(file)
    };
    let custom = |name: &str| match name {
        "logit_scale" => Some("module.logit_scale".to_owned()),
        _ if name.starts_with("visual.") => Some(format!("module.{name}")),
        _ => Some(format!("module.text.{name}")),
    };
    let is_first = |name: &str| name < "visual.";
    write("a.safetensors", &|name| is_first(name).then(|| name.to_owned()));
    write("b.safetensors", &|name| (!is_first(name)).then(|| name.to_owned()));
    let places: Vec<(&str, &str)> = mapped
        .names()
        .map(|name| (name, if is_first(name) { "a.safetensors" } else { "b.safetensors" }))
        .collect();
    let sharded = read(&index(folder.path(), &places));
    assert_eq!(sharded.fingerprint(), plain.fingerprint());
    for other in [sharded, read(&write("custom.safetensors", &custom))] {
        assert_eq!(other.names().collect::<Vec<_>>(), plain.names().collect::<Vec<_>>());
        for name in plain.names() {
            assert_eq!(other.get(name).unwrap(), plain.get(name).unwrap(), "{name}");
        }
    }
}
