//! Reading a file of records: NDJSON, blocks that `export` wrote, CSV. All of it is checked before any of it is used, and a
//! copy is kept, so that what was checked is what is sent.

use super::super::add::{Lines, check, text_of};
use super::{Record, Refusal};
use crate::cli::ImportFormat;
use block_chain_common::hash::Digest;
use block_chain_common::limits::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use block_chain_common::transaction::{RecordKey, RecordValue};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::rc::Rc;

/// The longest line: a block of 8 MiB, every byte escaped.
const MAX_LINE_BYTES: u64 = 64 * 1_048_576;
/// The longest record of CSV, quotes and all: a value of a megabyte, every byte of it a doubled quote, and the key.
const MAX_RECORD_BYTES: usize = 2 * (MAX_VALUE_BYTES + MAX_KEY_BYTES);

/// Which columns of CSV are the record.
pub(super) struct Columns {
    /// The key's.
    pub(super) key: String,
    /// The value's, where it is named.
    pub(super) value: Option<String>,
}

/// Records that were checked, in a file of their own: lengths of key and value (u32, little-endian), then both.
pub(super) struct Spool {
    reader: BufReader<File>,
    /// How many.
    pub(super) count: u64,
    /// SHA-256 of the spool: of the records, however they were written.
    pub(super) digest: Digest,
}

struct Writer {
    file: BufWriter<File>,
    hash: Sha256,
    count: u64,
}

/// Reads and checks a whole file.
///
/// # Errors
/// The first line that is no record.
pub(super) fn read(path: &Path, format: ImportFormat, columns: &Columns) -> anyhow::Result<Spool> {
    let unreadable =
        |error: std::io::Error| Refusal::failed(format!("cannot read {}: {error}", path.display()), None);
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(unreadable)?)
    };
    let spool = tempfile::tempfile().map_err(|error| not_kept(&error))?;
    let mut writer = Writer {
        file: BufWriter::new(spool),
        hash: Sha256::new(),
        count: 0,
    };
    match format {
        ImportFormat::Ndjson => ndjson(input, &mut writer, unreadable)?,
        ImportFormat::Csv => csv(input, columns, &mut writer)?,
    }
    if writer.count == 0 {
        return Err(Refusal::failed(format!("{} holds no records", path.display()), None).into());
    }
    let mut file = writer
        .file
        .into_inner()
        .map_err(|error| not_kept(error.error()))?;
    file.rewind()?;
    Ok(Spool {
        reader: BufReader::new(file),
        count: writer.count,
        digest: Digest::from_bytes(writer.hash.finalize().into()),
    })
}

fn not_kept(error: &std::io::Error) -> Refusal {
    let message = format!(
        "cannot keep a copy in {}: {error}",
        std::env::temp_dir().display()
    );
    Refusal::failed(
        message,
        Some("TMPDIR names another folder; nothing of the file was imported"),
    )
}

fn at_line(number: u64, message: &str) -> Refusal {
    Refusal::failed(
        format!("line {number}: {message}"),
        Some("nothing of the file was imported"),
    )
}

impl Writer {
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<(), String> {
        check(key, value)?;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        for part in [&length(key)[..], &length(value), key, value] {
            self.hash.update(part);
            self.file
                .write_all(part)
                .map_err(|error| format!("cannot keep a copy: {error}"))?;
        }
        self.count += 1;
        Ok(())
    }
}

/// A line of NDJSON: a record, in text or hex.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    key_hex: Option<String>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    value_hex: Option<String>,
}

/// A line that `export` wrote: of a block its records are taken.
#[derive(Deserialize)]
struct Block<'a> {
    #[serde(borrow)]
    transactions: Vec<Exported<'a>>,
}

/// A transaction of a block; of all but records the fields that are not named here.
#[derive(Deserialize)]
struct Exported<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    key_hex: Option<String>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    value_hex: Option<String>,
}

fn ndjson(
    input: Box<dyn Read>,
    writer: &mut Writer,
    unreadable: impl Fn(std::io::Error) -> Refusal,
) -> anyhow::Result<()> {
    let mut lines = Lines::new(input, MAX_LINE_BYTES);
    while let Some(line) = lines.next_line().map_err(&unreadable)? {
        take_line(&line, writer).map_err(|message| at_line(lines.number, &message))?;
    }
    Ok(())
}

fn take_line(line: &[u8], writer: &mut Writer) -> Result<(), String> {
    let reason = match serde_json::from_slice::<Line<'_>>(line) {
        Ok(found) => {
            return take_put((found.key, found.key_hex), (found.value, found.value_hex), writer);
        }
        Err(error) => error.to_string().replace(" at line 1", ""),
    };
    let Ok(block) = serde_json::from_slice::<Block<'_>>(line) else {
        return Err(format!("it is not {{\"key\":…,\"value\":…}}: {reason}"));
    };
    for found in block.transactions.into_iter().filter(|found| found.kind == "put") {
        take_put((found.key, found.key_hex), (found.value, found.value_hex), writer)?;
    }
    Ok(())
}

type Told<'a> = (Option<&'a RawValue>, Option<String>);

fn take_put(
    key: (Option<String>, Option<String>),
    value: Told<'_>,
    writer: &mut Writer,
) -> Result<(), String> {
    let hex =
        |what: &str, text: String| hex::decode(text).map_err(|error| format!("its {what}_hex: {error}"));
    let key = match key {
        (Some(key), None) => key.into_bytes(),
        (None, Some(text)) => hex("key", text)?,
        (None, None) => return Err("it has no key".to_owned()),
        (Some(_), Some(_)) => return Err("it has two keys".to_owned()),
    };
    let value = match value {
        (Some(raw), None) => text_of(raw)?.into_bytes(),
        (None, Some(text)) => hex("value", text)?,
        (None, None) => return Err("it has no value".to_owned()),
        (Some(_), Some(_)) => return Err("it has two values".to_owned()),
    };
    writer.add(&key, &value)
}

/// What CSV is read from: its reader takes a record of any length into memory, such as one whose quote is never closed.
struct Bounded {
    input: Box<dyn Read>,
    /// Bytes read since the last record was whole.
    since_record: Rc<Cell<usize>>,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.since_record.get() > MAX_RECORD_BYTES {
            let message = format!("a record has more than {MAX_RECORD_BYTES} bytes");
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
        }
        let read = self.input.read(buffer)?;
        self.since_record
            .set(self.since_record.get().saturating_add(read));
        Ok(read)
    }
}

fn csv(input: Box<dyn Read>, columns: &Columns, writer: &mut Writer) -> anyhow::Result<()> {
    let since_record = Rc::new(Cell::new(0));
    let bounded = Bounded {
        input,
        since_record: Rc::clone(&since_record),
    };
    let mut reader = csv::ReaderBuilder::new().from_reader(bounded);
    let unreadable = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        at_line(line, &error.to_string())
    };
    let header = reader.headers().map_err(unreadable)?.clone();
    let names = || header.iter().collect::<Vec<_>>().join(", ");
    let place = |name: &str| header.iter().position(|column| column == name);
    let missing = |name: &str| {
        let message = format!("there is no column {name:?}; the columns are {}", names());
        Refusal::failed(message, Some("--key-column and --value-column name them"))
    };
    let key = place(&columns.key).ok_or_else(|| missing(&columns.key))?;
    let value = match &columns.value {
        Some(name) => Some(place(name).ok_or_else(|| missing(name))?),
        None => place("value"),
    };
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(unreadable)? {
        since_record.set(0);
        let line = record.position().map_or(0, csv::Position::line);
        let field = |place: usize| record.get(place).unwrap_or_default();
        let text = match value {
            Some(value) => field(value).to_owned(),
            None => object(&header, &record, key),
        };
        let added = writer.add(field(key).as_bytes(), text.as_bytes());
        added.map_err(|message| at_line(line, &message))?;
    }
    Ok(())
}

/// All columns but the key's, as a JSON object of texts.
fn object(header: &csv::StringRecord, record: &csv::StringRecord, key: usize) -> String {
    let fields = header.iter().zip(record).enumerate();
    let fields: serde_json::Map<String, serde_json::Value> = fields
        .filter(|(place, _)| *place != key)
        .map(|(_, (name, text))| (name.to_owned(), text.into()))
        .collect();
    serde_json::Value::Object(fields).to_string()
}

impl Spool {
    /// The same records from a place on.
    pub(super) fn clone_from(&self, skipped: u64) -> std::io::Result<Self> {
        let mut file = self.reader.get_ref().try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        let mut spool = Self {
            reader: BufReader::new(file),
            count: self.count,
            digest: self.digest,
        };
        for _ in 0..skipped {
            let (key, value) = spool.lengths()?;
            spool.reader.seek_relative(i64::from(key) + i64::from(value))?;
        }
        Ok(spool)
    }

    fn lengths(&mut self) -> std::io::Result<(u32, u32)> {
        let mut lengths = [[0; 4]; 2];
        for length in &mut lengths {
            self.reader.read_exact(length)?;
        }
        let [key, value] = lengths.map(u32::from_le_bytes);
        Ok((key, value))
    }

    /// The next records: at most so many, and bytes, but one at least where there is one.
    pub(super) fn take(&mut self, count: usize, bytes: usize) -> anyhow::Result<Vec<Record>> {
        let (mut records, mut taken) = (Vec::new(), 0);
        while records.len() < count && taken < bytes {
            if self.reader.fill_buf()?.is_empty() {
                break;
            }
            let (key, value) = self.lengths()?;
            let mut read = |length: u32| {
                let mut part = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
                self.reader.read_exact(&mut part).map(|()| part)
            };
            let (key, value) = (read(key)?, read(value)?);
            taken += key.len() + value.len();
            records.push((RecordKey::new(key)?, RecordValue::new(value)?));
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str, name: &str, value: Option<&str>) -> anyhow::Result<Vec<(String, String)>> {
        let dir = tempfile::tempdir()?;
        let path = dir.path().join(name);
        std::fs::write(&path, text)?;
        let format = match name.ends_with("csv") {
            true => ImportFormat::Csv,
            false => ImportFormat::Ndjson,
        };
        let columns = Columns {
            key: "key".to_owned(),
            value: value.map(str::to_owned),
        };
        let mut spool = read(&path, format, &columns)?;
        let records = spool.take(usize::MAX, usize::MAX)?;
        assert_eq!(u64::try_from(records.len())?, spool.count);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(records
            .iter()
            .map(|(key, value)| (text(key.as_slice()), text(value.as_slice())))
            .collect())
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    #[test]
    fn records_and_exported_blocks_are_read() {
        let text = "{\"key\":\"a\",\"value\":{\"b\": 1}}\r\n\n{\"key_hex\":\"62\",\"value_hex\":\"63\"}\n\
            {\"index\":1,\"transactions\":[{\"id\":\"x\",\"type\":\"put\",\"key\":\"k\",\"value\":\"v\"},{\"type\":\"transfer\",\"amount\":1}]}\n";
        let expected = pairs(&[("a", "{\"b\": 1}"), ("b", "c"), ("k", "v")]);
        assert_eq!(read_text(text, "f.ndjson", None).unwrap(), expected);
    }

    #[test]
    fn of_csv_a_column_or_all_of_them_are_the_value() {
        let one = "key,value\na,1\n\"b,\"\"c\",\"line\nbreak\"\n";
        let expected = pairs(&[("a", "1"), ("b,\"c", "line\nbreak")]);
        assert_eq!(read_text(one, "f.csv", None).unwrap(), expected);
        let all = "name,key,city\nAda,7,London\n";
        let expected = pairs(&[("7", "{\"city\":\"London\",\"name\":\"Ada\"}")]);
        let found = read_text(all, "f.csv", None).unwrap();
        assert_eq!(found.len(), 1);
        let parse = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(parse(&found[0].1), parse(&expected[0].1));
        assert_eq!(
            read_text(all, "f.csv", Some("city")).unwrap(),
            pairs(&[("7", "London")])
        );
    }

    #[test]
    fn what_is_no_record_is_named_by_its_line() {
        let table = [
            (
                "f.ndjson",
                "{\"key\":\"a\",\"value\":\"1\"}\nnot json\n",
                "line 2: it is not",
            ),
            ("f.ndjson", "{\"key\":\"a\"}\n", "line 1: it has no value"),
            ("f.ndjson", "{\"value\":1}\n", "line 1: it has no key"),
            (
                "f.ndjson",
                "{\"key\":\"\",\"value\":1}\n",
                "line 1: the key has 0 bytes",
            ),
            (
                "f.ndjson",
                "{\"key_hex\":\"zz\",\"value\":1}\n",
                "line 1: its key_hex",
            ),
            ("f.ndjson", "\n\n", "holds no records"),
            ("f.csv", "key,value\na,1\nb\n", "line 3:"),
            (
                "f.csv",
                "name,value\na,1\n",
                "there is no column \"key\"; the columns are name, value",
            ),
            ("f.csv", "key,value\n,1\n", "line 2: the key has 0 bytes"),
        ];
        for (name, text, part) in table {
            let error = read_text(text, name, None).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_quote_that_is_never_closed_fills_no_memory() {
        let text = format!("key,value\na,1\nb,\"{}", "x".repeat(4 * MAX_RECORD_BYTES));
        let error = read_text(&text, "f.csv", None).unwrap_err().to_string();
        assert!(error.contains("more than 2099200 bytes"), "{error}");
        // As many records as one likes, and the largest value.
        let largest = "\"\"".repeat(MAX_VALUE_BYTES);
        let text = format!("key,value\na,\"{largest}\"\nb,\"{largest}\"\nc,1\n");
        assert_eq!(read_text(&text, "f.csv", None).unwrap().len(), 3);
    }

    #[test]
    fn a_spool_goes_on_from_any_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let lines: String = (0..50)
            .map(|n| format!("{{\"key\":\"k{n}\",\"value\":\"{n}\"}}\n"))
            .collect();
        std::fs::write(&path, lines).unwrap();
        let columns = Columns {
            key: String::new(),
            value: None,
        };
        let spool = read(&path, ImportFormat::Ndjson, &columns).unwrap();
        for skipped in [0_u64, 1, 49, 50] {
            let mut rest = spool.clone_from(skipped).unwrap();
            let records = rest.take(7, usize::MAX).unwrap();
            assert_eq!(records.len(), usize::try_from(50 - skipped).unwrap().min(7));
            if let Some((key, _)) = records.first() {
                assert_eq!(key.as_slice(), format!("k{skipped}").as_bytes());
            }
        }
        // A value of any length is taken, one at a time.
        let mut one = spool.clone_from(0).unwrap();
        assert_eq!(one.take(7, 1).unwrap().len(), 1);
    }
}
