//! HorizontalPodAutoscalers, in the form of `autoscaling/v2`.

use apimachinery::{
    field::{FieldError, Path},
    names,
};
use serde_json::{Value, json};

use crate::kinds::{
    Column, Context, Hooks,
    columns::{self, age, name},
    resource_names,
    validation::{
        Errors, Report as _, dns_label, not_negative, optional_one_of, quantity, quantity_text,
        spec,
    },
    value::{Fields as _, set_default},
};

pub(crate) struct HorizontalPodAutoscaler;

/// Sources of metrics: type, field; in the order in which upstream looks at them.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("External", "external"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
];
const TYPES: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

impl Hooks for HorizontalPodAutoscaler {
    fn default(&self, scaler: &mut Value) {
        let Some(spec) = scaler.get_mut("spec").filter(|spec| spec.is_object()) else { return };
        set_default(spec, "minReplicas", 1);
        if spec.list("metrics").is_empty() {
            let target = json!({"type": "Utilization", "averageUtilization": 80});
            spec["metrics"] =
                json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]);
        }
        if let Some(behavior) = spec.get_mut("behavior").filter(|b| b.is_object()) {
            let pods = json!({"type": "Pods", "value": 4, "periodSeconds": 15});
            let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
            let up = json!({"stabilizationWindowSeconds": 0, "selectPolicy": "Max",
                "policies": [pods, percent]});
            let down = json!({"selectPolicy": "Max", "policies": [percent]});
            for (direction, usual) in [("scaleUp", up), ("scaleDown", down)] {
                set_default(behavior, direction, json!({}));
                for (field, value) in usual.as_object().into_iter().flatten() {
                    set_default(&mut behavior[direction], field, value.clone());
                }
            }
        }
    }

    fn validate_create(&self, _context: &Context<'_>, scaler: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        validate(&scaler["spec"], false, &spec(), &mut errors);
        errors
    }

    fn validate_update(&self, context: &Context<'_>, old: &Value, new: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        if context.subresource != "status" {
            let target = |scaler: &Value, field: &str| {
                scaler["spec"]["scaleTargetRef"].text(field).to_owned()
            };
            let kept = ["apiVersion", "kind"].iter().all(|f| target(old, f) == target(new, f));
            validate(&new["spec"], kept, &spec(), &mut errors);
            return errors;
        }
        let path = Path::root("status");
        for (at, condition) in new["status"].list("conditions").iter().enumerate() {
            let path = path.child("conditions").index(at);
            not_negative(condition, "observedGeneration", &path, &mut errors);
        }
        not_negative(&new["status"], "currentReplicas", &path, &mut errors);
        not_negative(&new["status"], "desiredReplicas", &path, &mut errors);
        errors
    }

    fn columns(&self) -> &'static [Column] {
        columns::of("autoscaling/horizontalpodautoscalers")
    }

    fn cells(&self, scaler: &Value) -> Vec<Value> {
        let (spec, status) = (&scaler["spec"], &scaler["status"]);
        let target = &spec["scaleTargetRef"];
        let least = spec.int("minReplicas").map(|count| count.to_string());
        vec![
            name(scaler),
            format!("{}/{}", target.text("kind"), target.text("name")).into(),
            metrics(spec, status).into(),
            least.unwrap_or_else(|| "<unset>".to_owned()).into(),
            spec.int("maxReplicas").unwrap_or_default().into(),
            status.int("currentReplicas").unwrap_or_default().into(),
            age(scaler),
        ]
    }
}

fn metrics(spec: &Value, status: &Value) -> String {
    const MOST: usize = 2;
    let all = spec.list("metrics");
    if all.is_empty() {
        return "<none>".to_owned();
    }
    let currents = status.list("currentMetrics");
    let shown: Vec<String> =
        all.iter().take(MOST).enumerate().map(|(at, m)| metric(m, currents.get(at))).collect();
    let text = shown.join(", ");
    match all.len().checked_sub(MOST) {
        Some(more) if more > 0 => format!("{text} + {more} more..."),
        _ => text,
    }
}

/// Present and wanted value of one metric.
fn metric(metric: &Value, current: Option<&Value>) -> String {
    let kind = metric.text("type");
    let Some((_, field)) = SOURCES.iter().find(|(known, _)| *known == kind) else {
        return "<unknown type>".to_owned();
    };
    let source = &metric[*field];
    let target = &source["target"];
    let now = current.map_or(&Value::Null, |current| &current[*field]["current"]);
    let there = current.is_some_and(|current| current.has(field));
    let value = |name: &str, must: bool| match there && (!must || now.has(name)) {
        true => quantity_text(&now[name]),
        false => "<unknown>".to_owned(),
    };
    let percent = |object: &Value, none: &str| match object.int("averageUtilization") {
        Some(percent) => format!("{percent}%"),
        None => none.to_owned(),
    };
    match kind {
        "Resource" | "ContainerResource" => {
            let name = source.text("name");
            match target.sub("averageValue") {
                Some(wanted) => {
                    format!("{name}: {}/{}", value("averageValue", false), quantity_text(wanted))
                }
                None => {
                    format!("{name}: {}/{}", percent(now, "<unknown>"), percent(target, "<auto>"))
                }
            }
        }
        "Pods" => {
            let wanted = quantity_text(&target["averageValue"]);
            format!("{}/{wanted}", value("averageValue", false))
        }
        _ => match target.sub("averageValue") {
            Some(wanted) => {
                format!("{}/{} (avg)", value("averageValue", true), quantity_text(wanted))
            }
            None => format!("{}/{}", value("value", false), quantity_text(&target["value"])),
        },
    }
}

/// `kept` is for a target that is the one it was: what it is called may then be wrong.
fn validate(spec: &Value, kept: bool, path: &Path, errors: &mut Errors) {
    let least = spec.int("minReplicas");
    let most = spec.int("maxReplicas").unwrap_or_default();
    not_negative(spec, "minReplicas", path, errors);
    let place = path.child("maxReplicas");
    if least.is_some_and(|least| most < least) {
        errors.invalid(&place, most, "must be greater than or equal to `minReplicas`");
    }
    let target = &spec["scaleTargetRef"];
    let groupless = kept || target.text("kind") == "ReplicationController";
    reference(target, groupless, &path.child("scaleTargetRef"), errors);
    let place = path.child("metrics");
    let all = spec.list("metrics");
    for (at, metric) in all.iter().enumerate() {
        metric_spec(metric, &place.index(at), errors);
    }
    if least == Some(0)
        && !all.iter().any(|metric| matches!(metric.text("type"), "Object" | "External"))
    {
        let detail = "must specify at least one Object or External metric to support scaling to \
                      zero replicas";
        errors.forbidden(&place, detail);
    }
    for direction in ["scaleUp", "scaleDown"] {
        if let Some(rules) = spec["behavior"].sub(direction) {
            scaling_rules(rules, &path.child("behavior").child(direction), errors);
        }
    }
    // Upstream looks at this declaratively, which is last.
    let place = path.child("maxReplicas");
    match most {
        0 => errors.required(&place, ""),
        ..0 => errors.invalid(&place, most, "must be greater than or equal to 1"),
        _ => {}
    }
}

fn reference(reference: &Value, groupless: bool, path: &Path, errors: &mut Errors) {
    for field in ["kind", "name"] {
        match reference.text(field) {
            "" => errors.required(&path.child(field), ""),
            text => errors.messages(&path.child(field), text, names::path_segment_name(text)),
        }
    }
    let version = reference.text("apiVersion");
    if version.matches('/').count() > 1 {
        let detail = format!("unexpected GroupVersion string: {version}");
        errors.invalid(&path.child("apiVersion"), version, &detail);
    } else if !groupless && !version.contains('/') {
        let detail = "apiVersion must specify API group";
        errors.invalid(&path.child("apiVersion"), version, detail);
    }
}

fn scaling_rules(rules: &Value, path: &Path, errors: &mut Errors) {
    const LONGEST: i64 = 3600;
    const LONGEST_PERIOD: i64 = 1800;
    let place = path.child("stabilizationWindowSeconds");
    match rules.int("stabilizationWindowSeconds") {
        Some(seconds @ ..0) => {
            errors.invalid(&place, seconds, "must be greater than or equal to zero");
        }
        Some(seconds) if seconds > LONGEST => {
            let detail = format!("must be less than or equal to {LONGEST}");
            errors.invalid(&place, seconds, &detail);
        }
        _ => {}
    }
    let choices = ["Disabled", "Max", "Min"];
    optional_one_of(rules, "selectPolicy", path, &choices, errors);
    let policies = rules.list("policies");
    if policies.is_empty() {
        errors.required(&path.child("policies"), "must specify at least one Policy");
    }
    for (at, policy) in policies.iter().enumerate() {
        let path = path.child("policies").index(at);
        let kind = policy.text("type");
        if !matches!(kind, "Pods" | "Percent") {
            errors.unsupported(&path.child("type"), kind, &["Percent", "Pods"]);
        }
        for field in ["value", "periodSeconds"] {
            let value = policy.int(field).unwrap_or_default();
            if value <= 0 {
                errors.invalid(&path.child(field), value, "must be greater than zero");
            }
        }
        let period = policy.int("periodSeconds").unwrap_or_default();
        if period > LONGEST_PERIOD {
            let detail = format!("must be less than or equal to {LONGEST_PERIOD}");
            errors.invalid(&path.child("periodSeconds"), period, &detail);
        }
    }
}

fn metric_spec(metric: &Value, path: &Path, errors: &mut Errors) {
    let kind = metric.text("type");
    let place = path.child("type");
    if kind.is_empty() {
        errors.required(&place, "must specify a metric source type");
    }
    if !TYPES.contains(&kind) {
        errors.unsupported(&place, kind, &TYPES);
    }
    let given: Vec<&str> =
        SOURCES.iter().map(|(_, field)| *field).filter(|field| metric.has(field)).collect();
    if let Some(first) = given.first() {
        source(first, &metric[*first], &path.child(first), errors);
    }
    let expected = SOURCES.iter().find(|(known, _)| *known == kind).map(|(_, field)| *field);
    match expected {
        Some(field) if !metric.has(field) => {
            let detail = "must populate information for the given metric source";
            errors.required(&path.child(field), detail);
        }
        Some(_) => {}
        None => errors.unsupported(&place, kind, &TYPES),
    }
    if given.len() != 1 {
        for field in given.iter().filter(|field| Some(**field) != expected) {
            errors.forbidden(&path.child(field), "must populate the given metric source only");
        }
    }
}

fn source(field: &str, source: &Value, path: &Path, errors: &mut Errors) {
    let (target, place) = (&source["target"], path.child("target"));
    let has = |name: &str| target.has(name);
    if field == "object" {
        reference(&source["describedObject"], true, &path.child("describedObject"), errors);
    }
    match field {
        "resource" | "containerResource" => match source.text("name") {
            "" => errors.required(&path.child("name"), "must specify a resource name"),
            name if field == "containerResource" => {
                resource_names::of_container(name, &path.child("name"), errors);
            }
            _ => {}
        },
        _ => {
            let path = path.child("metric").child("name");
            match source["metric"].text("name") {
                "" => errors.required(&path, "must specify a metric name"),
                name => errors.messages(&path, name, names::path_segment_name(name)),
            }
        }
    }
    if field == "containerResource" {
        match source.text("container") {
            "" => errors.required(&path.child("container"), "must specify a container"),
            container => dns_label(container, &path.child("container"), errors),
        }
    }
    metric_target(target, &place, errors);
    let missing = match field {
        "object" if !has("value") && !has("averageValue") => {
            Some(("averageValue", "must set either a target value or averageValue"))
        }
        "external" if !has("value") && !has("averageValue") => {
            let detail = "must set either a target value for metric or a per-pod target";
            Some(("averageValue", detail))
        }
        "pods" if !has("averageValue") => {
            Some(("averageValue", "must specify a positive target averageValue"))
        }
        "resource" | "containerResource" if !has("averageUtilization") && !has("averageValue") => {
            let detail = "must set either a target raw value or a target utilization";
            Some(("averageUtilization", detail))
        }
        _ => None,
    };
    if let Some((name, detail)) = missing {
        errors.required(&place.child(name), detail);
    }
    if field == "external" && has("value") && has("averageValue") {
        let detail = "may not set both a target value for metric and a per-pod target";
        errors.forbidden(&place.child("value"), detail);
    }
    let resource = matches!(field, "resource" | "containerResource");
    if resource && has("averageUtilization") && has("averageValue") {
        let detail = "may not set both a target raw value and a target utilization";
        errors.forbidden(&place.child("averageValue"), detail);
    }
}

fn metric_target(target: &Value, path: &Path, errors: &mut Errors) {
    let kind = target.text("type");
    if kind.is_empty() {
        errors.required(&path.child("type"), "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let detail = "must be either Utilization, Value, or AverageValue";
        errors.invalid(&path.child("type"), kind, detail);
    }
    for field in ["value", "averageValue"] {
        if let Some(value) = target.sub(field).filter(|value| quantity(value).signum() != 1) {
            errors.invalid(&path.child(field), quantity_text(value), "must be positive");
        }
    }
    if let Some(percent) = target.int("averageUtilization").filter(|percent| *percent < 1) {
        errors.invalid(&path.child("averageUtilization"), percent, "must be greater than 0");
    }
}
