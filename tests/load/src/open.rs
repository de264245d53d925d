//! The open loop: each request has a scheduled time, from which its latency counts whatever earlier ones did. A request
//! that is due takes a free connection, or waits for one.

use std::{
    cell::RefCell,
    collections::VecDeque,
    os::fd::OwnedFd,
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Result;
use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::{io::unix::AsyncFd, sync::Semaphore, task::JoinSet};

use super::{Latencies, http1, record};
use crate::orders::Load;

/// Requests that are due; a permit for each.
#[derive(Clone)]
struct Due(Rc<(RefCell<VecDeque<Instant>>, Semaphore)>);

/// Starts the clock and a task for each connection.
pub(crate) async fn start(
    load: &Load,
    rate: u64,
    latencies: &Latencies,
    tasks: &mut JoinSet<Result<()>>,
) -> Result<()> {
    let due = Due(Rc::new((RefCell::default(), Semaphore::new(0))));
    for _ in 0..load.connections {
        let client = http1::Client::connect(load.addr, http1::SMALL).await?;
        tasks.spawn_local(connection(client, due.clone(), latencies.clone()));
    }
    tasks.spawn_local(clock(due, rate, load.ms));
    Ok(())
}

/// Releases requests when they are due. Uses a kernel timer, because the runtime's have millisecond resolution.
async fn clock(due: Due, rate: u64, ms: u64) -> Result<()> {
    let (all, interval) = (rate * ms / 1000, Duration::from_nanos(1_000_000_000 / rate));
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
    timer.set(
        Expiration::Interval(TimeSpec::from_duration(interval)),
        TimerSetTimeFlags::empty(),
    )?;
    #[expect(deprecated, reason = "what replaces it is unsafe, and this descriptor is owned")]
    let timer = AsyncFd::new(OwnedFd::from(timer))?;
    let (start, mut said) = (Instant::now(), 0);
    while said < all {
        let mut ready = timer.readable().await?;
        let read = ready.try_io(|timer| Ok(nix::unistd::read(timer, &mut [0; 8])?));
        if let Ok(read) = read {
            read?;
        }
        while said < all && start.elapsed() >= interval * said as u32 {
            due.0.0.borrow_mut().push_back(start + interval * said as u32);
            due.0.1.add_permits(1);
            said += 1;
        }
    }
    // Connections take what is left and end.
    due.0.1.close();
    Ok(())
}

async fn connection(mut client: http1::Client, due: Due, latencies: Latencies) -> Result<()> {
    loop {
        if let Ok(permit) = due.0.1.acquire().await {
            permit.forget();
        }
        let next = due.0.0.borrow_mut().pop_front();
        let Some(intended) = next else { return Ok(()) };
        client.exchange().await?;
        record(&latencies, intended);
    }
}
