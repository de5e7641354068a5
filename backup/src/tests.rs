use super::*;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const AT: u64 = 1_795_257_015_482;

const OWNER: &str = "0a1b2c3d-4e5f-6789";

fn main_of(owner: &str, cause: Cause) -> Series {
    Series::new("main", owner, cause)
}

/// One of the series that most tests are of.
fn begun(folder: &Path, at_ms: u64) -> Result<BackupWriter, BackupError> {
    BackupWriter::create(folder, &main_of(OWNER, Cause::Asked), at_ms, 0)
}

fn written(folder: &Path, parts: &[Vec<u8>]) -> Written {
    let mut writer = begun(folder, AT).unwrap();
    for part in parts {
        writer.part(part).unwrap();
    }
    writer.finish().unwrap()
}

/// The times in the names of all backups of a folder, oldest first.
fn made(folder: &Path) -> Vec<String> {
    let kept = list(folder, "main").unwrap().into_iter();
    kept.map(|kept| kept.made).collect()
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
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
    assert!(
        backup
            .path
            .ends_with("main-0a1b2c3d4e5f-20261121T103015.482Z.backup")
    );
    let line =
        fs::read_to_string(folder.join("main-0a1b2c3d4e5f-20261121T103015.482Z.backup.sha256")).unwrap();
    assert_eq!(
        line,
        format!(
            "{}  main-0a1b2c3d4e5f-20261121T103015.482Z.backup\n",
            backup.sha256
        )
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
    let mut writer = begun(folder.path(), AT).unwrap();
    writer.part(b"half").unwrap();
    for bytes in [0, 16 * 1_048_576 + 1] {
        let error = writer.part(&vec![0; bytes]).unwrap_err().to_string();
        assert!(error.contains(&format!("a part of {bytes} bytes")), "{error}");
    }
    drop(writer);
    assert_eq!(files(folder.path()), 0);
}

#[test]
fn only_the_newest_are_kept_and_other_files_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for number in 0..5 {
        begun(folder, AT + number * 1_000).unwrap().finish().unwrap();
    }
    let last = list(folder, "main").unwrap().pop().unwrap().path;
    for other in [
        "main-2026.backup",
        "main-0a1b2c3d4e5-20261121T103015.482Z.backup",
        "other-20261121T103015.482Z.backup",
        "main.txt",
    ] {
        fs::write(folder.join(other), "mine").unwrap();
    }
    let series = main_of(OWNER, Cause::Asked);
    assert_eq!(prune(folder, &series, 2, &last).unwrap().len(), 3);
    assert_eq!(made(folder), ["20261121T103018.482Z", "20261121T103019.482Z"]);
    // Two with their hashes, and four others.
    assert_eq!(files(folder), 8);
    // The newest is always kept.
    assert_eq!(prune(folder, &series, 0, &last).unwrap().len(), 1);
    assert_eq!(made(folder), ["20261121T103019.482Z"]);
    assert!(list(&folder.join("none"), "main").unwrap().is_empty());
}

#[test]
fn one_that_was_just_made_stays_whatever_the_clock_says() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, series) = (folder.path(), main_of(OWNER, Cause::Asked));
    for _ in 0..2 {
        begun(folder, AT).unwrap().finish().unwrap();
    }
    // The clock went back by an hour, and another owner's is ahead.
    let other = main_of("ff", Cause::Asked);
    let ahead = BackupWriter::create(folder, &other, AT + 9_000, 0).unwrap();
    ahead.finish().unwrap();
    let just = begun(folder, AT - 3_600_000).unwrap().finish().unwrap().path;
    assert!(just.ends_with("main-0a1b2c3d4e5f-20261121T103015.484Z.backup"));
    assert_eq!(prune(folder, &series, 1, &just).unwrap().len(), 2);
    assert_eq!(made(folder), ["20261121T103015.484Z", "20261121T103024.482Z"]);
    // Even one that is older by its name.
    let just = folder.join("main-0a1b2c3d4e5f-20200101T000000.000Z.backup");
    fs::write(&just, "just made").unwrap();
    assert_eq!(prune(folder, &series, 1, &just).unwrap().len(), 1);
    assert!(just.exists());
}

#[test]
fn a_backup_prunes_none_of_another_owner_or_cause_or_earlier_version() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let old = folder.join("main-20200101T000000.000Z.backup");
    fs::write(&old, "of an earlier version").unwrap();
    let series = [
        main_of(OWNER, Cause::Asked),
        main_of(OWNER, Cause::Automatic),
        main_of("ff", Cause::Automatic),
    ];
    let mut last = Vec::new();
    for number in 0..2 {
        for series in &series {
            let writer = BackupWriter::create(folder, series, AT + number, 0).unwrap();
            last.push(writer.finish().unwrap().path);
        }
    }
    assert!(last[1].ends_with("main-0a1b2c3d4e5f-auto-20261121T103015.482Z.backup"));
    assert_eq!(list(folder, "main").unwrap().len(), 7);
    let removed = prune(folder, &series[1], 1, &last[4]).unwrap();
    assert_eq!(removed, [last[1].clone()]);
    assert_eq!(prune(folder, &series[0], 1, &last[3]).unwrap(), [last[0].clone()]);
    let causes: Vec<_> = list(folder, "main")
        .unwrap()
        .into_iter()
        .map(|kept| kept.cause)
        .collect();
    let automatic = causes.iter().filter(|cause| **cause == Cause::Automatic).count();
    assert_eq!((causes.len(), automatic), (5, 3));
    assert!(old.exists());
}

#[test]
fn nothing_is_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // Two of one moment, and a hash whose backup is gone.
    let (one, two) = (begun(folder, AT).unwrap(), begun(folder, AT).unwrap());
    fs::write(
        folder.join("main-0a1b2c3d4e5f-20261121T103015.484Z.backup.sha256"),
        "x",
    )
    .unwrap();
    let three = begun(folder, AT).unwrap();
    let paths = [one, two, three].map(|writer| writer.finish().unwrap().path);
    let wanted = ["482", "483", "485"]
        .map(|ms| folder.join(format!("main-0a1b2c3d4e5f-20261121T103015.{ms}Z.backup")));
    assert_eq!(paths, wanted);
    // Somebody puts a file there meanwhile.
    let writer = begun(folder, AT).unwrap();
    let taken = folder.join("main-0a1b2c3d4e5f-20261121T103015.486Z.backup");
    fs::write(&taken, "mine").unwrap();
    let error = writer.finish().unwrap_err().to_string();
    assert!(error.contains("is there already"), "{error}");
    assert_eq!(fs::read_to_string(&taken).unwrap(), "mine");
    // Three with their hashes, the one that was left, and the one of somebody.
    assert_eq!(files(folder), 8);
}

#[test]
fn what_killed_programs_left_is_removed_and_what_is_being_written_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let left = |name: &str| {
        let path = folder.join(format!("{name}-20261121T103015.482Z.backup.tmp"));
        fs::write(&path, "half").unwrap();
        path
    };
    let mine = ["main-0a1b2c3d4e5f", "main-0a1b2c3d4e5f-auto"].map(left);
    let others = ["main-ff0000000000", "main", "other-0a1b2c3d4e5f"].map(left);
    let writing = begun(folder, AT + 5).unwrap();
    assert!(mine.iter().all(|path| !path.exists()));
    let second = begun(folder, AT + 7).unwrap();
    assert!(others.iter().all(|path| path.exists()));
    assert_eq!(files(folder), 5);
    writing.finish().unwrap();
    second.finish().unwrap();
    assert_eq!(made(folder).len(), 2);
}

#[test]
fn a_backup_needs_as_much_room_as_the_last_one_and_leaves_some() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let estimated = |bytes| BackupWriter::create(folder, &main_of(OWNER, Cause::Asked), AT, bytes);
    let error = estimated(u64::MAX / 2).unwrap_err().to_string();
    let named = format!(
        "a backup takes {} bytes, and 268435456 bytes stay free",
        u64::MAX / 2
    );
    assert!(error.contains("bytes free") && error.contains(&named), "{error}");
    assert_eq!(files(folder), 0);
    estimated(1).unwrap().finish().unwrap();
    // The last one is as large as no disk.
    let large = folder.join("main-0a1b2c3d4e5f-auto-20271121T103015.482Z.backup");
    let sparse = fs::File::create(&large).unwrap();
    sparse.set_len(1 << 43).unwrap();
    let error = estimated(1).unwrap_err().to_string();
    assert!(error.contains("a backup takes 8796093022208 bytes"), "{error}");
    // What others have is no measure.
    fs::rename(
        &large,
        folder.join("main-ff0000000000-20271121T103015.482Z.backup"),
    )
    .unwrap();
    estimated(1).unwrap();
    let room = |free| room::enough(folder, 100, free);
    assert!(room(100 + RESERVE_BYTES).is_ok());
    assert!(room(99 + RESERVE_BYTES).is_err());
}

#[test]
fn a_stamp_is_of_a_moment_or_of_none() {
    for at_ms in [0, 951_782_399_999, AT, 4_107_542_400_000, 253_402_300_799_999] {
        assert_eq!(series::ms_of(&series::stamp(at_ms)), Some(at_ms));
    }
    for none in [
        "20261301T000000.000Z",
        "20260230T000000.000Z",
        "20260101T250000.000Z",
        "19691231T235959.999Z",
    ] {
        assert!(series::is_stamp(none));
        assert_eq!(series::ms_of(none), None, "{none}");
    }
    // A name of the last moment there is holds nobody up.
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder
            .path()
            .join("main-0a1b2c3d4e5f-99991231T235959.999Z.backup"),
        "x",
    )
    .unwrap();
    assert_eq!(made(folder.path()).len(), 1);
    written(folder.path(), &[]);
    assert_eq!(
        made(folder.path()),
        ["20261121T103015.482Z", "99991231T235959.999Z"]
    );
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
    // One that fails rests as long, and stays due.
    schedule.failed(Duration::from_secs(20));
    assert_eq!(schedule.wait(), Duration::from_secs(200));
    assert!(schedule.is_due(&3));
    schedule.failed(Duration::ZERO);
    assert_eq!(schedule.wait(), LEAST_INTERVAL);
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
