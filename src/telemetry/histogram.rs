//! A histogram that is observed without a lock: reads are counted in it, and they wait for nobody.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder, NoLabelSet},
    metrics::{MetricType, TypedMetric, family::MetricConstructor},
};

/// Durations, in seconds where they are told. Clones count into the same.
#[derive(Clone, Debug)]
pub struct Durations(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The upper bounds of all buckets but the last, which has none.
    bounds: &'static [f64],
    /// Each thread counts in one of them, so that they seldom get in each other's way.
    shards: [Shard; SHARDS],
}

#[derive(Debug)]
#[repr(align(128))]
struct Shard {
    counts: Box<[AtomicU64]>,
    nanoseconds: AtomicU64,
}

const SHARDS: usize = 8;

/// Makes the histograms of a family with the family's bounds, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds(pub &'static [f64]);

impl MetricConstructor<Durations> for Bounds {
    fn new_metric(&self) -> Durations {
        let shard = |_| Shard {
            counts: (0..=self.0.len()).map(|_| AtomicU64::new(0)).collect(),
            nanoseconds: AtomicU64::new(0),
        };
        Durations(Arc::new(Inner { bounds: self.0, shards: std::array::from_fn(shard) }))
    }
}

impl Durations {
    pub fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = self.0.bounds.iter().take_while(|bound| seconds > **bound).count();
        let Some(shard) = self.0.shards.get(shard_of_thread()) else { return };
        if let Some(count) = shard.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        shard.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

fn shard_of_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    OWN.with(|own| *own)
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder) -> Result<(), fmt::Error> {
        let sum_of = |bucket: usize| {
            let counts = self.0.shards.iter().filter_map(|shard| shard.counts.get(bucket));
            counts.map(|count| count.load(Ordering::Relaxed)).sum()
        };
        let counts: Vec<u64> = (0..=self.0.bounds.len()).map(sum_of).collect();
        let bounds = self.0.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
        let nanoseconds = self.0.shards.iter().map(|shard| shard.nanoseconds.load(Ordering::Relaxed)).sum();
        let sum = Duration::from_nanos(nanoseconds).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, counts.iter().sum(), &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::{encoding::text, registry::Registry};

    use super::*;

    #[test]
    fn durations_are_told_as_a_histogram_of_seconds() {
        let durations = Bounds(&[0.001, 0.01]).new_metric();
        for microseconds in [500, 1000, 1001, 20_000] {
            durations.clone().observe(Duration::from_micros(microseconds));
        }
        let mut registry = Registry::default();
        registry.register("took", "How long", durations);
        let mut output = String::new();
        text::encode(&mut output, &registry).unwrap();
        for line in [
            "# TYPE took histogram",
            "took_sum 0.022501",
            "took_count 4",
            "took_bucket{le=\"0.001\"} 2",
            "took_bucket{le=\"0.01\"} 3",
            "took_bucket{le=\"+Inf\"} 4",
        ] {
            assert!(output.lines().any(|found| found == line), "{line}\n{output}");
        }
    }
}
