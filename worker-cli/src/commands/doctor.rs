//! `doctor`: looks for what is wrong, and says of each finding what mends it. It changes and starts nothing.

use crate::api::types::{ChainList, DumpStatus, NodeStatus, PeersView};
use crate::cli::Global;
use crate::client::{NodeClient, has_ended, running_api, servers};
use crate::coordinator::CoordinatorClient;
use crate::flags::NodeFlags;
use crate::identity::{WorkerFile, load_key};
use crate::node::clock;
use crate::output::{self, Format, list};
use serde::Serialize;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

/// With less room than this a node soon writes no more: a few of the largest blocks, and what merging tables takes.
const LITTLE_ROOM: u64 = 1 << 30;
/// With less than this it may stop at any time.
const NO_ROOM: u64 = 128 << 20;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    /// It works, and may not for long, or not for everybody.
    Warning,
    Problem,
}

/// What a check has found.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    says: String,
    /// The command or step that mends it.
    mend: Option<String>,
}

#[derive(Debug, Default, Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

impl Findings {
    fn ok(&mut self, check: &'static str, says: impl Into<String>) {
        self.add(check, Verdict::Ok, says, None);
    }

    fn warning(&mut self, check: &'static str, says: impl Into<String>, mend: impl Into<String>) {
        self.add(check, Verdict::Warning, says, Some(mend.into()));
    }

    fn problem(&mut self, check: &'static str, says: impl Into<String>, mend: impl Into<String>) {
        self.add(check, Verdict::Problem, says, Some(mend.into()));
    }

    fn add(&mut self, check: &'static str, verdict: Verdict, says: impl Into<String>, mend: Option<String>) {
        self.findings.push(Finding {
            check,
            verdict,
            says: says.into(),
            mend,
        });
    }

    fn has_problem(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.verdict == Verdict::Problem)
    }
}

pub(super) async fn run(global: &Global, format: Format) -> anyhow::Result<ExitCode> {
    let dir = global.data_dir();
    let mut found = Findings::default();
    let worker = registration(&mut found, &dir);
    disk(&mut found, &dir);
    let flags = worker.as_ref().map(|worker| worker.listen.clone());
    let flags = flags.unwrap_or_default();
    ports(&mut found, &flags);
    if has_ended(&dir) {
        taken_ports(&mut found, &flags);
    }
    coordinators(&mut found, global, worker.as_ref()).await;
    if worker.is_some() {
        node(&mut found, &dir).await;
    }
    let code = match found.has_problem() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    };
    if format == Format::Json {
        output::json(&found)?;
        return Ok(code);
    }
    let rows = found.findings.iter().map(|finding| {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Problem => "PROBLEM",
        };
        let mend = finding.mend.clone().unwrap_or_default();
        vec![
            finding.check.to_owned(),
            verdict.to_owned(),
            finding.says.clone(),
            mend,
        ]
    });
    output::line(&list(&["Check", "", "Found", "What mends it"], rows.collect()))?;
    Ok(code)
}

/// Who this worker is, and whether others can read its key.
fn registration(found: &mut Findings, dir: &Path) -> Option<WorkerFile> {
    const CHECK: &str = "registration";
    let worker = match WorkerFile::load(dir) {
        Ok(Some(worker)) => worker,
        Ok(None) => {
            let says = format!("no worker is registered in {}", dir.display());
            found.problem(CHECK, says, "block-chain-worker register");
            return None;
        }
        Err(error) => {
            found.problem(
                CHECK,
                error.to_string(),
                "block-chain-worker restore FROM --replace",
            );
            return None;
        }
    };
    match load_key(dir) {
        Ok(Some(_)) => found.ok(
            CHECK,
            format!("worker {} of chain {}", worker.worker_id, worker.chain),
        ),
        Ok(None) => found.problem(
            CHECK,
            "identity.key is gone: nobody can sign for this worker",
            "block-chain-worker restore FROM --replace",
        ),
        Err(error) => found.problem(
            CHECK,
            error.to_string(),
            "block-chain-worker restore FROM --replace",
        ),
    }
    for name in ["identity.key", "worker.token", "api.cookie"] {
        let path = dir.join(name);
        let mode = std::fs::metadata(&path).map_or(0, |metadata| metadata.permissions().mode());
        if mode & 0o077 != 0 {
            let says = format!("{} can be read by other users", path.display());
            found.problem("secrets", says, format!("chmod 600 {}", path.display()));
        }
    }
    Some(worker)
}

/// Whether the data directory can be written to and synced, and has room.
fn disk(found: &mut Findings, dir: &Path) {
    const CHECK: &str = "disk";
    if !dir.exists() {
        return;
    }
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::tempfile_in(dir)?;
        file.write_all(b"a doctor was here")?;
        file.sync_all()
    };
    if let Err(error) = write() {
        let says = format!("{} cannot be written to: {error}", dir.display());
        let mend = crate::storage::system_hint(error.kind()).unwrap_or("make it writable for this user");
        found.problem(CHECK, says, mend);
        return;
    }
    let room = nix::sys::statvfs::statvfs(dir)
        .map(|found| found.blocks_available().saturating_mul(found.fragment_size()));
    let Ok(room) = room else {
        found.ok(CHECK, format!("{} can be written to and synced", dir.display()));
        return;
    };
    let says = format!(
        "{} free in {}",
        output::bytes(usize::try_from(room).unwrap_or(usize::MAX)),
        dir.display()
    );
    let mend = "make room, or move the data directory to a larger disk while the node is stopped";
    match room {
        ..NO_ROOM => found.problem(CHECK, says, mend),
        NO_ROOM..LITTLE_ROOM => found.warning(CHECK, says, mend),
        _ => found.ok(CHECK, says),
    }
}

/// What others on the network reach.
fn ports(found: &mut Findings, flags: &NodeFlags) {
    const CHECK: &str = "ports";
    let has_tls = flags.api_tls_self_signed || flags.api_tls_cert.is_some();
    match flags.api {
        Some(api) if !api.ip().is_loopback() && !has_tls => found.warning(
            CHECK,
            format!("the page and interface on {api} are without TLS: what crosses the network can be read"),
            "block-chain-worker register --api-tls-self-signed, then restart the node",
        ),
        Some(api) => found.ok(CHECK, format!("the page and interface listen on {api}")),
        None => found.ok(CHECK, "the page and interface are for this machine alone"),
    }
}

/// Whether the node could listen where it was told to; only while it does not run itself.
fn taken_ports(found: &mut Findings, flags: &NodeFlags) {
    const CHECK: &str = "ports";
    if let Some(api) = flags.api.filter(|api| api.port() != 0)
        && let Err(error) = TcpListener::bind(api)
    {
        let says = format!("the node cannot listen on {api} for its page: {error}");
        let mend =
            "end the program that has the port, or block-chain-worker register --api IP:PORT with another";
        found.problem(CHECK, says, mend);
    }
    let peers = flags.p2p_port.filter(|port| *port != 0);
    let peers =
        peers.map(|port| SocketAddr::new(flags.p2p_bind.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), port));
    if let Some(address) = peers
        && let Err(error) = UdpSocket::bind(address)
    {
        let says = format!("the node cannot listen on {address} (UDP) for its peers: {error}");
        let mend =
            "end the program that has the port, or block-chain-worker register --p2p-port PORT with another";
        found.problem(CHECK, says, mend);
    }
}

async fn coordinators(found: &mut Findings, global: &Global, worker: Option<&WorkerFile>) {
    const CHECK: &str = "coordinator";
    let all = match worker {
        Some(worker) if global.server.is_empty() => worker.servers.clone(),
        _ => servers(global),
    };
    let trust = worker.map(|worker| worker.trust.clone()).unwrap_or_default();
    for server in all {
        let asked = match CoordinatorClient::new(vec![server.clone()], None, &trust) {
            Ok(client) => client.check().await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(version) if version == env!("CARGO_PKG_VERSION") => {
                found.ok(CHECK, format!("{server} answers, version {version}"));
            }
            Ok(version) => {
                let own = env!("CARGO_PKG_VERSION");
                let says = format!("{server} answers, version {version}; this program is {own}");
                found.warning(CHECK, says, "upgrade the older one, the coordinator first");
            }
            Err(error) => {
                let mend = error
                    .hint()
                    .unwrap_or_else(|| "start it, or name another with --server".to_owned());
                found.problem(CHECK, error.to_string(), mend);
            }
        }
    }
}

/// What the node says of itself.
async fn node(found: &mut Findings, dir: &Path) {
    const CHECK: &str = "node";
    if running_api(dir).await.is_none() {
        let says = match has_ended(dir) {
            true => "it does not run".to_owned(),
            false => "it runs, and does not answer".to_owned(),
        };
        let mend = format!(
            "block-chain-worker status starts it; its log is {}",
            dir.join("node.log").display()
        );
        found.problem(CHECK, says, mend);
        return;
    }
    let asked = async {
        let node = NodeClient::of(dir).await?;
        let status: NodeStatus = node.get("/v1/status", &[]).await?;
        Ok::<_, crate::client::ClientError>((node, status))
    };
    let (node, status) = match asked.await {
        Ok(asked) => asked,
        Err(error) => {
            found.problem(CHECK, error.to_string(), error.hint().unwrap_or_default());
            return;
        }
    };
    if status.version == env!("CARGO_PKG_VERSION") {
        found.ok(
            CHECK,
            format!("it runs, version {}, block {}", status.version, status.height),
        );
    } else {
        let says = format!(
            "it runs version {}, this program is {}",
            status.version,
            env!("CARGO_PKG_VERSION")
        );
        found.warning(
            "versions",
            says,
            "restart the node: block-chain-worker status starts it again",
        );
    }
    clock_and_finality(found, &status);
    if let Ok(peers) = node.get::<PeersView>("/v1/peers", &[]).await {
        reached(found, &peers);
    }
    if let Ok(all) = node.get::<ChainList>("/v1/chains", &[]).await {
        for (chain, reason) in all
            .chains
            .iter()
            .filter_map(|chain| Some((&chain.name, chain.failed.as_ref()?)))
        {
            let mend = format!("block-chain-worker check_consistency --repair --chain {chain}");
            found.problem(
                "chains",
                format!("chain {chain} cannot be opened: {reason}"),
                mend,
            );
        }
    }
    if let Ok(DumpStatus {
        error: Some(error), ..
    }) = node.get::<DumpStatus>("/v1/dump", &[]).await
    {
        let mend =
            "the copy goes on by itself once PostgreSQL answers; block-chain-worker stop_dump_data ends it";
        found.warning("SQL copy", error, mend);
    }
}

fn clock_and_finality(found: &mut Findings, status: &NodeStatus) {
    match status
        .clock_offset_ms
        .map(|offset| (offset, clock::complaint(offset)))
    {
        Some((_, Some(complaint))) => found.problem("clock", complaint, "timedatectl set-ntp true"),
        Some((offset, None)) => found.ok("clock", format!("{offset} ms from the coordinator's")),
        None => {}
    }
    if let Some(stopped) = &status.stopped {
        let mend = format!("block-chain-worker verify {}", stopped.evidence);
        found.problem(
            "agreement",
            format!("the node agrees to nothing more: {}", stopped.reason),
            mend,
        );
    }
    match &status.waiting {
        Some(waiting) => {
            let who: Vec<String> = waiting.missing.iter().map(|missing| missing.describe()).collect();
            let says = match who.is_empty() {
                true => waiting.reason.clone(),
                false => format!("{}; waited for: {}", waiting.reason, who.join(", ")),
            };
            let mend = waiting.hint.clone();
            found.warning(
                "finality",
                says,
                mend.unwrap_or_else(|| "block-chain-worker status, a little later".to_owned()),
            );
        }
        None => found.ok("finality", format!("{} blocks are final", status.final_size)),
    }
    if let Some(syncing) = status.syncing_to {
        found.warning(
            "sync",
            format!("it fetches blocks up to {syncing}"),
            "nothing: it catches up by itself",
        );
    }
}

fn reached(found: &mut Findings, peers: &PeersView) {
    let out: Vec<String> = peers
        .peers
        .iter()
        .filter(|peer| peer.alive && !peer.connected)
        .map(|peer| {
            format!(
                "{} at {}",
                peer.name.clone().unwrap_or_else(|| peer.worker_id.to_string()),
                peer.addresses.join(", ")
            )
        })
        .collect();
    if out.is_empty() {
        found.ok("peers", format!("{} other workers", peers.count));
    } else {
        let says = format!(
            "the coordinator hears workers that are not reached from here: {}",
            out.join("; ")
        );
        found.problem(
            "peers",
            says,
            "open UDP between the two: --p2p-port names this node's port",
        );
    }
}
