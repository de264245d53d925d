//! Room for connections: in all, for each client, and in the reserve for probes. Where there is none, the connection
//! that has been without a call for the longest time gives way, so that silent connections keep no one out. Those that
//! never had one go first: the next call of a good client may already be sent on one that had.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
};

use proxy_model::limits::{Limit, Value};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Client,
    calls::Calls,
    limits::{Limits, SERVER_GIVE_WAY, SERVER_PROBES_PER_CLIENT},
};

/// Connections that give way at a time where the system has no more descriptors.
const GIVE_WAY_AT_ONCE: usize = 16;

/// Connections of a server, counted.
#[derive(Clone, Debug)]
pub(super) struct Admissions(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    main: Room,
    reserve: Room,
    /// Connections in `main`, by number.
    held: HashMap<u64, Held>,
    next: u64,
}

/// Connection that holds a place.
#[derive(Debug)]
struct Held {
    ip: IpAddr,
    calls: Calls,
    displaced: CancellationToken,
}

impl Counts {
    /// Takes a place in `main`, if need be that of a quiet connection: of this client, if it has too many. Returns its
    /// number, unless a limit stands in the way, and the limit that was reached.
    fn enter(&mut self, held: Held, all: Limit, per_client: Limit) -> (Option<u64>, Option<Limit>) {
        let full = self.main.enter(held.ip, all, per_client).err();
        if let Some(limit) = full {
            let only = (limit == per_client).then_some(held.ip);
            if !self.displace_quietest(only) || self.main.enter(held.ip, all, per_client).is_err() {
                return (None, full);
            }
        }
        let number = self.next;
        self.next += 1;
        self.held.insert(number, held);
        (Some(number), full)
    }

    fn displace_quietest(&mut self, only: Option<IpAddr>) -> bool {
        let now = Instant::now();
        let quiet = self.held.iter().filter(|(_, held)| only.is_none_or(|ip| held.ip == ip));
        let quiet = quiet.filter_map(|(number, held)| {
            let time = held.calls.quiet_for(now)?;
            (time >= SERVER_GIVE_WAY.value).then(|| (held.calls.is_unused(), time, *number))
        });
        let Some((.., number)) = quiet.max() else {
            return false;
        };
        self.leave(number);
        true
    }

    fn leave(&mut self, number: u64) {
        // Gone already if it was displaced.
        if let Some(held) = self.held.remove(&number) {
            self.main.leave(held.ip);
            held.displaced.cancel();
        }
    }
}

/// Connections in all, and of each client that has any.
#[derive(Debug, Default)]
struct Room {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl Room {
    /// Counts a connection, unless a limit is reached: then that limit.
    fn enter(&mut self, client: IpAddr, all: Limit, per_client: Limit) -> Result<(), Limit> {
        if self.all >= all.value {
            return Err(all);
        }
        let own = self.by_client.get(&client).copied().unwrap_or(0);
        if own >= per_client.value {
            return Err(per_client);
        }
        self.all += 1;
        self.by_client.insert(client, own + 1);
        Ok(())
    }

    fn leave(&mut self, client: IpAddr) {
        self.all -= 1;
        if let Some(own) = self.by_client.get_mut(&client) {
            *own -= 1;
            if *own == 0 {
                self.by_client.remove(&client);
            }
        }
    }
}

/// Place of one connection; given back when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) client: Client,
    pub(super) calls: Calls,
    /// Cancelled when the connection must give way.
    pub(super) displaced: CancellationToken,
    /// Number among the held connections; none in the reserve.
    number: Option<u64>,
    admissions: Admissions,
}

impl Admissions {
    pub(super) fn new(limits: &Limits) -> Self {
        Self(Arc::new(Shared {
            limits: *limits,
            counts: Mutex::default(),
        }))
    }

    /// Place for a connection, if there is one, and the limits that it has run into.
    pub(super) fn admit(&self, addr: SocketAddr) -> (Option<Ticket>, [Option<Limit<Value>>; 2]) {
        let Limits {
            connections,
            per_client,
            probes,
            ..
        } = self.0.limits;
        let ip = addr.ip().to_canonical();
        let held = Held {
            ip,
            calls: Calls::new(),
            displaced: CancellationToken::new(),
        };
        let (calls, displaced) = (held.calls.clone(), held.displaced.clone());
        let ticket = |number: Option<u64>| Ticket {
            client: Client {
                addr,
                probes_only: number.is_none(),
            },
            calls,
            displaced,
            number,
            admissions: self.clone(),
        };
        let mut counts = self.lock();
        let (number, full) = counts.enter(held, connections, per_client);
        let full = full.map(|limit| limit.row());
        if number.is_some() {
            return (Some(ticket(number)), [full, None]);
        }
        let Some(probes) = probes else {
            return (None, [full, None]);
        };
        match counts.reserve.enter(ip, probes, SERVER_PROBES_PER_CLIENT) {
            Ok(()) => (Some(ticket(None)), [full, None]),
            Err(reserve) => (None, [full, Some(reserve.row())]),
        }
    }

    /// Displaces some quiet connections, because the system has no more descriptors.
    pub(super) fn make_room(&self) {
        let mut counts = self.lock();
        (0..GIVE_WAY_AT_ONCE)
            .take_while(|_| counts.displace_quietest(None))
            .for_each(drop);
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing under the lock panics half-way through a change.
        self.0.counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.admissions.lock();
        match self.number {
            Some(number) => counts.leave(number),
            None => counts.reserve.leave(self.client.addr.ip().to_canonical()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::limits::*, *};

    fn addr(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 999).into()
    }

    fn names(exceeded: [Option<Limit<Value>>; 2]) -> Vec<&'static str> {
        exceeded.into_iter().flatten().map(|limit| limit.name).collect()
    }

    #[test]
    fn one_client_cannot_take_all_room() {
        let admissions = Admissions::new(&Limits::default());
        let own: Vec<_> = (0..SERVER_CONNECTIONS_PER_CLIENT.value)
            .map(|_| admissions.admit(addr(1)).0.expect("room"))
            .collect();
        assert!(own.iter().all(|ticket| !ticket.client.probes_only));
        let (further, exceeded) = admissions.admit(addr(1));
        assert!(further.expect("the reserve").client.probes_only);
        assert_eq!(names(exceeded), ["SERVER_CONNECTIONS_PER_CLIENT"]);
        assert!(!admissions.admit(addr(2)).0.expect("room").client.probes_only);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_connection_gives_way_to_a_new_one() {
        let limits = Limits {
            connections: SERVER_PROBES,
            probes: None,
            ..Limits::default()
        };
        let admissions = Admissions::new(&limits);
        let mut all = Vec::new();
        for at in 0..SERVER_PROBES.value {
            all.push(admissions.admit(addr(at as u8)).0.expect("room"));
            tokio::time::advance(std::time::Duration::from_millis(1)).await;
        }
        assert!(admissions.admit(addr(200)).0.is_none(), "none has been quiet for long");
        tokio::time::advance(SERVER_GIVE_WAY.value).await;
        let call = all[0].calls.begin();
        let (newcomer, exceeded) = admissions.admit(addr(200));
        assert!(newcomer.is_some());
        assert_eq!(names(exceeded), ["SERVER_PROBES"], "counted");
        let displaced: Vec<_> = all.iter().map(|ticket| ticket.displaced.is_cancelled()).collect();
        assert_eq!(displaced.iter().filter(|displaced| **displaced).count(), 1);
        assert!(displaced[1], "the quietest of those without a call");
        drop((call, all, newcomer));
        let counts = admissions.lock();
        assert!(counts.main.by_client.is_empty() && counts.held.is_empty() && counts.main.all == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_used_gives_way_last() {
        let limits = Limits {
            connections: Limit {
                value: 3,
                ..SERVER_PROBES
            },
            probes: None,
            ..Limits::default()
        };
        let admissions = Admissions::new(&limits);
        let used = admissions.admit(addr(1)).0.expect("room");
        drop(used.calls.begin());
        tokio::time::advance(SERVER_GIVE_WAY.value).await;
        let silent = [2, 3].map(|last| admissions.admit(addr(last)).0.expect("room"));
        tokio::time::advance(SERVER_GIVE_WAY.value).await;
        let newcomers = [4, 5].map(|last| admissions.admit(addr(last)).0.expect("a place"));
        assert!(silent.iter().all(|ticket| ticket.displaced.is_cancelled()));
        assert!(!used.displaced.is_cancelled());
        assert!(admissions.admit(addr(6)).0.is_some() && used.displaced.is_cancelled());
        assert!(newcomers.iter().all(|ticket| !ticket.displaced.is_cancelled()), "young");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_with_too_many_connections_displaces_its_own() {
        let admissions = Admissions::new(&Limits::default());
        let other = admissions.admit(addr(2)).0.expect("room");
        let own: Vec<_> = (0..SERVER_CONNECTIONS_PER_CLIENT.value)
            .map(|_| admissions.admit(addr(1)).0.expect("room"))
            .collect();
        tokio::time::advance(SERVER_GIVE_WAY.value).await;
        let further = admissions.admit(addr(1)).0.expect("a place");
        assert!(!further.client.probes_only && !other.displaced.is_cancelled());
        assert_eq!(own.iter().filter(|ticket| ticket.displaced.is_cancelled()).count(), 1);
    }

    #[test]
    fn the_reserve_is_for_when_all_else_is_taken() {
        let admissions = Admissions::new(&Limits::default());
        let all: Vec<_> = (0..SERVER_CONNECTIONS.value)
            .map(|at| admissions.admit(addr((at % 8) as u8)).0.expect("room"))
            .collect();
        let reserve: Vec<_> = (0..SERVER_PROBES_PER_CLIENT.value)
            .map(|_| admissions.admit(addr(9)).0.expect("the reserve"))
            .collect();
        assert!(reserve.iter().all(|ticket| ticket.client.probes_only));
        let (refused, exceeded) = admissions.admit(addr(9));
        assert!(refused.is_none());
        assert_eq!(names(exceeded), ["SERVER_CONNECTIONS", "SERVER_PROBES_PER_CLIENT"]);
        drop((all, reserve));
        assert!(!admissions.admit(addr(9)).0.expect("room again").client.probes_only);
        assert!(admissions.lock().main.by_client.is_empty(), "nothing is left behind");
    }

    #[test]
    fn a_server_without_probes_refuses_at_once() {
        let limits = Limits {
            connections: SERVER_PROBES,
            probes: None,
            ..Limits::default()
        };
        let admissions = Admissions::new(&limits);
        let _all: Vec<_> = (0..SERVER_PROBES.value).map(|_| admissions.admit(addr(1))).collect();
        let (refused, exceeded) = admissions.admit(addr(2));
        assert!(refused.is_none());
        assert_eq!(names(exceeded), ["SERVER_PROBES"]);
    }
}
