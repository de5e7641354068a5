//! A private PostgreSQL cluster in a temporary folder, on a free port, gone with its value.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    user: Option<String>,
    port: u16,
    databases: AtomicU32,
}

/// The password of the user `ledger`, who must give it.
pub(crate) const PASSWORD: &str = "secret-word";

impl Cluster {
    /// One that takes everybody on this machine.
    pub(crate) fn start() -> Self {
        Self::start_with(
            "host all tester 127.0.0.1/32 trust\nhost all ledger 127.0.0.1/32 scram-sha-256",
            None,
        )
    }

    /// One with rules of its own for connections over TCP, and with TLS where it has a certificate and its key.
    pub(crate) fn start_with(rules: &str, certificate: Option<&[String; 2]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let user = unprivileged(folder.path());
        let mut this = Self {
            folder,
            user,
            port: 0,
            databases: AtomicU32::new(0),
        };
        this.run(
            "initdb",
            &["-A", "trust", "-U", "tester", "--no-sync", "-E", "UTF8"],
        )
        .expect("initdb works");
        this.write("data/pg_hba.conf", &format!("local all all trust\n{rules}\n"));
        if let Some([certificate, key]) = certificate {
            this.write("data/server.crt", certificate);
            this.write("data/server.key", key);
            this.write("data/postgresql.auto.conf", "ssl = on\n");
        }
        // Another program may take the port between the look and the start.
        let started = (0..5).any(|_| {
            this.port = free_port();
            this.start_server().is_ok()
        });
        assert!(started, "the cluster starts");
        this.sql(
            "postgres",
            &format!("CREATE ROLE ledger SUPERUSER LOGIN PASSWORD '{PASSWORD}'"),
        );
        this
    }

    /// The URL of a new, empty database.
    pub(crate) fn new_database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test{number}");
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        format!("postgresql://tester@127.0.0.1:{}/{name}", self.port)
    }

    /// Where it listens, on 127.0.0.1.
    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// What a statement gives, by its socket, whoever may connect over TCP.
    pub(crate) fn sql(&self, database: &str, statement: &str) -> String {
        let (folder, port) = (self.folder.path().to_str().unwrap(), self.port.to_string());
        let arguments = [
            "-h", folder, "-p", &port, "-U", "tester", "-XAtqc", statement, database,
        ];
        let done = self.command("psql").args(arguments).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim_end().to_owned()
    }

    /// Stops and starts it, as a maintainer would; every connection breaks.
    pub(crate) fn restart(&self) {
        self.run("pg_ctl", &["-m", "fast", "-w", "stop"]).unwrap();
        self.start_server().unwrap();
    }

    fn start_server(&self) -> Result<(), String> {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off",
            self.port,
            self.folder.path().display()
        );
        let log = self.folder.path().join("log");
        self.run(
            "pg_ctl",
            &["-w", "-l", log.to_str().unwrap(), "-o", &options, "start"],
        )
    }

    /// Writes a file that the server may read, and nobody else.
    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some(user) = &self.user {
            let owned = Command::new("chown").arg(user).arg(&path).output().unwrap();
            assert!(owned.status.success());
        }
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), String> {
        let data = self.folder.path().join("data");
        let output: Output = self
            .command(program)
            .arg("-D")
            .arg(data)
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn command(&self, program: &str) -> Command {
        let program = find(program);
        let mut command = match &self.user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.current_dir(self.folder.path()).env("LC_ALL", "C");
        command
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.run("pg_ctl", &["-m", "immediate", "-w", "stop"]) {
            eprintln!("the cluster does not stop: {error}");
        }
    }
}

/// PostgreSQL does not run as root: then the user who may, and who owns the folder.
fn unprivileged(folder: &Path) -> Option<String> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    let id = Command::new("id").arg("-u").output().unwrap();
    if id.stdout.trim_ascii() != b"0" {
        return None;
    }
    let takes = |user: &&str| {
        let owned = Command::new("chown").arg(user).arg(folder).output().unwrap();
        owned.status.success()
    };
    let user = ["postgres", "nobody"].into_iter().find(takes);
    Some(user.expect("a user without privileges").to_owned())
}

fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let versions = installed.map(|entry| entry.unwrap().path().join("bin"));
    std::env::split_paths(&path)
        .chain(versions)
        .map(|folder| folder.join(program))
        .find(|file| file.exists())
        .unwrap_or_else(|| panic!("PostgreSQL's {program} is needed for the tests: make test installs it"))
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}
