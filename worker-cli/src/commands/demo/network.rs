//! The demo's processes: started on free ports in one temporary folder, and stopped at the end.

use super::stopping::{self, Stop};
use crate::commands::Refusal;
use crate::output;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const LOOK: Duration = Duration::from_millis(50);
const START: Duration = Duration::from_secs(15);

pub(super) struct Network {
    root: PathBuf,
    keep: bool,
    /// Whether all was shown: what failed half way is not left running.
    complete: bool,
    server: Option<Child>,
    url: String,
    workers: Vec<String>,
    database: Option<Database>,
}

fn interrupted() -> anyhow::Error {
    failed("interrupted; everything was stopped")
}

fn failed(message: impl Into<String>) -> anyhow::Error {
    Refusal::failed(message, None).into()
}

impl Network {
    pub(super) fn new(keep: bool) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new()
            .prefix("block-chain-demo-")
            .tempdir()?
            .keep();
        // PostgreSQL, which runs as another user, must pass through.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
        Ok(Self {
            root,
            keep,
            complete: false,
            server: None,
            url: String::new(),
            workers: Vec::new(),
            database: None,
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn start_server(&mut self) -> anyhow::Result<()> {
        let program = std::env::current_exe()?.with_file_name("block-chain-server");
        if !program.exists() {
            return Err(failed(format!(
                "{} is not there: build it, or install both programs",
                program.display()
            )));
        }
        let dir = self.root.join("server");
        fs::create_dir_all(&dir)?;
        let log = File::create(dir.join("server.log"))?;
        let mut command = Command::new(program);
        // Blocks on demand only: the leader would else have mined the records before the story comes to it.
        command
            .args(["--bind", "127.0.0.1:0", "--block-interval-ms", "0", "--data-dir"])
            .arg(&dir);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C on the terminal is for the demo, which stops everything in order.
        command.process_group(0);
        let child = stopping::start(|| {
            command.spawn().map(|child| {
                let pid = child.id();
                (child, Stop::Process(pid))
            })
        });
        self.server = Some(child.ok_or_else(interrupted)??);
        let deadline = Instant::now() + START;
        loop {
            let log = fs::read_to_string(dir.join("server.log"))?;
            if let Some(url) = log.lines().find_map(|line| line.strip_prefix("listening on ")) {
                url.clone_into(&mut self.url);
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(failed(format!(
                    "the coordinator does not start: {}",
                    log.lines().last().unwrap_or_default()
                )));
            }
            std::thread::sleep(LOOK);
        }
    }

    pub(super) fn register(&mut self, name: &str) -> anyhow::Result<Value> {
        self.workers.push(name.to_owned());
        let dir = self.root.join(name);
        stopping::start(|| Ok(((), Stop::Node(dir)))).ok_or_else(interrupted)??;
        self.json(name, &["register", "--name", name])
    }

    fn command(&self, worker: &str) -> anyhow::Result<Command> {
        if stopping::is_over() {
            return Err(interrupted());
        }
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["--server", &self.url, "--data-dir"])
            .arg(self.root.join(worker));
        Ok(command)
    }

    /// A command's JSON.
    pub(super) fn json(&self, worker: &str, words: &[&str]) -> anyhow::Result<Value> {
        let output = self
            .command(worker)?
            .arg("--json")
            .args(words)
            .stdin(Stdio::null())
            .output()?;
        read(words, &output)
    }

    pub(super) fn json_with_input(&self, worker: &str, words: &[&str], input: &str) -> anyhow::Result<Value> {
        let mut command = self.command(worker)?;
        command
            .arg("--json")
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // Where it ends early, what it says tells more than the broken pipe.
            if let Err(error) = stdin.write_all(input.as_bytes()) {
                tracing::debug!(%error, "the command has ended");
            }
        }
        read(words, &child.wait_with_output()?)
    }

    /// Runs a command as a user would, with what it prints.
    pub(super) fn show(&self, worker: &str, words: &[&str]) -> anyhow::Result<()> {
        // A URL may hold a password; here it has none, and the user is shown what they would type.
        output::line(&format!("   $ block-chain-worker {}", words.join(" ")))?;
        let status = self.command(worker)?.args(words).stdin(Stdio::null()).status()?;
        if status.success() {
            Ok(())
        } else {
            Err(failed(format!("{} failed", words.first().unwrap_or(&""))))
        }
    }

    pub(super) fn until(
        &self,
        what: &str,
        limit: Duration,
        holds: impl Fn(&Self) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + limit;
        while !holds(self)? {
            if Instant::now() > deadline {
                return Err(failed(format!("waited {} s for {what}", limit.as_secs())));
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    pub(super) fn keep_database(&mut self, database: Database) {
        self.database = Some(database);
    }

    pub(super) fn tell_where(&mut self) -> anyhow::Result<()> {
        self.complete = true;
        if !self.keep {
            return Ok(());
        }
        output::line(&format!(
            "\nEverything goes on running in {}",
            self.root.display()
        ))?;
        output::line(&format!("   coordinator: {}", self.url))?;
        for worker in &self.workers {
            let page = self.json(worker, &["status"])?["api"].clone();
            output::line(&format!(
                "   {worker}: page {}",
                page.as_str().unwrap_or_default()
            ))?;
            output::line(&format!(
                "      block-chain-worker --data-dir {} status",
                self.root.join(worker).display()
            ))?;
        }
        if let Some(database) = &self.database {
            output::line(&format!("   database: psql {}", database.url))?;
        }
        let stop = stopping::commands().join("; ");
        Ok(output::line(&format!("   to stop it: {stop}"))?)
    }

    fn leave(&self) {
        for worker in self.workers.iter().filter(|_| !stopping::is_over()) {
            if let Err(error) = self.json(worker, &["disconnect"]) {
                tracing::debug!(%error, worker, "cannot disconnect");
            }
        }
    }
}

/// However the demo ends, a panic included.
impl Drop for Network {
    fn drop(&mut self) {
        if self.keep && self.complete {
            return;
        }
        self.leave();
        stopping::stop_all();
        if let Some(mut server) = self.server.take()
            && let Err(error) = server.wait()
        {
            tracing::warn!(%error, "the coordinator");
        }
        if let Err(error) = fs::remove_dir_all(&self.root) {
            tracing::debug!(%error, "cannot remove the demo's folder");
        }
    }
}

fn read(words: &[&str], output: &Output) -> anyhow::Result<Value> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!(
            "{}: {}",
            words.first().unwrap_or(&""),
            said.trim()
        )));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// A private cluster in the demo's folder.
pub(super) struct Database {
    pub(super) url: String,
    psql: PathBuf,
}

impl Database {
    /// `None` where PostgreSQL is not installed.
    pub(super) fn start(root: &Path) -> anyhow::Result<Option<Self>> {
        let Some(bin) = programs() else { return Ok(None) };
        let dir = root.join("postgres");
        fs::create_dir_all(&dir)?;
        let user = other_user()?;
        if let Some(user) = &user {
            checked(Command::new("chown").arg(user).arg(&dir))?;
        }
        let run = |program: &str, rest: &[&str]| {
            let mut words: Vec<String> = user
                .iter()
                .flat_map(|user| ["runuser", "-u", user, "--"])
                .map(str::to_owned)
                .collect();
            words.push(bin.join(program).display().to_string());
            words.extend(rest.iter().map(|word| (*word).to_owned()));
            let (first, rest) = words.split_first().expect("a program was put into it");
            let mut command = Command::new(first);
            command.args(rest).current_dir("/").stdin(Stdio::null());
            command
        };
        let data = dir.join("data").display().to_string();
        checked(&mut run(
            "initdb",
            &["-D", &data, "-U", "ledger", "-A", "trust", "--no-sync"],
        ))?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {}",
            dir.display()
        );
        let log = dir.join("log").display().to_string();
        let stop = run("pg_ctl", &["-D", &data, "-m", "immediate", "stop"]);
        let words: Vec<String> = std::iter::once(stop.get_program())
            .chain(stop.get_args())
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        stopping::start(|| Ok(((), Stop::Command(words)))).ok_or_else(interrupted)??;
        checked(&mut run(
            "pg_ctl",
            &["-D", &data, "-w", "-l", &log, "-o", &options, "start"],
        ))?;
        Ok(Some(Self {
            url: format!("postgresql://ledger@127.0.0.1:{port}/postgres"),
            psql: bin.join("psql"),
        }))
    }

    pub(super) fn query(&self, sql: &str) -> anyhow::Result<String> {
        let psql = if self.psql.exists() {
            self.psql.clone()
        } else {
            PathBuf::from("psql")
        };
        let output = Command::new(psql)
            .args(["-XAtq", "-F", "  ", &self.url, "-c", sql])
            .output()?;
        if !output.status.success() {
            // The table may not be there yet.
            return Ok(String::new());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

fn checked(command: &mut Command) -> anyhow::Result<()> {
    let output = command.stdout(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    Err(failed(format!(
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// Debian keeps the server's programs out of the path.
fn programs() -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/postgresql").ok();
    let mut folders: Vec<PathBuf> = installed
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("bin"))
        .collect();
    folders.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    folders
        .into_iter()
        .find(|folder| folder.join("initdb").exists() && folder.join("pg_ctl").exists())
}

/// PostgreSQL refuses to run as root.
fn other_user() -> anyhow::Result<Option<String>> {
    let id = Command::new("id").arg("-u").output()?;
    if String::from_utf8_lossy(&id.stdout).trim() != "0" {
        return Ok(None);
    }
    let known = Command::new("id")
        .arg("postgres")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    Ok(Some(
        if known.success() { "postgres" } else { "nobody" }.to_owned(),
    ))
}
