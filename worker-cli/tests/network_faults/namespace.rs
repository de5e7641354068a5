//! Network namespaces with a tun device each. Making them takes root's rights, or a user namespace that has them.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};
use tun_rs::{DeviceBuilder, SyncDevice};

/// Tells a test that runs again as root of a user namespace that it is.
const WITHIN: &str = "BLOCK_CHAIN_TEST_WITHIN";

const DEVICE: &str = "net0";

/// Whether this process may make namespaces. Where it may not, the test is run again in a user namespace where it may, and
/// this one only takes its outcome.
pub(crate) fn may(test: &str) -> bool {
    if nix::unistd::geteuid().is_root() {
        if std::env::var_os(WITHIN).is_some() {
            // `ip netns` keeps its names below /run.
            done(Command::new("mount").args(["-t", "tmpfs", "none", "/run"]));
        }
        return true;
    }
    let again = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--net"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(WITHIN, "1")
        .status()
        .unwrap();
    assert!(again.success(), "{test} has failed in a user namespace");
    false
}

/// A namespace, which goes with this value.
pub(crate) struct Namespace(String);

impl Namespace {
    /// A new one with an address of this last byte in 10.77.0.0/24, and the device that carries its packets.
    pub(crate) fn new(last: u8) -> (Self, SyncDevice) {
        let name = format!("bc-{}-{last}", std::process::id());
        done(Command::new("ip").args(["netns", "add", &name]));
        let this = Self(name);
        done(this.command(Path::new("ip")).args(["link", "set", "lo", "up"]));
        let file = File::open(Path::new("/run/netns").join(&this.0)).unwrap();
        // The thread enters the namespace and ends; the device stays there.
        let device = std::thread::spawn(move || {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            DeviceBuilder::new().name(DEVICE).build_sync().unwrap()
        });
        let device = device.join().unwrap();
        let address = format!("10.77.0.{last}/24");
        done(
            this.command(Path::new("ip"))
                .args(["address", "add", &address, "dev", DEVICE]),
        );
        done(
            this.command(Path::new("ip"))
                .args(["link", "set", DEVICE, "mtu", "1400", "up"]),
        );
        (this, device)
    }

    /// A program that will run in it.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        done(Command::new("ip").args(["netns", "delete", &self.0]));
    }
}

fn done(command: &mut Command) {
    let Output { status, stderr, .. } = command.output().unwrap();
    assert!(
        status.success() || std::thread::panicking(),
        "{command:?}: {}",
        String::from_utf8_lossy(&stderr)
    );
}
