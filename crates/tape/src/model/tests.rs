//! The model is itself under test: a torture chamber that is kinder than a disk proves nothing.

use std::collections::BTreeSet;

use super::*;

fn dir() -> PathBuf {
    PathBuf::from("/tape")
}

fn at(name: &str) -> PathBuf {
    dir().join(name)
}

/// A model with one file of synced name and bytes.
fn with_file(bytes: &[u8]) -> (Model, Arc<dyn StorageFile>) {
    let model = Model::new(1);
    model.create_dir_all(&dir()).unwrap();
    model.put(&at("a"), bytes);
    let file = model.open(&at("a"), false).unwrap();
    (model, file)
}

/// All the contents that the file `a` has after many different crashes; `None` when it is gone.
fn after_crashes(model: &Model) -> BTreeSet<Option<Vec<u8>>> {
    (0..400).map(|seed| model.crash(seed).bytes(&at("a")).ok()).collect()
}

#[test]
fn what_is_written_reads_back_across_pages_and_holes() {
    let (_, file) = with_file(b"");
    let bytes: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
    file.write_at(&bytes, 6000).unwrap();
    let mut back = vec![1; 20_000];
    assert_eq!(file.read_at(&mut back, 0).unwrap(), 16_000);
    assert!(back[..6000].iter().all(|byte| *byte == 0));
    assert_eq!(&back[6000..16_000], bytes);
    file.set_len(7000).unwrap();
    file.set_len(9000).unwrap();
    assert_eq!(file.read_at(&mut back, 0).unwrap(), 9000);
    assert!(back[7000..9000].iter().all(|byte| *byte == 0), "what was cut does not come back");
}

#[test]
fn synced_bytes_survive_every_crash_and_unsynced_ones_only_some() {
    let (model, file) = with_file(&[1; 1024]);
    file.write_at(&[2; 512], 0).unwrap();
    file.sync_data().unwrap();
    file.write_at(&[3; 512], 512).unwrap();
    let seen = after_crashes(&model);
    let expect = |last: u8| Some([[2; 512], [last; 512]].concat());
    assert_eq!(seen, BTreeSet::from([expect(1), expect(3)]));
}

#[test]
fn a_sector_is_left_at_one_of_its_versions_and_never_at_a_mixture() {
    let (model, file) = with_file(&[0; 512]);
    file.write_at(&[1; 256], 0).unwrap();
    file.write_at(&[2; 256], 256).unwrap();
    let seen = after_crashes(&model);
    let versions = [vec![0; 512], [[1; 256], [0; 256]].concat(), [[1; 256], [2; 256]].concat()];
    assert_eq!(seen, versions.map(Some).into());
}

#[test]
fn one_write_is_torn_at_any_sector_and_reordered() {
    let (model, file) = with_file(&[0; 1536]);
    file.write_at(&[1; 1536], 0).unwrap();
    let kept: BTreeSet<Vec<u8>> = after_crashes(&model)
        .into_iter()
        .flatten()
        .map(|bytes| bytes.chunks(512).map(|sector| sector[0]).collect())
        .collect();
    assert_eq!(kept.len(), 8, "every subset of three sectors: {kept:?}");
}

#[test]
fn an_extended_area_may_be_missing_or_show_zeros_or_noise() {
    let (model, file) = with_file(&[7; 512]);
    file.write_at(&[1; 512], 512).unwrap();
    let seen = after_crashes(&model);
    let tail = |byte: u8| Some([[7; 512], [byte; 512]].concat());
    assert!(seen.contains(&Some(vec![7; 512])), "the length was lost");
    assert!(seen.contains(&tail(0)) && seen.contains(&tail(1)));
    assert!(seen.len() > 3, "noise");
}

#[test]
fn a_truncation_is_pending_until_synced() {
    let (model, file) = with_file(&[1; 2048]);
    file.set_len(100).unwrap();
    assert_eq!(after_crashes(&model), BTreeSet::from([Some(vec![1; 100]), Some(vec![1; 2048])]));
    file.sync_data().unwrap();
    assert_eq!(after_crashes(&model), BTreeSet::from([Some(vec![1; 100])]));
}

#[test]
fn a_name_is_lost_without_a_folder_sync_even_when_the_file_was_synced() {
    let model = Model::new(1);
    model.create_dir_all(&dir()).unwrap();
    let file = model.open(&at("a"), true).unwrap();
    file.write_at(b"x", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(after_crashes(&model), BTreeSet::from([None, Some(b"x".to_vec())]));
    model.sync_dir(&dir()).unwrap();
    assert_eq!(after_crashes(&model), BTreeSet::from([Some(b"x".to_vec())]));
    model.remove(&at("a")).unwrap();
    assert_eq!(after_crashes(&model), BTreeSet::from([None, Some(b"x".to_vec())]), "nor is a removal certain");
}

#[test]
fn a_renamed_file_is_at_one_of_its_two_names_after_a_crash() {
    let (model, _) = with_file(b"x");
    model.rename(&at("a"), &at("b")).unwrap();
    let seen: BTreeSet<Vec<String>> = (0..50).map(|seed| model.crash(seed).list(&dir()).unwrap()).collect();
    assert_eq!(seen, BTreeSet::from([vec!["a".to_owned()], vec!["b".to_owned()]]));
}

#[test]
fn a_failed_fsync_that_is_tried_again_says_ok_and_loses_the_bytes() {
    let (model, file) = with_file(&[0; 512]);
    file.write_at(&[1; 512], 0).unwrap();
    model.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Eio, for_ever: false });
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
    file.sync_data().unwrap();
    let mut back = [0; 512];
    file.read_at(&mut back, 0).unwrap();
    assert_eq!(back, [1; 512], "the cache still shows them");
    let lost = (0..20).any(|seed| {
        let (model, file) = with_file(&[0; 512]);
        model.state().rng = Rng::new(seed);
        file.write_at(&[1; 512], 0).unwrap();
        model.fail(Fault { call: Some(Call::Sync), nth: 1, failure: Failure::Eio, for_ever: false });
        file.sync_data().unwrap_err();
        file.sync_data().unwrap();
        model.crash(seed).bytes(&at("a")).unwrap() == [0; 512]
    });
    assert!(lost);
}

#[test]
fn the_nth_call_fails_once_or_for_ever_and_heals() {
    let (model, file) = with_file(&[0; 8]);
    model.fail(Fault { call: Some(Call::Write), nth: 2, failure: Failure::Enospc, for_ever: false });
    file.write_at(b"1", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(file.write_at(b"2", 0).unwrap_err().kind(), ErrorKind::StorageFull);
    file.write_at(b"3", 0).unwrap();
    model.fail(Fault { call: None, nth: 1, failure: Failure::Eio, for_ever: true });
    assert!(file.write_at(b"4", 0).is_err() && file.len_bytes().is_err() && model.list(&dir()).is_err());
    model.heal();
    assert_eq!(file.write_at(b"5", 0).unwrap(), 1);
    model.fail(Fault { call: Some(Call::Write), nth: 1, failure: Failure::ShortWrite, for_ever: true });
    for _ in 0..20 {
        assert!((1..8).contains(&file.write_at(&[6; 8], 0).unwrap()));
    }
}

#[test]
fn after_a_power_cut_nothing_answers_and_a_crash_brings_the_rest_back() {
    let (model, file) = with_file(&[0; 512]);
    model.fail(Fault { call: Some(Call::Write), nth: 1, failure: Failure::PowerCut, for_ever: false });
    assert!(file.write_at(&[1; 512], 0).is_err());
    assert!(file.sync_data().is_err() && model.open(&at("a"), false).is_err());
    assert_eq!(after_crashes(&model).len(), 2, "the last write may have made it");
    assert!(model.crash(1).open(&at("a"), false).is_ok());
}

#[test]
fn a_lock_ends_with_its_holder_or_with_the_process() {
    let (model, _) = with_file(b"");
    let held = model.lock(&at("lock")).unwrap();
    assert_eq!(model.lock(&at("lock")).err().unwrap().kind(), ErrorKind::WouldBlock);
    assert!(model.fork().lock(&at("lock")).is_ok());
    assert!(model.crash(1).lock(&at("lock")).is_ok());
    drop(held);
    assert!(model.lock(&at("lock")).is_ok());
}

#[test]
fn space_runs_out_in_pages_and_comes_back_by_removing() {
    let (model, file) = with_file(&[1; 4096]);
    model.set_capacity(Some(3 * 4096));
    assert_eq!(file.write_at(&[2; 4096 * 4], 4096).unwrap(), 4096 * 2, "what fits is written");
    assert_eq!(file.write_at(&[3; 1], 3 * 4096).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.write_at(&[3; 4096], 0).unwrap(), 4096, "what is there already may be written over");
    let other = model.open(&at("b"), true).unwrap();
    assert!(other.write_at(&[1], 0).is_err());
    model.remove(&at("a")).unwrap();
    assert_eq!(model.used(), 0);
    other.write_at(&[1], 0).unwrap();
}

#[test]
fn a_fork_goes_its_own_way_and_still_holds_what_was_not_synced() {
    let (model, file) = with_file(&[0; 512]);
    file.write_at(&[1; 512], 0).unwrap();
    let fork = model.fork();
    file.write_at(&[2; 512], 0).unwrap();
    assert_eq!(fork.bytes(&at("a")).unwrap(), [1; 512]);
    assert_eq!(after_crashes(&fork), BTreeSet::from([Some(vec![0; 512]), Some(vec![1; 512])]));
}

#[test]
fn bits_flip_and_surfaces_go_bad() {
    let (model, file) = with_file(&[0; 600]);
    model.flip(&at("a"), 3, 7).unwrap();
    model.make_unreadable(&at("a"), 512..513).unwrap();
    let mut buf = [0; 512];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(buf[3], 0x80);
    assert_eq!(file.read_at(&mut buf, 100).unwrap_err().raw_os_error(), Some(EIO));
    assert_eq!(model.crash(1).bytes(&at("a")).unwrap()[3], 0x80);
}

#[test]
fn a_model_told_not_to_sync_loses_what_was_synced() {
    let (model, file) = with_file(&[0; 512]);
    model.commit_flaw(Flaw::NoSync);
    file.write_at(&[1; 512], 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(after_crashes(&model).len(), 2);
}
