//! What an instance's row has beyond its columns: the states of several checks, what an operator set, the last alert.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::domain::{Alert, CheckState, Health, Instance, Override};

#[derive(Default, Serialize, Deserialize)]
pub struct StateText {
    /// Empty where the columns say it all. Under an override they say what the instance is shown as.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    checks: Vec<CheckState>,
    #[serde(default, rename = "override", skip_serializing_if = "Option::is_none")]
    overridden: Option<Arc<Override>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alert: Option<Arc<Alert>>,
}

impl StateText {
    /// As JSON; None where there is nothing to say.
    pub fn of(instance: &Instance) -> Option<String> {
        let checks = match instance.health.states() {
            [only] if only.successes == 0 && instance.overridden.is_none() => Vec::new(),
            states => states.to_vec(),
        };
        if checks.is_empty() && instance.alert.is_none() {
            return None;
        }
        let (overridden, alert) = (instance.overridden.clone(), instance.alert.clone());
        // numbers, words and texts: nothing that JSON cannot hold
        serde_json::to_string(&Self { checks, overridden, alert }).ok()
    }

    pub fn read(text: Option<&str>) -> Result<Self, serde_json::Error> {
        text.map_or_else(|| Ok(Self::default()), serde_json::from_str)
    }

    /// The health, the override and the alert of a row. `columns` is what its columns say.
    pub fn over(self, columns: CheckState) -> (Health, Option<Arc<Override>>, Option<Arc<Alert>>) {
        let health = if self.checks.is_empty() { Health::of([columns]) } else { Health::of(self.checks) };
        (health, self.overridden, self.alert)
    }
}
