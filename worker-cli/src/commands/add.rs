//! `add_transaction`: one record, or a file of them. Everything is checked before anything is sent.

use super::Refusal;
use crate::api::types::{Accepted, RecordsRequest, Status};
use crate::client::{ClientError, NodeClient};
use crate::output::{self, Format};
use block_chain_common::limits::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Read, Seek as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Records of one request.
const BATCH: usize = 5_000;
/// Bytes of keys and values of one request: with every byte escaped as `\u0000` still below the 16 MiB of a body.
const BATCH_BYTES: usize = 2 * 1_048_576;
/// How long a full mempool is waited for: four of the default intervals between blocks.
const FULL: Duration = Duration::from_secs(60);
const FULL_LOOK: Duration = Duration::from_millis(200);
/// The longest line: a value of a megabyte, every byte escaped.
const MAX_LINE_BYTES: u64 = 8 * 1_048_576;

/// Records that were checked.
pub(super) struct Prepared {
    source: Source,
    count: u64,
}

enum Source {
    One(String, String),
    /// A copy of the file, or of standard input: what was checked is what is sent.
    File(File),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    key: String,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// Checks what is to be added; nothing is sent.
pub(super) fn prepare(
    key: Option<&str>,
    value: Option<&str>,
    file: Option<&Path>,
) -> anyhow::Result<Prepared> {
    if let (Some(key), Some(value)) = (key, value) {
        check(key.as_bytes(), value.as_bytes()).map_err(|message| Refusal::failed(message, None))?;
        return Ok(Prepared {
            source: Source::One(key.to_owned(), value.to_owned()),
            count: 1,
        });
    }
    let Some(path) = file else {
        return Err(Refusal::failed("neither a record nor a file is given", None).into());
    };
    let unreadable =
        |error: std::io::Error| Refusal::failed(format!("cannot read {}: {error}", path.display()), None);
    let input: Box<dyn Read> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(File::open(path).map_err(unreadable)?)
    };
    let not_kept = |error: std::io::Error| {
        let place = std::env::temp_dir();
        let message = format!("cannot keep a copy in {}: {error}", place.display());
        Refusal::failed(
            message,
            Some("TMPDIR names another folder; nothing of the file was added"),
        )
    };
    let mut spool = BufWriter::new(tempfile::tempfile().map_err(not_kept)?);
    let mut count = 0;
    let mut reader = Lines::new(input, MAX_LINE_BYTES);
    while let Some(line) = reader.next_line().map_err(unreadable)? {
        let number = reader.number;
        parse(&line).map_err(|message| {
            Refusal::failed(
                format!("line {number}: {message}"),
                Some("nothing of the file was added"),
            )
        })?;
        spool.write_all(&line).map_err(not_kept)?;
        spool.write_all(b"\n").map_err(not_kept)?;
        count += 1;
    }
    let mut spool = spool.into_inner().map_err(|error| not_kept(error.into_error()))?;
    if count == 0 {
        return Err(Refusal::failed(format!("{} holds no records", path.display()), None).into());
    }
    spool.rewind()?;
    Ok(Prepared {
        source: Source::File(spool),
        count,
    })
}

/// Sends what was checked.
pub(super) async fn run(node: &NodeClient, prepared: Prepared, format: Format) -> anyhow::Result<ExitCode> {
    let mut answer = Accepted {
        transaction_ids: Vec::new(),
        count: 0,
        known: 0,
        status: Status::Pending,
    };
    match prepared.source {
        Source::One(key, value) => add(node, vec![(key, value)], &mut answer).await?,
        Source::File(spool) => {
            let bar = output::bar(prepared.count, "{wide_bar} {pos}/{len} records, {per_sec}");
            let mut reader = Lines::new(spool, MAX_LINE_BYTES);
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some(line) = reader.next_line()? {
                let (key, value) = parse(&line).map_err(|message| Refusal::failed(message, None))?;
                let more = key.len() + value.len();
                if batch.len() >= BATCH || bytes + more > BATCH_BYTES {
                    add(node, std::mem::take(&mut batch), &mut answer).await?;
                    bar.set_position(u64::try_from(answer.count).unwrap_or(u64::MAX));
                    bytes = 0;
                }
                bytes += more;
                batch.push((key, value));
            }
            if !batch.is_empty() {
                add(node, batch, &mut answer).await?;
            }
            bar.finish_and_clear();
        }
    }
    if format == Format::Json {
        output::json(&answer)?;
    } else {
        match answer.transaction_ids.as_slice() {
            [id] => output::line(&format!("pending: {id}"))?,
            [first, .., last] => {
                output::line(&format!(
                    "{} transactions are pending, from {first} to {last}",
                    answer.count
                ))?;
            }
            [] => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn add(node: &NodeClient, records: Vec<(String, String)>, answer: &mut Accepted) -> anyhow::Result<()> {
    let before = answer.count;
    let request = RecordsRequest { records };
    let accepted = when_there_is_room(|| node.post("/v1/records", &request)).await;
    let accepted: Result<Accepted, ClientError> = accepted;
    let accepted = accepted.map_err(|error| {
        let error = anyhow::Error::new(error);
        if before > 0 {
            error.context(format!("after {before} records were added"))
        } else {
            error
        }
    })?;
    answer.count += accepted.count;
    answer.known += accepted.known;
    answer.transaction_ids.extend(accepted.transaction_ids);
    Ok(())
}

/// As much may wait as the mempool holds; a file may have more, and goes on as blocks are made.
pub(super) async fn when_there_is_room<T, F>(send: impl Fn() -> F) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let started = Instant::now();
    let mut told = false;
    loop {
        match send().await {
            Err(ClientError::Refused(error)) if is_full(&error.message) && started.elapsed() < FULL => {
                if !told {
                    output::note("as much waits as is allowed: going on when a block is made");
                    told = true;
                }
                tokio::time::sleep(FULL_LOOK).await;
            }
            answered => return answered,
        }
    }
}

/// MEM-5 and MEM-6: room comes with the next block.
fn is_full(message: &str) -> bool {
    message.contains("MEM-5:") || message.contains("MEM-6:")
}

/// The lines of a file, which are not empty and of bounded length.
pub(super) struct Lines<R> {
    input: BufReader<R>,
    longest: u64,
    /// That of the last line.
    pub(super) number: u64,
}

impl<R: Read> Lines<R> {
    /// Of lines of at most `longest` bytes.
    pub(super) fn new(input: R, longest: u64) -> Self {
        Self {
            input: BufReader::new(input),
            longest,
            number: 0,
        }
    }

    /// The next line that is not empty.
    pub(super) fn next_line(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            let mut line = Vec::new();
            if (&mut self.input)
                .take(self.longest)
                .read_until(b'\n', &mut line)?
                == 0
            {
                return Ok(None);
            }
            self.number += 1;
            if u64::try_from(line.len()).is_ok_and(|length| length == self.longest) && !line.ends_with(b"\n")
            {
                let message = format!("line {} has more than {} bytes", self.number, self.longest);
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, message));
            }
            while line.last().is_some_and(u8::is_ascii_whitespace) {
                line.pop();
            }
            if !line.is_empty() {
                return Ok(Some(line));
            }
        }
    }
}

fn parse(line: &[u8]) -> Result<(String, String), String> {
    let Line { key, value } = serde_json::from_slice(line)
        .map_err(|error| format!("it is not {{\"key\":…,\"value\":…}}: {error}").replace(" at line 1", ""))?;
    let value = text_of(value)?;
    check(key.as_bytes(), value.as_bytes())?;
    Ok((key, value))
}

/// A string is taken as it is; any other JSON is kept byte for byte.
pub(super) fn text_of(value: &RawValue) -> Result<String, String> {
    let raw = value.get();
    if !raw.starts_with('"') {
        return Ok(raw.to_owned());
    }
    let text = serde_json::from_str::<String>(raw);
    text.map_err(|error| format!("its value is no text: {error}").replace(" at line 1", ""))
}

/// The limits of a record.
pub(super) fn check(key: &[u8], value: &[u8]) -> Result<(), String> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(format!(
            "the key has {} bytes, 1 to {MAX_KEY_BYTES} are allowed",
            key.len()
        ));
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(format!(
            "the value has {} bytes, at most {MAX_VALUE_BYTES} are allowed",
            value.len()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_strings_or_any_json_kept_as_it_is() {
        let table = [
            (r#"{"key":"a","value":"1"}"#, Ok(("a", "1"))),
            (
                r#"{"key":"a","value":{"b": [1,  2]}}"#,
                Ok(("a", r#"{"b": [1,  2]}"#)),
            ),
            (r#"{"value":12.50,"key":"a"}"#, Ok(("a", "12.50"))),
            (
                r#"{"key":"\u00e7\u0000","value":"a\n\"\\"}"#,
                Ok(("ç\0", "a\n\"\\")),
            ),
            (r#"{"key":"a","value":null}"#, Ok(("a", "null"))),
            (r#" { "key" : "a" , "value" : [ 1 ] } "#, Ok(("a", "[ 1 ]"))),
            (
                r#"{"key":"a","value":123456789012345678901234567890.10e5}"#,
                Ok(("a", "123456789012345678901234567890.10e5")),
            ),
            (r#"{"key":1,"value":"1"}"#, Err("expected a string")),
            (r#"{"key":"a","key":"b","value":"1"}"#, Err("duplicate field")),
            (r#"{"key":"a","value":"1"} x"#, Err("trailing characters")),
            (
                r#"{"key":"a","value":"\ud800"}"#,
                Err("its value is no text: unexpected end of hex escape column 8"),
            ),
            (r#"{"key":"","value":"1"}"#, Err("0 bytes")),
            (r#"{"key":"a"}"#, Err("missing field")),
            (r#"{"key":"a","value":"1","more":2}"#, Err("unknown field")),
            ("not json", Err("it is not")),
        ];
        for (line, expected) in table {
            match (parse(line.as_bytes()), expected) {
                (Ok((key, value)), Ok(expected)) => assert_eq!((key.as_str(), value.as_str()), expected),
                (Err(message), Err(part)) => assert!(message.contains(part), "{line}: {message}"),
                (other, _) => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_broken_line_is_named_and_nothing_is_taken() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"{\"key\":\"a\",\"value\":\"1\"}\n\nnot json\n")
            .unwrap();
        let error = prepare(None, None, Some(file.path())).err().unwrap().to_string();
        assert!(error.starts_with("line 3:"), "{error}");
    }

    #[test]
    fn limits_are_named_with_their_neighbour_taken() {
        let line = |key: usize, value: usize| {
            format!(
                r#"{{"key":"{}","value":"{}"}}"#,
                "k".repeat(key),
                "v".repeat(value)
            )
        };
        assert!(parse(line(MAX_KEY_BYTES, MAX_VALUE_BYTES).as_bytes()).is_ok());
        let error = parse(line(MAX_KEY_BYTES + 1, 1).as_bytes()).unwrap_err();
        assert!(error.contains("1025 bytes, 1 to 1024"), "{error}");
        let error = parse(line(1, MAX_VALUE_BYTES + 1).as_bytes()).unwrap_err();
        assert!(error.contains("1048577 bytes, at most 1048576"), "{error}");
        assert!(parse(b"{\"key\":\"\xff\",\"value\":\"1\"}").is_err());
    }

    #[test]
    fn files_without_records_or_with_endless_lines_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("records");
        let refused = |path: &Path| prepare(None, None, Some(path)).err().unwrap().to_string();
        assert!(refused(&file).contains("cannot read"));
        assert!(refused(dir.path()).contains("cannot read"));
        std::fs::write(&file, "\n\r\n  \n").unwrap();
        assert!(refused(&file).contains("holds no records"));
        let long = usize::try_from(MAX_LINE_BYTES).unwrap() + 1;
        std::fs::write(&file, "x".repeat(long)).unwrap();
        let error = refused(&file);
        assert!(error.contains("line 1 has more than 8388608 bytes"), "{error}");
    }

    #[test]
    fn what_was_checked_is_what_is_sent() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"{\"key\":\"a\",\"value\":{\"b\": 1}}\r\n{\"key\":\"c\",\"value\":\"2\"}")
            .unwrap();
        let prepared = prepare(None, None, Some(file.path())).unwrap();
        file.as_file().set_len(0).unwrap();
        let Source::File(mut spool) = prepared.source else {
            panic!("a file is spooled");
        };
        let mut text = String::new();
        spool.read_to_string(&mut text).unwrap();
        assert_eq!(prepared.count, 2);
        assert_eq!(
            text,
            "{\"key\":\"a\",\"value\":{\"b\": 1}}\n{\"key\":\"c\",\"value\":\"2\"}\n"
        );
    }
}
