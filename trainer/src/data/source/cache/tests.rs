//! Limits, damage, sharing.

use super::*;

fn kept(cache: &Cache, index: usize) -> Option<Vec<u8>> {
    let mut found = None;
    cache.get(index, &mut |bytes| found = Some(bytes.to_vec())).then_some(found?)
}

#[test]
fn memory_keeps_the_first_images_up_to_the_limit() {
    let cache = Cache::in_memory(4, 250);
    for index in [2, 0, 1, 3] {
        cache.put(index, || vec![index as u8; 100]);
    }
    let found: Vec<bool> = (0..5).map(|index| kept(&cache, index).is_some()).collect();
    assert_eq!(found, [true, false, true, false, false]);
    assert_eq!(kept(&cache, 2), Some(vec![2; 100]));
}

#[test]
fn a_folder_is_shared_and_its_limit_counts_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let open = |split| Cache::in_folder(folder.path(), split, 1000).unwrap();
    let (one, other, test) = (open("train"), open("train"), open("test"));
    one.put(7, || vec![7; 300]);
    assert_eq!(kept(&other, 7), Some(vec![7; 300]));
    assert_eq!(kept(&test, 7), None);
    other.put(1007, || vec![1; 300]);
    test.put(7, || vec![9; 300]);
    one.put(8, || vec![8; 300]);
    assert_eq!((kept(&one, 1007).is_some(), kept(&one, 8), kept(&test, 7)), (true, None, Some(vec![9; 300])));
}

#[test]
fn a_damaged_file_is_as_if_it_were_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::in_folder(folder.path(), "train", 1000).unwrap();
    cache.put(3, || vec![3; 50]);
    let path = folder.path().join("train/0/3");
    let bytes = std::fs::read(&path).unwrap();
    for damaged in [&bytes[..0], &bytes[..20], &[0; 58]] {
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(kept(&cache, 3), None);
    }
    cache.put(3, || vec![3; 50]);
    assert_eq!(kept(&cache, 3), Some(vec![3; 50]));
}
