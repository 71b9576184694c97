//! How much of something a device has, and how it may be shared out.

use apimachinery::{
    field::{FieldError, Path},
    quantity::Quantity,
};
use serde_json::Value;

use super::{device::key, parts};
use crate::kinds::{
    validation::{Errors, NOT_NEGATIVE, Report as _, quantity},
    value::Fields as _,
};

const MOST_OPTIONS: usize = 10;

/// The capacities of a device.
pub(super) fn validate(device: &Value, path: &Path, errors: &mut Errors) {
    let shared = device.on("allowMultipleAllocations");
    let path = path.child("capacity");
    for (name, capacity) in device.entries("capacity") {
        parts::qualified_name(name, &path, errors);
        let Some(policy) = capacity.sub("requestPolicy") else { continue };
        let path = key(&path, name).child("requestPolicy");
        if shared {
            request_policy(quantity(&capacity["value"]), policy, &path, errors);
        } else {
            errors.forbidden(&path, "allowMultipleAllocations must be true");
        }
    }
}

fn request_policy(most: Quantity, policy: &Value, path: &Path, errors: &mut Errors) {
    let options: Vec<Quantity> = policy.list("validValues").iter().map(quantity).collect();
    let default = policy.sub("default").map(quantity);
    match (options.is_empty(), policy.sub("validRange")) {
        (true, None) => {}
        (false, Some(_)) => {
            let detail = "exactly one policy can be specified, cannot specify \"validValues\" and \
                          \"validRange\" at the same time";
            errors.forbidden(path, detail);
        }
        (false, None) => match default {
            None => errors.required(&path.child("default"), "required when validValues is defined"),
            Some(default) => {
                valid_values(default, most, &options, &path.child("validValues"), errors);
            }
        },
        (true, Some(range)) => match default {
            None => errors.required(&path.child("default"), "required when validRange is defined"),
            Some(default) => valid_range(default, most, range, &path.child("validRange"), errors),
        },
    }
}

fn valid_values(
    default: Quantity,
    most: Quantity,
    options: &[Quantity],
    path: &Path,
    errors: &mut Errors,
) {
    for (at, pair) in options.windows(2).enumerate() {
        if pair[0] > pair[1] {
            let detail = "values must be sorted in ascending order";
            errors.invalid(&path.index(at + 1), pair[1].to_string(), detail);
        }
    }
    if options.len() > MOST_OPTIONS {
        errors.push(FieldError::too_many(path, options.len(), MOST_OPTIONS));
    } else {
        for (at, option) in options.iter().enumerate() {
            if *option > most {
                let detail = format!("option is larger than capacity value: {most}");
                errors.invalid(&path.index(at), option.to_string(), &detail);
            }
        }
        for (at, option) in options.iter().enumerate() {
            if options[..at].contains(option) {
                errors.duplicate(&path.index(at), option.to_string());
            }
        }
    }
    if options.len() > MOST_OPTIONS || !options.contains(&default) {
        let detail = "default value is not valid according to the requestPolicy";
        errors.invalid(path, default.to_string(), detail);
    }
}

fn valid_range(default: Quantity, most: Quantity, range: &Value, path: &Path, errors: &mut Errors) {
    let [min, max, step] = ["min", "max", "step"].map(|field| range.sub(field).map(quantity));
    let Some(min) = min else {
        return errors.required(&path.child("min"), "required when validRange is defined");
    };
    let mut invalid = |field: &str, value: Quantity, detail: String| {
        errors.invalid(&path.child(field), value.to_string(), &detail);
    };
    if min > most {
        invalid("min", min, format!("min is larger than capacity value: {most}"));
    }
    if default < min {
        invalid("default", default, format!("default is less than min: {min}"));
    }
    if let Some(max) = max {
        if min > max {
            invalid("max", min, format!("min is larger than max: {max}"));
        }
        if max > most {
            invalid("max", max, format!("max is larger than capacity value: {most}"));
        }
        if default > max {
            invalid("default", default, format!("default is more than max: {max}"));
        }
    }
    let all = [("default", Some(default)), ("min", Some(min)), ("max", max), ("step", step)];
    let all = || all.iter().filter_map(|(field, value)| Some((*field, (*value)?)));
    let in_milli = |value: Quantity| Quantity::from_scaled(value.milli_value(), -3) == value;
    let fractional = all().any(|(_, value)| Quantity::from_scaled(value.value(), 0) != value);
    if fractional {
        let detail = "value cannot be represented as a milli value";
        let mut exact = true;
        for (field, value) in all().filter(|(_, value)| !in_milli(*value)) {
            invalid(field, value, detail.to_owned());
            exact = false;
        }
        if !exact {
            return;
        }
    }
    let Some(step) = step else { return };
    if step.signum() <= 0 {
        return invalid("step", step, "must be greater than zero".to_owned());
    }
    if min + step > most {
        let detail = format!("one step {} is larger than capacity value: {most}", min + step);
        invalid("step", step, detail);
    }
    let largest = Quantity::from_scaled(i64::MAX, 0);
    let mut safe = true;
    for (field, value) in all().filter(|_| !fractional) {
        if value.signum() < 0 {
            invalid(field, value, NOT_NEGATIVE.to_owned());
        } else if value > largest {
            invalid(field, value, "must not be larger than 9223372036854775807".to_owned());
        } else {
            continue;
        }
        safe = false;
    }
    if !safe {
        return;
    }
    let number = |of: Quantity| if fractional { of.milli_value() } else { of.value() };
    for value in [Some(default), max].into_iter().flatten() {
        let above = i128::from(number(value)) - i128::from(number(min));
        if above % i128::from(number(step)) != 0 {
            let detail = format!("value is not a multiple of a given step ({step}) from ({min})");
            invalid("step", value, detail);
        }
    }
}
