//! Room for connections: in all, for each client, and in the reserve for probes.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard},
};

use proxy_model::limits::{Limit, Value};

use super::{
    Client,
    limits::{Limits, SERVER_PROBES_PER_CLIENT},
};

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
        let ticket = |probes_only| Ticket {
            client: Client { addr, probes_only },
            admissions: self.clone(),
        };
        let mut counts = self.lock();
        let Err(full) = counts.main.enter(ip, connections, per_client) else {
            return (Some(ticket(false)), [None, None]);
        };
        let Some(probes) = probes else {
            return (None, [Some(full.row()), None]);
        };
        match counts.reserve.enter(ip, probes, SERVER_PROBES_PER_CLIENT) {
            Ok(()) => (Some(ticket(true)), [Some(full.row()), None]),
            Err(reserve) => (None, [Some(full.row()), Some(reserve.row())]),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Nothing under the lock panics half-way through a change.
        self.0.counts.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut counts = self.admissions.lock();
        let room = if self.client.probes_only {
            &mut counts.reserve
        } else {
            &mut counts.main
        };
        room.leave(self.client.addr.ip().to_canonical());
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
