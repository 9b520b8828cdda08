//! Metrics that are read off the view at the moment they are asked for: nothing is counted twice, and nothing that
//! has gone is still shown.

use std::sync::Arc;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

use super::App;
use crate::{telemetry::Metrics, view::View};

impl App {
    pub fn render_metrics(&self) -> String {
        self.0.metrics.render()
    }

    pub(super) fn register_metrics(&self) {
        let collector = OfView { view: self.0.view.clone(), metrics: self.0.metrics.clone() };
        self.0.metrics.register_collector(Box::new(collector));
    }
}

struct OfView {
    view: Arc<View>,
    metrics: Metrics,
}

impl std::fmt::Debug for OfView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OfView")
    }
}

impl Collector for OfView {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let snapshot = self.view.snapshot();
        let labels = self.metrics.services();
        let mut active: std::collections::BTreeMap<Arc<str>, (i64, u64)> = std::collections::BTreeMap::new();
        active.entry("other".into()).or_default();
        for view in snapshot.services() {
            let sums = active.entry(labels.of(view.name.as_str())).or_default();
            sums.0 += i64::try_from(view.instances.len()).unwrap_or(i64::MAX);
            sums.1 += view.discoveries.total();
        }
        let gauge = ConstGauge::<i64>::default();
        let mut instances = encoder.encode_descriptor(
            "active_service_instances",
            "Registered instances of each service",
            None,
            gauge.metric_type(),
        )?;
        for (name, (count, _)) in &active {
            let label = [("service_name", &**name)];
            ConstGauge::new(*count).encode(instances.encode_family(&label)?)?;
        }
        let counter = ConstCounter::<u64>::default();
        let mut discoveries = encoder.encode_descriptor(
            "service_discoveries",
            "Discoveries of each service",
            None,
            counter.metric_type(),
        )?;
        for (name, (_, total)) in &active {
            let labels = [("service_name", &**name), ("strategy", "all")];
            ConstCounter::new(*total).encode(discoveries.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
