//! A steady load of transactions through all workers, and the ids of those that were accepted.

use crate::cluster::{Cluster, Places};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    accepted: Mutex<Vec<String>>,
    news: Condvar,
}

pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// One user at each worker, who adds one record after the other.
    pub(crate) fn start(cluster: &Cluster) -> Self {
        let shared: Arc<Shared> = Arc::default();
        let users = (1..=cluster.places.workers()).map(|worker| {
            let (places, shared) = (Arc::clone(&cluster.places), Arc::clone(&shared));
            std::thread::spawn(move || shared.add(&places, worker))
        });
        Self {
            threads: users.collect(),
            shared,
        }
    }

    /// Waits until so many more were accepted.
    pub(crate) fn await_accepted(&self, more: usize, longest: Duration) {
        let deadline = Instant::now() + longest;
        let mut accepted = self.shared.accepted();
        let wanted = accepted.len() + more;
        while accepted.len() < wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{more} more transactions are not accepted in {longest:?}"
            );
            let woken = self.shared.news.wait_timeout(accepted, left);
            accepted = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends it; the ids of all that was accepted.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        let accepted = self.shared.accepted();
        assert!(!accepted.is_empty());
        accepted.clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn accepted(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, places: &Places, worker: usize) {
        for number in 0_u64.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let (key, value) = (format!("{worker}/{}", number % 50), number.to_string());
            // Where the worker is down this fails, and the user goes on with the next.
            let answer = places.ask(worker, &["add_transaction", "--key", &key, "--value", &value]);
            if let Some(answer) = answer {
                let ids = answer["transaction_ids"].as_array().unwrap();
                let mut accepted = self.accepted();
                accepted.extend(ids.iter().map(|id| id.as_str().unwrap().to_owned()));
                self.news.notify_all();
            }
            // A load, not a flood: the cores are for the nodes.
            std::thread::sleep(Duration::from_millis(150));
        }
    }
}
