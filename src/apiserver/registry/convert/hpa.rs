//! HorizontalPodAutoscaler: `autoscaling/v2` is stored. `v1` knows one metric, the CPU utilization;
//! whatever else there is travels in annotations, as upstream does it.

use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const STATUS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

fn is_cpu_utilization(metric: &Value, target: &str) -> bool {
    metric["type"] == "Resource"
        && metric["resource"]["name"] == "cpu"
        && metric["resource"][target]["averageUtilization"].is_number()
}

fn annotations(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = object.get_mut("metadata")?.as_object_mut()?;
    metadata.entry("annotations").or_insert_with(|| json!({})).as_object_mut()
}

fn put(object: &mut Value, name: &str, value: &Value) {
    if let Some(annotations) = annotations(object) {
        annotations.insert(name.to_owned(), value.to_string().into());
    }
}

fn take(object: &mut Value, name: &str) -> Option<Value> {
    let text = object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()?.remove(name)?;
    serde_json::from_str(text.as_str()?).ok()
}

/// Removes an empty map of annotations that a conversion left.
fn tidy(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    if metadata.get("annotations").and_then(Value::as_object).is_some_and(Map::is_empty) {
        metadata.remove("annotations");
    }
}

/// `v2` to `v1`.
pub(super) fn v2_to_v1(hpa: &mut Value) {
    let spec = hpa.get_mut("spec").and_then(Value::as_object_mut);
    let (mut metrics, mut behavior) = (Vec::new(), None);
    if let Some(spec) = spec {
        if let Some(Value::Array(all)) = spec.remove("metrics") {
            metrics = all;
        }
        behavior = spec.remove("behavior");
        if let Some(at) = metrics.iter().position(|m| is_cpu_utilization(m, "target")) {
            let metric = metrics.remove(at);
            let target = metric["resource"]["target"]["averageUtilization"].clone();
            spec.insert("targetCPUUtilizationPercentage".into(), target);
        }
    }
    let (mut current, mut conditions) = (Vec::new(), None);
    if let Some(status) = hpa.get_mut("status").and_then(Value::as_object_mut) {
        if let Some(Value::Array(all)) = status.remove("currentMetrics") {
            current = all;
        }
        conditions = status.remove("conditions");
        status.entry("currentReplicas").or_insert(0.into());
        if let Some(at) = current.iter().position(|m| is_cpu_utilization(m, "current")) {
            let value = current[at]["resource"]["current"]["averageUtilization"].clone();
            status.insert("currentCPUUtilizationPercentage".into(), value);
        }
    }
    if !metrics.is_empty() {
        put(hpa, METRICS, &Value::Array(metrics));
    }
    if let Some(behavior) = behavior.filter(|b| !b.is_null()) {
        put(hpa, BEHAVIOR, &behavior);
    }
    if !current.is_empty() {
        put(hpa, STATUS, &Value::Array(current));
    }
    if let Some(conditions) = conditions.filter(|c| c.as_array().is_some_and(|c| !c.is_empty())) {
        put(hpa, CONDITIONS, &conditions);
    }
}

/// `v1` to `v2`.
pub(super) fn v1_to_v2(hpa: &mut Value) {
    if let Some(status) = hpa.get_mut("status").and_then(Value::as_object_mut)
        && status.get("currentReplicas") == Some(&json!(0))
    {
        status.remove("currentReplicas");
    }
    let metrics = take(hpa, METRICS);
    let behavior = take(hpa, BEHAVIOR);
    let current = take(hpa, STATUS);
    let conditions = take(hpa, CONDITIONS);
    tidy(hpa);
    if let Some(spec) = hpa.get_mut("spec").and_then(Value::as_object_mut) {
        let mut all = Vec::new();
        if let Some(target) = spec.remove("targetCPUUtilizationPercentage") {
            all.push(json!({"type": "Resource", "resource": {"name": "cpu",
                "target": {"type": "Utilization", "averageUtilization": target}}}));
        }
        if let Some(Value::Array(more)) = metrics {
            all.extend(more);
        }
        if !all.is_empty() {
            spec.insert("metrics".into(), Value::Array(all));
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior".into(), behavior);
        }
    }
    if let Some(status) = hpa.get_mut("status").and_then(Value::as_object_mut) {
        let utilization = status.remove("currentCPUUtilizationPercentage");
        match (current, utilization) {
            (Some(current), _) => {
                status.insert("currentMetrics".into(), current);
            }
            (None, Some(value)) => {
                let metric = json!([{"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": value}}}]);
                status.insert("currentMetrics".into(), metric);
            }
            (None, None) => {}
        }
        if let Some(conditions) = conditions {
            status.insert("conditions".into(), conditions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v2_survives_a_round_through_v1() {
        let v2 = json!({
            "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 1}},
                "metrics": [
                {"type": "Resource", "resource": {"name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": 80}}},
                {"type": "Pods", "pods": {"metric": {"name": "x"}}}]},
            "status": {"conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu",
                    "current": {"averageUtilization": 10, "averageValue": "1m"}}}]},
        });
        let mut hpa = v2.clone();
        v2_to_v1(&mut hpa);
        assert_eq!(hpa["spec"]["targetCPUUtilizationPercentage"], 80);
        assert_eq!(hpa["status"]["currentCPUUtilizationPercentage"], 10);
        assert_eq!(hpa["spec"].get("metrics"), None);
        v1_to_v2(&mut hpa);
        assert_eq!(hpa, v2);
    }

    #[test]
    fn strange_annotations_are_dropped() {
        let mut hpa = json!({"metadata": {"annotations": {METRICS: "nonsense"}}, "spec": {}});
        v1_to_v2(&mut hpa);
        assert_eq!(hpa, json!({"metadata": {}, "spec": {}}));
    }
}
