//! The network between the namespaces: this process carries every packet, and may lose it, hold it back, or cut a way.

use rand::Rng as _;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tun_rs::SyncDevice;

/// Larger than any packet: the devices' MTU is 1,400.
const PACKET: usize = 2_048;
/// Where an IPv4 header has the last byte of the destination's address.
const LAST_BYTE: usize = 19;

#[derive(Default)]
struct Rules {
    /// Ways that carry nothing: from, to.
    cut: BTreeSet<(usize, usize)>,
    /// Packets lost of a thousand.
    lost: u32,
    delay: Range<Duration>,
}

#[derive(Default)]
struct Late {
    next: u64,
    packets: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
}

/// The switch. Device `n` has the address that ends with `n + 1`.
#[derive(Clone)]
pub(crate) struct Switch {
    devices: Arc<Vec<SyncDevice>>,
    rules: Arc<Mutex<Rules>>,
    late: Arc<(Mutex<Late>, Condvar)>,
}

impl Switch {
    /// Carries packets from now on, in threads of their own that end with the process.
    pub(crate) fn start(devices: Vec<SyncDevice>) -> Self {
        let this = Self {
            devices: Arc::new(devices),
            rules: Arc::default(),
            late: Arc::default(),
        };
        for number in 0..this.devices.len() {
            let switch = this.clone();
            std::thread::spawn(move || switch.carry(number));
        }
        let switch = this.clone();
        std::thread::spawn(move || switch.deliver());
        this
    }

    /// Nothing comes through from these to those any more.
    pub(crate) fn cut(&self, from: &[usize], to: &[usize]) {
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (*from, *to)));
        self.rules().cut.extend(pairs);
    }

    /// So many packets of a thousand are lost.
    pub(crate) fn lose(&self, per_mille: u32) {
        self.rules().lost = per_mille;
    }

    /// Each packet takes so long, one way; they overtake each other.
    pub(crate) fn delay(&self, delay: Range<Duration>) {
        self.rules().delay = delay;
    }

    /// All is well again.
    pub(crate) fn mend(&self) {
        *self.rules() = Rules::default();
    }

    fn rules(&self) -> std::sync::MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn carry(&self, from: usize) {
        let mut packet = [0; PACKET];
        while let Ok(length) = self.devices[from].recv(&mut packet) {
            let packet = &packet[..length];
            // Other protocols than IPv4 have nowhere to go.
            let is_ipv4 = length > LAST_BYTE && packet[0] >> 4 == 4;
            let Some(to) = is_ipv4.then(|| usize::from(packet[LAST_BYTE]).wrapping_sub(1)) else {
                continue;
            };
            if to >= self.devices.len() {
                continue;
            }
            let delay = {
                let rules = self.rules();
                let mut random = rand::rng();
                if rules.cut.contains(&(from, to)) || random.random_range(0..1_000) < rules.lost {
                    continue;
                }
                if rules.delay.is_empty() {
                    Duration::ZERO
                } else {
                    random.random_range(rules.delay.clone())
                }
            };
            if delay.is_zero() {
                self.send(to, packet);
            } else {
                let mut late = self.late.0.lock().unwrap_or_else(PoisonError::into_inner);
                late.next += 1;
                let place = (Instant::now() + delay, late.next);
                late.packets.insert(place, (to, packet.to_vec()));
                self.late.1.notify_one();
            }
        }
    }

    /// Delivers what was held back.
    fn deliver(&self) {
        let (late, news) = &*self.late;
        let mut waiting = late.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now = Instant::now();
            let due = waiting.packets.first_key_value().map(|((at, _), _)| *at);
            waiting = match due {
                Some(at) if at <= now => {
                    if let Some((_, (to, packet))) = waiting.packets.pop_first() {
                        self.send(to, &packet);
                    }
                    waiting
                }
                Some(at) => {
                    let woken = news.wait_timeout(waiting, at - now);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => news.wait(waiting).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// A namespace that is gone takes nothing.
    fn send(&self, to: usize, packet: &[u8]) {
        if let Err(error) = self.devices[to].send(packet) {
            println!("a packet for node {to} is lost: {error}");
        }
    }
}
