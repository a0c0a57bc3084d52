//! The text: a family per counter, a sample per rule and hook.

use std::fmt;

use injector_common::counters::{Counters, DESCRIPTIONS};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text::encode},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};

use crate::control::Snapshot;

/// What the text is.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const DELIVERED: &str = "failures whose event was received: all but the lost ones";
const ARMED: &str = "1 while matches fail, 0 while the run is paused";
const BUILD: &str = "version of the injector, and the kernel that it runs on";

/// What does not change during a run.
#[derive(Clone, Debug)]
pub struct Build {
    /// Version of the injector.
    pub version: &'static str,
    /// Release of the kernel.
    pub kernel: String,
}

/// What is written; the registry wants to own it.
#[derive(Debug)]
struct Exposition {
    build: Build,
    armed: bool,
    delivered: u64,
    samples: Vec<(String, &'static str, Counters)>,
}

/// A run's metrics.
///
/// # Errors
/// Never: writing to a string doesn't fail.
pub fn text(build: &Build, snapshot: &Snapshot) -> Result<String, fmt::Error> {
    let samples = snapshot
        .rules
        .iter()
        .flat_map(|rule| rule.hooks.iter().map(|hook| (rule.name.to_string(), hook.hook.name(), hook.counters)));
    let exposition = Exposition {
        build: build.clone(),
        armed: !snapshot.paused,
        delivered: snapshot.delivered,
        samples: samples.collect(),
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(exposition));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        const NONE: Option<&Exemplar<NoLabelSet, u64>> = None;
        for (i, description) in DESCRIPTIONS.iter().enumerate() {
            let name = format!("injector_{}", description.name);
            let mut family = encoder.encode_descriptor(&name, description.help.trim(), None, MetricType::Counter)?;
            for (rule, hook, counters) in &self.samples {
                let labels = [("hook", *hook), ("rule", rule.as_str())];
                family.encode_family(&labels)?.encode_counter(&counters.values()[i], NONE)?;
            }
        }
        encoder
            .encode_descriptor("injector_events_delivered", DELIVERED, None, MetricType::Counter)?
            .encode_counter(&self.delivered, NONE)?;
        encoder
            .encode_descriptor("injector_armed", ARMED, None, MetricType::Gauge)?
            .encode_gauge(&i64::from(self.armed))?;
        let labels = [("version", self.build.version), ("kernel", self.build.kernel.as_str())];
        encoder.encode_descriptor("injector_build", BUILD, None, MetricType::Info)?.encode_info(&labels)
    }
}
