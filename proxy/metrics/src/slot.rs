//! Cells of values, and the handles that write them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// The numbers of one series, as one worker counts them: one for a counter or a gauge; buckets, then the sum in
/// microseconds or bytes, for a histogram.
#[derive(Debug)]
pub(crate) struct Cells(Box<[AtomicU64]>);

impl Cells {
    pub(crate) fn new(len: usize) -> Arc<Self> {
        Arc::new(Self((0..len).map(|_| AtomicU64::new(0)).collect()))
    }

    pub(crate) fn get(&self, index: usize) -> u64 {
        self.0[index].load(Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds without read-modify-write: right because one worker alone writes its cells.
    fn add(&self, index: usize, n: u64) {
        let cell = &self.0[index];
        cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
    }
}

/// A counter of one worker.
#[derive(Clone, Debug)]
pub struct Counter(pub(crate) Arc<Cells>);

impl Counter {
    /// Counts one.
    pub fn inc(&self) {
        self.0.add(0, 1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.add(0, n);
    }

    /// Returns this worker's count.
    pub fn value(&self) -> u64 {
        self.0.get(0)
    }
}

/// A gauge of one worker; the series is the sum over workers.
#[derive(Clone, Debug)]
pub struct Gauge(pub(crate) Arc<Cells>);

impl Gauge {
    /// One more.
    pub fn inc(&self) {
        self.0.add(0, 1);
    }

    /// One less.
    pub fn dec(&self) {
        self.0.add(0, u64::MAX);
    }

    /// Replaces this worker's part.
    pub fn set(&self, value: i64) {
        self.0.0[0].store(value as u64, Relaxed);
    }

    /// This worker's part.
    pub fn value(&self) -> i64 {
        self.0.get(0) as i64
    }
}

/// A histogram of one worker. Bounds are in microseconds for times, in bytes for sizes.
#[derive(Clone, Debug)]
pub struct Histogram {
    pub(crate) bounds: &'static [u64],
    pub(crate) cells: Arc<Cells>,
}

impl Histogram {
    /// Records a time.
    pub fn observe(&self, time: Duration) {
        self.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Records a value in the unit of the bounds.
    pub fn record(&self, value: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        self.cells.add(bucket, 1);
        self.cells.add(self.bounds.len() + 1, value);
    }
}

/// A counter that any thread may write; for rare events.
#[derive(Clone, Debug)]
pub struct SharedCounter(pub(crate) Arc<Cells>);

impl SharedCounter {
    /// Counts one.
    pub fn inc(&self) {
        self.0.0[0].fetch_add(1, Relaxed);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.0[0].fetch_add(n, Relaxed);
    }

    /// Subtracts `n`; for gauges.
    pub(crate) fn sub(&self, n: u64) {
        self.0.0[0].fetch_sub(n, Relaxed);
    }

    /// Replaces the value; for gauges.
    pub(crate) fn set(&self, value: u64) {
        self.0.0[0].store(value, Relaxed);
    }

    /// Returns the count.
    pub fn value(&self) -> u64 {
        self.0.get(0)
    }
}
