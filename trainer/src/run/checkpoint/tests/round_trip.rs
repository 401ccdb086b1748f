//! What goes in comes out, and what would not is refused before anything is written.

use super::*;
use proptest::prelude::*;

const DTYPES: [Dtype; 8] =
    [Dtype::BOOL, Dtype::U8, Dtype::F4, Dtype::BF16, Dtype::F16, Dtype::F32, Dtype::I64, Dtype::F64];

fn any_tensors() -> impl Strategy<Value = Vec<TensorBytes>> {
    let one = (0..DTYPES.len(), proptest::collection::vec(0_usize..5, 0..4), any::<u64>());
    proptest::collection::btree_map(".{0,12}", one, 0..8).prop_map(|tensors| {
        tensors
            .into_iter()
            .filter_map(|(name, (dtype, shape, seed))| {
                let bits = shape.iter().product::<usize>() * DTYPES[dtype].bitsize();
                let bytes = (0..bits / 8).map(|at| (seed.rotate_left(at as u32) ^ at as u64) as u8).collect();
                let tensor = TensorBytes { name, dtype: DTYPES[dtype], shape, bytes };
                (bits.is_multiple_of(8) && tensor.name != "__metadata__").then_some(tensor)
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_snapshot_comes_back_to_the_bit(
        step in any::<u64>(),
        tensors in any_tensors(),
        rate in proptest::num::f64::NORMAL | proptest::num::f64::SUBNORMAL | proptest::num::f64::ZERO,
        note in proptest::option::of(".*"),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let state = State { epoch: step / 3, metrics: u64::MAX, rate, note };
        let mut written = Snapshot { step, tensors, state };
        let mut store = store_with(folder.path(), retention(1, false), &[]);
        store.write(&written, None).unwrap();
        let mut read = store.newest::<State>().unwrap().unwrap().snapshot;
        prop_assert_eq!(read.state.rate.to_bits(), rate.to_bits());
        read.tensors.sort_by(|a, b| a.name.cmp(&b.name));
        written.tensors.sort_by(|a, b| a.name.cmp(&b.name));
        prop_assert_eq!(read, written);
    }
}

#[test]
fn tensors_of_one_type_keep_their_order_and_other_programs_can_read_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = store_with(folder.path(), retention(1, false), &[(420, None)]);
    assert_eq!(store.load::<State>(420).unwrap(), snapshot(420, 0));
    assert_eq!(store.load_path::<State>(&folder.path().join("00000420")).unwrap(), snapshot(420, 0));
    let file = std::fs::read(folder.path().join("00000420/tensors.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.tensor("momentum").unwrap().data(), snapshot(420, 0).tensors[2].bytes);
    let manifest = std::fs::read_to_string(folder.path().join("00000420/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!((&manifest["format"], &manifest["step"]), (&1.into(), &420.into()));
}

#[test]
fn a_checkpoint_that_was_copied_under_a_name_of_words_can_be_loaded() {
    let folder = tempfile::tempdir().unwrap();
    store_with(folder.path(), retention(1, false), &[(10, None)]);
    let elsewhere = folder.path().join("the good one");
    copy(&folder.path().join("00000010"), &elsewhere);
    assert_eq!(reader(folder.path()).load_path::<State>(&elsewhere).unwrap(), snapshot(10, 0));
}

#[test]
fn a_folder_that_does_not_exist_has_no_checkpoints_and_is_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoints");
    let mut store = Store::with(&path, retention(1, true), lazy()).unwrap();
    assert!(store.generations().unwrap().is_empty());
    assert_eq!(store.newest::<State>().unwrap(), None);
    assert_eq!(store.best().unwrap(), None);
    let absent = store.load::<State>(7).unwrap_err().to_string();
    assert_eq!(
        absent,
        format!("`{}/00000007` does not exist; expected the folder of a checkpoint", path.display())
    );
    assert!(!path.exists());
    store.write(&snapshot(7, 0), None).unwrap();
    assert_eq!(store.generations().unwrap(), [7]);
}

#[test]
fn a_snapshot_that_could_not_be_read_back_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store_with(folder.path(), retention(1, false), &[]);
    let start = "the snapshot of step 3 cannot be written: ";
    let mut refusal = |change: fn(&mut Snapshot<State>)| {
        let mut wrong = snapshot(3, 0);
        change(&mut wrong);
        store.write(&wrong, None).unwrap_err().to_string().strip_prefix(start).unwrap().to_owned()
    };
    assert_eq!(
        refusal(|it| it.tensors[1].name = "head.weight".into()),
        "the name `head.weight` is taken; every tensor needs one of its own"
    );
    assert_eq!(
        refusal(|it| it.tensors[0].name = "__metadata__".into()),
        "the name `__metadata__` is taken; every tensor needs one of its own"
    );
    assert_eq!(
        refusal(|it| it.tensors[0].shape = vec![usize::MAX, 7]),
        "tensor `head.weight` has 24 bytes, which do not go with shape [18446744073709551615, 7] of F32"
    );
    assert!(
        refusal(|it| it.state.rate = f64::NAN).starts_with("its state cannot be read back: "),
        "a NaN becomes null"
    );
    assert_eq!(names(folder.path()), [""; 0]);
}
