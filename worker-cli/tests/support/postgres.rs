//! A private PostgreSQL cluster: its own folder and port, gone when it is dropped.
//!
//! The programs come from `PATH` or Debian's folder. They refuse to run as root, so root runs them as another user.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The password of the user `ledger`.
pub(crate) const PASSWORD: &str = "secret-word";

/// A cluster that runs.
pub(crate) struct Postgres {
    dir: tempfile::TempDir,
    bin: PathBuf,
    user: Option<&'static str>,
    /// Where it listens, on 127.0.0.1.
    pub(crate) port: u16,
}

impl Postgres {
    /// Makes and starts one. `initdb` gets `encoding`; `hba` replaces who may connect over TCP; `settings` go to the server.
    pub(crate) fn start_with(encoding: &str, hba: Option<&str>, settings: &[&str]) -> Self {
        let bin = programs();
        let dir = tempfile::Builder::new().prefix("pg").tempdir().expect("a folder");
        let user = unprivileged_user();
        if let Some(user) = user {
            use std::os::unix::fs::PermissionsExt as _;
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
            run(Command::new("chown").arg(user).arg(dir.path()));
        }
        let mut cluster = Self {
            dir,
            bin,
            user,
            port: 0,
        };
        let password = cluster.write("password", PASSWORD);
        let data = cluster.data();
        let words = [
            "-U",
            "ledger",
            "-A",
            "scram-sha-256",
            "--no-sync",
            "--locale",
            "C",
            "-E",
            encoding,
        ];
        run(cluster
            .program("initdb")
            .args(words)
            .arg("--pwfile")
            .arg(password)
            .arg("-D")
            .arg(&data));
        if let Some(hba) = hba {
            let path = cluster.write("pg_hba.conf", &format!("local all all scram-sha-256\n{hba}\n"));
            cluster.append_setting(&format!("hba_file = '{}'", path.display()));
        }
        for setting in [
            "fsync = off",
            "full_page_writes = off",
            "max_connections = 20",
            "shared_buffers = 64MB",
        ] {
            cluster.append_setting(setting);
        }
        for setting in settings {
            cluster.append_setting(setting);
        }
        // Between finding a free port and taking it another may take it.
        let started = (0..5).any(|_| {
            cluster.port = free_port();
            cluster.try_start()
        });
        let log = || fs::read_to_string(cluster.dir.path().join("log")).unwrap_or_default();
        assert!(started, "the cluster does not start: {}", log());
        cluster
    }

    /// A cluster as most are.
    pub(crate) fn start() -> Self {
        Self::start_with("UTF8", None, &[])
    }

    /// A URL of the user `ledger`'s.
    pub(crate) fn url(&self) -> String {
        format!("postgresql://ledger:{PASSWORD}@127.0.0.1:{}/postgres", self.port)
    }

    /// The folder of its socket.
    pub(crate) fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it again after [`Self::stop`], on the same port.
    pub(crate) fn start_again(&self) {
        assert!(self.try_start(), "the cluster does not start again");
    }

    /// Stops it as a crash does: no checkpoint, connections cut.
    pub(crate) fn stop(&self) {
        run(self
            .program("pg_ctl")
            .arg("-D")
            .arg(self.data())
            .args(["-m", "immediate", "-w", "stop"]));
    }

    /// What `psql` prints for a statement, cells separated by `|`.
    pub(crate) fn query(&self, sql: &str) -> String {
        self.psql(&self.url(), sql)
    }

    /// The same through its socket, whoever may connect over TCP.
    pub(crate) fn query_locally(&self, sql: &str) -> String {
        let url = format!(
            "postgresql://ledger:{PASSWORD}@/postgres?host={}&port={}",
            self.dir.path().display(),
            self.port
        );
        self.psql(&url, sql)
    }

    fn psql(&self, url: &str, sql: &str) -> String {
        let words = ["-XAtq", "-v", "ON_ERROR_STOP=1", url, "-c", sql];
        let output = run(Command::new(self.bin.join("psql")).args(words));
        String::from_utf8(output.stdout)
            .expect("text")
            .trim_end()
            .to_owned()
    }

    /// Writes a file that the server may read.
    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.path().join(name);
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
        if let Some(user) = self.user {
            run(Command::new("chown").arg(user).arg(&path));
        }
        path
    }

    fn try_start(&self) -> bool {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -k {}",
            self.port,
            self.dir.path().display()
        );
        let log = self.dir.path().join("log");
        let mut start = self.program("pg_ctl");
        start
            .arg("-D")
            .arg(self.data())
            .arg("-w")
            .arg("-l")
            .arg(log)
            .arg("-o")
            .arg(options)
            .arg("start");
        start
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("pg_ctl runs")
            .success()
    }

    fn append_setting(&self, line: &str) {
        use std::io::Write as _;
        let path = self.data().join("postgresql.conf");
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(path)
            .expect("the settings");
        writeln!(file, "{line}").expect("the settings");
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn program(&self, name: &str) -> Command {
        let path = self.bin.join(name);
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(path);
                command
            }
            None => Command::new(path),
        };
        command.current_dir("/");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut stop = self.program("pg_ctl");
        stop.arg("-D")
            .arg(self.data())
            .args(["-m", "immediate", "-w", "stop"]);
        // It may have been stopped already.
        drop(stop.output());
    }
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the program is there");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let from_path = std::env::split_paths(&path)
        .filter_map(|dir| Some(fs::canonicalize(dir.join("initdb")).ok()?.parent()?.to_owned()));
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let debian = versions.map(|entry| entry.path().join("bin"));
    let mut found = from_path.chain(debian).filter(|bin| bin.join("pg_ctl").exists());
    found
        .next()
        .expect("PostgreSQL is installed: apt-get install postgresql")
}

fn unprivileged_user() -> Option<&'static str> {
    use std::os::unix::fs::MetadataExt as _;
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let has_own = users.lines().any(|line| line.starts_with("postgres:"));
    is_root.then_some(if has_own { "postgres" } else { "nobody" })
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}
