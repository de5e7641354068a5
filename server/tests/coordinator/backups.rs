//! Backups of the coordinator's database: from either database to either, whole or not at all, judged before they count.

#![expect(
    clippy::too_many_lines,
    reason = "a story, or a table of what is refused, is told in one piece"
)]

use crate::both::{Open, on_both};
use crate::http::{first_line, program, refused};
use crate::network::{Tree, at, cosigned, join, network, start};
use block_chain_backup::{BackupWriter, Cause, MAX_PART_BYTES, Series, open_checked};
use block_chain_server::backup::{self, CoordinatorBackupError, REPLACED, WHAT};
use block_chain_server::service::Service;
use block_chain_server::store::{PAGE, PAGE_BYTES, Store, StoreError, TABLES, Table, check_rows, each_page};
use diesel::prelude::*;
use serde_json::{Value, json};
use std::io::Read as _;
use std::path::{Path, PathBuf};

on_both!(
    what_is_restored_is_what_was_there,
    a_backup_that_breaks_a_rule_is_restored_nowhere,
    a_mark_changes_with_what_matters,
    a_long_table_is_read_in_pages,
    rows_that_are_long_are_in_parts_of_their_own,
    a_row_that_is_not_what_its_table_holds_is_noticed,
);

const AT: u64 = 1_795_257_015_482;

/// A network of three with two checkpoints, a cosignature, and a row in every table.
fn filled(store: Store) -> Service {
    let (service, workers) = network(store, 3);
    let tree = Tree::new(8, 0);
    let all: Vec<_> = workers.iter().collect();
    tree.commit(&service, (0, 2), &workers[0], &all).unwrap();
    tree.commit(&service, (2, 5), &workers[0], &all).unwrap();
    let signed = cosigned(&service, 5, &workers[1].key);
    service.cosign(&workers[1].who, "main", &signed).unwrap();
    service
}

/// A row of each table that nothing above has filled.
const MORE: [(&str, &str); 7] = [
    (
        "claims",
        r#"{"chain":"main","worker":"w","term":3,"size":9,"note":"n\n\"é\"","claimed_ms":1}"#,
    ),
    ("recoveries", r#"{"chain":"main","at_ms":5,"note":"x"}"#),
    ("orders", r#"{"chain":"main","nonce":0,"body":"ab"}"#),
    (
        "join_tokens",
        r#"{"id":"i","hash":"h","label":"l'","created_ms":1,"expires_ms":null,"uses_left":2,"used":0,"revoked_ms":null}"#,
    ),
    (
        "figures",
        r#"{"chain":"main","minute":7,"blocks":1,"transactions":2,"bytes":9007199254740993,"work":1048576.5,"checkpoints":1,"final_ms":3,"finals":1,"shares":"[]"}"#,
    ),
    (
        "fork_wishes",
        r#"{"name":"f","chain":"main","height":1,"asked_ms":2}"#,
    ),
    ("settings", r#"{"name":"other","value":"1"}"#),
];

fn fill(store: &Store) {
    store
        .transaction::<_, StoreError>(|tx| {
            for (name, row) in MORE {
                let table = TABLES.iter().find(|table| table.name == name).unwrap();
                tx.load_rows(table, table.columns, &format!("[{row}]"))?;
            }
            Ok(())
        })
        .unwrap();
}

/// Every row of every table.
fn rows(store: &Store) -> Vec<(&'static str, Vec<Value>)> {
    let all = TABLES.iter().map(|table| {
        let mut rows = Vec::new();
        let read = store.read::<_, StoreError>(|tx| {
            rows.clear();
            each_page::<StoreError>(tx, table, |page| {
                rows.extend(page.iter().map(|row| serde_json::from_str::<Value>(row).unwrap()));
                Ok(())
            })
        });
        read.unwrap();
        (table.name, rows)
    });
    all.collect()
}

fn scratch(folder: &Path, name: &str) -> Store {
    Store::open_sqlite(&folder.join(name)).unwrap()
}

fn what_is_restored_is_what_was_there(open: Open<'_>) {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(open()));
    let store = open();
    fill(&store);
    let before = rows(&store);
    let empty: Vec<_> = before
        .iter()
        .filter(|(_, rows)| rows.is_empty())
        .map(|(name, _)| *name)
        .collect();
    // A worker alone would be heard in them.
    assert!(empty.is_empty(), "{empty:?}");
    let written = backup::make(&store, (folder.path(), WHAT), (Cause::Asked, None), AT).unwrap();
    let manifest = backup::manifest(&written.path).unwrap();
    assert_eq!((manifest.workers, manifest.chains[0].committed), (3, 5));

    // Into another database, of SQLite whatever this one is.
    let other = scratch(folder.path(), "other");
    backup::restore(&written.path, &scratch(folder.path(), "one"), (&other, None), AT).unwrap();
    assert_eq!(rows(&other), before);
    assert_eq!(start(other).public_key(), manifest.coordinator);

    // Into this one, which has gone on: only where that is said.
    let service = start(open());
    join(&service, 9, at(50));
    drop(service);
    let now = AT + 1_000_000;
    let error =
        backup::restore(&written.path, &scratch(folder.path(), "two"), (&store, None), now).unwrap_err();
    assert!(matches!(error, CoordinatorBackupError::Occupied), "{error}");
    let gone_on = rows(&store);
    assert_ne!(gone_on, before);
    let aside = folder.path().join("aside");
    let restored = backup::restore(
        &written.path,
        &scratch(folder.path(), "three"),
        (&store, Some(&aside)),
        now,
    );
    let (_, kept) = restored.unwrap();
    assert_eq!(rows(&store), before);
    // Nothing is lost: it is a backup like any other.
    let kept = kept.unwrap().path;
    assert!(kept.file_name().unwrap().to_str().unwrap().starts_with(REPLACED));
    let again = scratch(folder.path(), "again");
    backup::restore(&kept, &scratch(folder.path(), "four"), (&again, None), now).unwrap();
    assert_eq!(rows(&again), gone_on);
}

/// The parts of a backup, changed, in a file whose hashes are right.
fn forged(folder: &Path, good: &Path, change: &dyn Fn(&mut Vec<Value>)) -> PathBuf {
    let mut reader = open_checked(good, |_, _| {}).unwrap();
    let mut parts: Vec<Value> = Vec::new();
    while let Some(part) = reader.part().unwrap() {
        parts.push(serde_json::from_slice(&part).unwrap());
    }
    change(&mut parts);
    let series = Series::new("forged", "0", Cause::Asked);
    let mut writer = BackupWriter::create(folder, &series, AT, 0).unwrap();
    for part in parts {
        writer.part(&serde_json::to_vec(&part).unwrap()).unwrap();
    }
    writer.finish().unwrap().path
}

/// The rows of a table.
fn of<'a>(parts: &'a mut [Value], table: &str) -> &'a mut Value {
    let found = parts.iter_mut().find(|part| part["rows"]["table"] == table);
    &mut found.unwrap()["rows"]
}

fn a_backup_that_breaks_a_rule_is_restored_nowhere(open: Open<'_>) {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(open()));
    let store = open();
    let good = backup::make(&store, (folder.path(), WHAT), (Cause::Asked, None), AT)
        .unwrap()
        .path;
    let target = scratch(folder.path(), "target");
    type Change = fn(&mut Vec<Value>);
    let table: [(&str, Change); 20] = [
        ("no backup of a coordinator", |p| drop(p.remove(0))),
        ("no backup of a coordinator", |p| {
            p[0]["manifest"]["more"] = json!(1)
        }),
        ("format 2", |p| p[0]["manifest"]["format"] = json!(2)),
        ("it says twice what it holds", |p| p.push(p[0].clone())),
        ("does not hold what it says", |p| {
            p[0]["manifest"]["workers"] = json!(4)
        }),
        ("does not hold what it says", |p| {
            p.retain(|part| part["rows"]["table"] != "checkpoints")
        }),
        ("the coordinator's key is missing", |p| {
            of(p, "settings")["rows"] = json!([])
        }),
        ("is not 64 hex digits", |p| {
            of(p, "settings")["rows"][0]["value"] = json!("ff")
        }),
        ("a table \"users\" that is not known", |p| {
            of(p, "workers")["table"] = json!("users")
        }),
        ("columns that are not known", |p| {
            of(p, "workers")["columns"][0] = json!("id; DROP TABLE workers")
        }),
        ("a column twice", |p| {
            of(p, "workers")["columns"] = json!(["id", "id"])
        }),
        ("table workers", |p| {
            let row = of(p, "workers")["rows"][0].clone();
            of(p, "workers")["rows"].as_array_mut().unwrap().push(row);
        }),
        ("table workers", |p| {
            of(p, "workers")["rows"][0]["registered_ms"] = Value::Null
        }),
        ("its id is not that of its spec", |p| {
            of(p, "chains")["rows"][0]["id"] = json!("00");
            p[0]["manifest"]["chains"][0]["id"] = json!("00");
        }),
        ("more is final", |p| {
            of(p, "chains")["rows"][0]["final_size"] = json!(6);
            p[0]["manifest"]["chains"][0]["final"] = json!(6);
        }),
        ("a row of table chains: invalid type: string \"soon\"", |p| {
            of(p, "chains")["rows"][0]["leader_since_ms"] = json!("soon");
        }),
        ("a row of table terms: invalid type: floating point", |p| {
            of(p, "terms")["rows"][0]["since_ms"] = json!(1.5);
        }),
        ("a row of table members: invalid type: string \"[]\"", |p| {
            of(p, "members")["rows"][0]["height"] = json!([]);
        }),
        ("the checkpoint of 5 blocks", |p| {
            let note = of(p, "checkpoints")["rows"][1]["note"]
                .as_str()
                .unwrap()
                .replacen("term 1", "term 2", 1);
            of(p, "checkpoints")["rows"][1]["note"] = json!(note);
        }),
        ("the checkpoint of 5 blocks: its row says", |p| {
            of(p, "checkpoints")["rows"][1]["block"] = json!("00");
        }),
    ];
    for (number, (reason, change)) in table.into_iter().enumerate() {
        let forged = forged(folder.path(), &good, &change);
        // What the manifest says must be changed with it, where that is not the point.
        let scratch = scratch(folder.path(), &format!("scratch-{number}"));
        let error = backup::restore(&forged, &scratch, (&target, Some(folder.path())), AT).unwrap_err();
        assert!(error.to_string().contains(reason), "{reason}: {error}");
        assert!(target.is_empty().unwrap(), "{reason}");
    }
    // What an earlier version wrote has fewer columns.
    let earlier = forged(folder.path(), &good, &|p| {
        let columns = of(p, "members")["columns"].as_array_mut().unwrap();
        columns.retain(|column| column != "version" && column != "orders");
    });
    let scratch = scratch(folder.path(), "scratch-earlier");
    backup::restore(&earlier, &scratch, (&target, None), AT).unwrap();
    assert_eq!(rows(&target), rows(&store));
}

fn a_mark_changes_with_what_matters(open: Open<'_>) {
    let service = filled(open());
    let store = open();
    let before = backup::mark(&store).unwrap();
    service.tick(at(10)).unwrap();
    assert_eq!(backup::mark(&store).unwrap(), before);
    join(&service, 8, at(60));
    let joined = backup::mark(&store).unwrap();
    assert_ne!(joined, before);
    fill(&store);
    assert_ne!(backup::mark(&store).unwrap(), joined);
}

fn a_long_table_is_read_in_pages(open: Open<'_>) {
    let store = open();
    let table = TABLES.iter().find(|table| table.name == "checkpoints").unwrap();
    let count = PAGE * 2 + 1;
    // In no order, over two chains.
    let row = |number: usize| {
        let (chain, size) = (["a", "b"][number % 2], (number * 7_919) % 100_003);
        json!({"chain": chain, "size": size, "root": "r", "block": "b", "note": number.to_string()})
    };
    let all: Vec<_> = (0..count).map(row).collect();
    let text = serde_json::to_string(&all).unwrap();
    let loaded = store.transaction::<_, StoreError>(|tx| tx.load_rows(table, table.columns, &text));
    assert_eq!(loaded.unwrap(), count);
    let found = rows(&store)
        .into_iter()
        .find(|(name, _)| *name == "checkpoints")
        .unwrap()
        .1;
    let place = |row: &Value| {
        (
            row["chain"].as_str().unwrap().to_owned(),
            row["size"].as_i64().unwrap(),
        )
    };
    let mut sorted = all;
    sorted.sort_by_key(place);
    assert_eq!(found, sorted);
}

fn table(name: &str) -> &'static Table {
    TABLES.iter().find(|table| table.name == name).unwrap()
}

fn rows_that_are_long_are_in_parts_of_their_own(open: Open<'_>) {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(open()));
    let store = open();
    // As long as a spec of a mebibyte in hex; notes that a page of is more than a part has; and a row longer than a piece.
    let chains = (0..9).map(|number| {
        json!({
            "name": format!("c{number}"), "id": number.to_string(), "spec": "a".repeat(2 << 20), "term": 1,
            "leader": null, "leader_since_ms": 0, "final_size": 0,
        })
    });
    let claims = (0..300).map(
        |number| json!({"chain": "main", "worker": number.to_string(), "term": 1, "size": 1, "note": "n".repeat(65_536), "claimed_ms": 1}),
    );
    let order = json!({"chain": "main", "nonce": 7, "body": "b".repeat(PAGE_BYTES + 1)});
    let all: [(&str, Vec<Value>); 3] = [
        ("chains", chains.collect()),
        ("claims", claims.collect()),
        ("orders", vec![order]),
    ];
    for (name, rows) in &all {
        let text = serde_json::to_string(rows).unwrap();
        let loaded =
            store.transaction::<_, StoreError>(|tx| tx.load_rows(table(name), table(name).columns, &text));
        assert_eq!(loaded.unwrap(), rows.len());
    }
    let written = backup::make(&store, (folder.path(), WHAT), (Cause::Asked, None), AT).unwrap();
    let mut reader = open_checked(&written.path, |_, _| {}).unwrap();
    let (mut parts, mut found) = (0, Vec::new());
    while let Some(part) = reader.part().unwrap() {
        assert!(part.len() <= usize::try_from(MAX_PART_BYTES).unwrap());
        let part: Value = serde_json::from_slice(&part).unwrap();
        if part["rows"]["table"] == "chains" {
            parts += 1;
            found.extend(part["rows"]["rows"].as_array().unwrap().clone());
        }
    }
    // Nine of 2 MiB and a small one, at most three in a part.
    assert_eq!((parts, found.len()), (5, 10));
    let before = rows(&store);
    assert_eq!(
        before.iter().find(|(name, _)| *name == "chains").unwrap().1,
        found
    );
    assert_eq!(
        before.iter().find(|(name, _)| *name == "claims").unwrap().1.len(),
        300
    );
}

fn a_row_that_is_not_what_its_table_holds_is_noticed(open: Open<'_>) {
    drop(filled(open()));
    let store = open();
    fill(&store);
    for table in &TABLES {
        store.read(|tx| check_rows(tx, table)).unwrap();
    }
    let rows = rows(&store);
    for (name, rows) in &rows {
        let good = &rows[0];
        table(name).check_row(&good.to_string()).unwrap();
        for (column, value) in good.as_object().unwrap() {
            for bad in [json!([]), json!(1.5), json!({"a": 1})] {
                // The one column whose numbers have fractions.
                if bad.is_f64() && column == "work" {
                    continue;
                }
                let mut row = good.clone();
                row[column] = bad;
                let error = table(name).check_row(&row.to_string()).unwrap_err().to_string();
                assert!(
                    error.contains(&format!("a row of table {name}")),
                    "{column} {value}: {error}"
                );
            }
        }
    }
}

#[test]
fn every_column_of_every_table_is_in_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("coordinator.sqlite");
    drop(Store::open_sqlite(&file).unwrap());
    let mut connection = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    let names = diesel::dsl::sql::<diesel::sql_types::Text>(
        "SELECT m.name || '.' || c.name FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c WHERE m.type = 'table'",
    );
    let mut found: Vec<String> = names.load(&mut connection).unwrap();
    // Good for a minute, and diesel's own.
    found.retain(|name| !name.starts_with("challenges.") && !name.starts_with("__diesel"));
    let known = TABLES.iter();
    let mut known: Vec<String> = known
        .flat_map(|table| {
            table
                .columns
                .iter()
                .map(|column| format!("{}.{column}", table.name))
        })
        .collect();
    found.sort_unstable();
    known.sort_unstable();
    assert_eq!(found, known);
}

/// What the program says; it must end well.
fn said(dir: &Path, words: &[&str]) -> String {
    let mut program = program(dir, words);
    let (mut text, mut errors) = (String::new(), String::new());
    program
        .0
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    program
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut errors)
        .unwrap();
    assert!(program.0.wait().unwrap().success(), "{words:?}: {errors}");
    text
}

#[test]
fn the_program_backs_up_while_it_serves_and_restores_when_it_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("server");
    let (code, error) = refused(&dir, &["backup"]);
    assert!(
        code == 1 && error.contains("there is no coordinator's database"),
        "{error}"
    );
    let serve = ["--bind", "127.0.0.1:0"];
    let mut server = program(&dir, &serve);
    first_line(&mut server);
    let (code, error) = refused(&dir, &serve);
    assert!(code == 1 && error.contains("another server runs in"), "{error}");
    let kept = folder.path().join("kept");
    let kept = kept.to_str().unwrap();
    // Another coordinator's, and one of an earlier version, are nobody's to remove.
    for other in [
        "coordinator-20200101T000000.000Z.backup",
        "coordinator-ffffffffffff-20200101T000000.000Z.backup",
    ] {
        std::fs::create_dir_all(kept).unwrap();
        std::fs::write(Path::new(kept).join(other), "of others").unwrap();
    }
    for _ in 0..3 {
        said(&dir, &["backup", kept, "--keep", "2"]);
    }
    let listed = said(&dir, &["backups", kept]);
    assert_eq!(
        listed.lines().filter(|line| line.contains("whole; ")).count(),
        2,
        "{listed}"
    );
    let file = block_chain_backup::list(Path::new(kept), WHAT)
        .unwrap()
        .remove(2)
        .path;
    let file = file.to_str().unwrap();
    let (code, error) = refused(&dir, &["restore", file, "--replace"]);
    assert!(code == 1 && error.contains("another server runs in"), "{error}");
    drop(server);
    let (code, error) = refused(&dir, &["restore", file]);
    assert!(
        code == 1 && error.contains("holds a coordinator already") && error.contains("--replace"),
        "{error}"
    );
    let restored = said(&dir, &["restore", file, "--replace"]);
    assert!(restored.contains("what was there is kept in"), "{restored}");
    let elsewhere = folder.path().join("elsewhere");
    said(&elsewhere, &["restore", file]);
    let key = |dir: &Path| std::fs::read(dir.join("coordinator.sqlite")).is_ok();
    assert!(key(&elsewhere) && !elsewhere.join("restore.sqlite").exists());
    for dir in [&dir, &elsewhere] {
        let mut server = program(dir, &serve);
        assert!(first_line(&mut server).starts_with("listening on "));
    }
    std::fs::write(file, "no backup").unwrap();
    let (code, error) = refused(&elsewhere, &["restore", file, "--replace"]);
    assert!(
        code == 1 && error.contains("does not begin as a backup does"),
        "{error}"
    );
    for words in [
        ["--backup-every", "5s"],
        ["--backup-keep", "0"],
        ["--backup-every", "x"],
    ] {
        assert_eq!(refused(&dir, &words).0, 2);
    }
}
