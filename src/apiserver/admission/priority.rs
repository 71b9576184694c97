//! Priority: a pod gets the number and preemption policy that its class stands for.

use apimachinery::Status;
use async_trait::async_trait;
use serde_json::Value;

use super::{AdmissionRequest, Call, Plugin, text};
use crate::kinds::value::{Fields as _, set_default};

pub(super) struct Priority;

const GROUP: &str = "scheduling.k8s.io";

#[async_trait]
impl Plugin for Priority {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        (request.creates() || request.updates())
            && (request.is_object("", "pods") || request.is_object(GROUP, "priorityclasses"))
    }

    async fn mutate(&self, call: &Call<'_>, pod: &mut Value) -> Result<(), Status> {
        let request = call.request;
        if !request.is("", "pods") {
            return Ok(());
        }
        if request.updates() {
            for field in ["priority", "preemptionPolicy"] {
                if let Some(was) = request.old()["spec"].sub(field) {
                    set_default(&mut pod["spec"], field, was.clone());
                }
            }
            return Ok(());
        }
        let Resolved { name, priority, policy } = resolve(call, pod)?;
        if !name.is_empty() {
            pod["spec"]["priorityClassName"] = name.into();
        }
        if let Some(own) = pod["spec"].int("priority").filter(|own| *own != priority) {
            let why = format!(
                "the integer value of priority ({own}) must not be provided in pod spec; priority \
                 admission controller computed {priority} from the given PriorityClass name"
            );
            return Err(request.forbidden(pod, &why));
        }
        pod["spec"]["priority"] = priority.into();
        let Some(policy) = policy else { return Ok(()) };
        if let Some(own) = pod["spec"].opt_text("preemptionPolicy").filter(|own| *own != policy) {
            let why = format!(
                "the string value of PreemptionPolicy ({own}) must not be provided in pod spec; \
                 priority admission controller computed {policy} from the given PriorityClass name"
            );
            return Err(request.forbidden(pod, &why));
        }
        pod["spec"]["preemptionPolicy"] = policy.into();
        Ok(())
    }

    async fn validate(&self, call: &Call<'_>, class: &Value) -> Result<(), Status> {
        if call.request.is("", "pods") || !class.on("globalDefault") {
            return Ok(());
        }
        let Some(default) = default_class(call) else { return Ok(()) };
        let name = text(&default["metadata"], "name");
        if call.request.updates() && name == text(&class["metadata"], "name") {
            return Ok(());
        }
        let why = format!(
            "PriorityClass {name} is already marked as default. Only one default can exist"
        );
        Err(call.request.forbidden(class, &why))
    }
}

struct Resolved {
    name: String,
    priority: i64,
    policy: Option<String>,
}

fn resolve(call: &Call<'_>, pod: &Value) -> Result<Resolved, Status> {
    let named = |class: &Value| Resolved {
        name: text(&class["metadata"], "name").to_owned(),
        priority: class.int("value").unwrap_or_default(),
        policy: class.opt_text("preemptionPolicy").map(ToOwned::to_owned),
    };
    let name = pod["spec"].text("priorityClassName");
    if name.is_empty() {
        return Ok(default_class(call).as_ref().map_or_else(
            || Resolved {
                name: String::new(),
                priority: 0,
                policy: Some("PreemptLowerPriority".to_owned()),
            },
            named,
        ));
    }
    match call.get(GROUP, "priorityclasses", "", name) {
        Some(class) => Ok(named(&class)),
        None => {
            let why = format!("no PriorityClass with name {name} was found");
            Err(call.request.forbidden(pod, &why))
        }
    }
}

/// The class of pods that name none; of several, which only a race makes, the lowest.
fn default_class(call: &Call<'_>) -> Option<Value> {
    let classes = call.list(GROUP, "priorityclasses")?;
    let classes = classes.iter().filter_map(|class| super::value(class));
    classes
        .filter(|class| class.on("globalDefault"))
        .reduce(|best, class| if class.int("value") < best.int("value") { class } else { best })
}
