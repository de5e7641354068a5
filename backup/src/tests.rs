use super::*;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const AT: u64 = 1_795_257_015_482;

fn written(folder: &Path, parts: &[Vec<u8>]) -> Written {
    let mut writer = BackupWriter::create(folder, "main", AT).unwrap();
    for part in parts {
        writer.part(part).unwrap();
    }
    writer.finish().unwrap()
}

fn parts_of(path: &Path) -> Result<Vec<Vec<u8>>, BackupError> {
    let mut reader = open_checked(path, |_, _| {})?;
    let mut parts = Vec::new();
    while let Some(part) = reader.part()? {
        parts.push(part);
    }
    Ok(parts)
}

#[test]
fn a_backup_has_a_dated_name_a_hash_beside_it_and_is_private() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("of/backups");
    let backup = written(&folder, &[b"one".to_vec(), b"two".to_vec()]);
    assert!(backup.path.ends_with("main-20261121T103015.482Z.backup"));
    let line = fs::read_to_string(folder.join("main-20261121T103015.482Z.backup.sha256")).unwrap();
    assert_eq!(
        line,
        format!("{}  main-20261121T103015.482Z.backup\n", backup.sha256)
    );
    assert_eq!(fs::metadata(&backup.path).unwrap().len(), backup.bytes);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&folder), mode(&backup.path)), (0o700, 0o600));
    assert_eq!(BackupReader::first_part(&backup.path).unwrap(), b"one");
    assert_eq!(
        parts_of(&backup.path).unwrap(),
        [b"one".to_vec(), b"two".to_vec()]
    );
}

#[test]
fn what_is_given_up_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = BackupWriter::create(folder.path(), "main", AT).unwrap();
    writer.part(b"half").unwrap();
    for bytes in [0, 16 * 1_048_576 + 1] {
        let error = writer.part(&vec![0; bytes]).unwrap_err().to_string();
        assert!(error.contains(&format!("a part of {bytes} bytes")), "{error}");
    }
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn only_the_newest_are_kept_and_other_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..5 {
        let writer = BackupWriter::create(folder.path(), "main", AT + number * 1_000).unwrap();
        writer.finish().unwrap();
    }
    for other in [
        "main-2026.backup",
        "other-20261121T103015.482Z.backup",
        "main.txt",
    ] {
        fs::write(folder.path().join(other), "mine").unwrap();
    }
    assert_eq!(prune(folder.path(), "main", 2).unwrap().len(), 3);
    let made: Vec<_> = list(folder.path(), "main").unwrap();
    let made: Vec<_> = made.iter().map(|kept| kept.made.as_str()).collect();
    assert_eq!(made, ["20261121T103018.482Z", "20261121T103019.482Z"]);
    // Two with their hashes, and three others.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 7);
    // The newest is always kept.
    assert_eq!(prune(folder.path(), "main", 0).unwrap().len(), 1);
    assert!(list(&folder.path().join("none"), "main").unwrap().is_empty());
}

#[test]
fn a_hash_beside_it_that_is_of_another_file_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let backup = written(folder.path(), &[b"one".to_vec()]);
    let beside = kept::hash_path(&backup.path);
    fs::write(&beside, format!("{}  x\n", "0".repeat(64))).unwrap();
    let error = parts_of(&backup.path).unwrap_err().to_string();
    assert!(error.contains("says another"), "{error}");
    fs::remove_file(&beside).unwrap();
    assert_eq!(parts_of(&backup.path).unwrap(), [b"one".to_vec()]);
}

#[test]
fn times_between_two_have_units_and_limits() {
    for (text, seconds) in [("30s", 30), ("2m", 120), ("12h", 43_200), ("366d", 31_622_400)] {
        assert_eq!(interval(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for text in [
        "",
        "s",
        "30",
        "-30s",
        "1.5h",
        "30 s",
        "30ms",
        "é",
        "29s",
        "0d",
        "367d",
        "99999999999999999999d",
    ] {
        let error = interval(text).unwrap_err();
        assert!(
            error.contains("no time") || error.contains("est"),
            "{text}: {error}"
        );
    }
}

#[test]
fn one_is_due_when_something_changed_and_takes_a_tenth_of_the_time_at_most() {
    let mut schedule = Schedule::new(LEAST_INTERVAL);
    assert!(schedule.is_due(&1));
    schedule.made(1, Duration::from_secs(1));
    assert!(!schedule.is_due(&1) && schedule.is_due(&2));
    assert_eq!(schedule.wait(), LEAST_INTERVAL);
    schedule.made(2, Duration::from_secs(9));
    assert_eq!(schedule.wait(), Duration::from_secs(90));
}

proptest! {
    #[test]
    fn every_cut_and_every_change_is_found(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 0..5),
        place in any::<prop::sample::Index>(),
        change in 1_u8..,
        beside in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let backup = written(folder.path(), &parts);
        prop_assert_eq!(&parts_of(&backup.path).unwrap(), &parts);
        if !beside {
            fs::remove_file(kept::hash_path(&backup.path)).unwrap();
        }
        let good = fs::read(&backup.path).unwrap();
        let at = place.index(good.len());
        let mut changed = good.clone();
        changed[at] ^= change;
        for bad in [&changed, &good[..at].to_vec(), &[&good[..], &[change]].concat()] {
            fs::write(&backup.path, bad).unwrap();
            prop_assert!(parts_of(&backup.path).is_err());
        }
    }
}
