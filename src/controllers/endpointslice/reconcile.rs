//! From the slices that are there to those that should be, with as few writes as possible.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::{
    api::discovery::v1::{Endpoint, EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::endpoints::{Backend, Ports, from_slice_ports, to_slice_ports};

/// The writes that lead to the wanted state.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) create: Vec<EndpointSlice>,
    pub(crate) update: Vec<EndpointSlice>,
    pub(crate) delete: Vec<EndpointSlice>,
}

/// What all slices of one service and family of addresses have in common.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// `IPv4` or `IPv6`.
    pub(crate) address_type: &'static str,
    /// Endpoints in one slice at the most.
    pub(crate) largest: usize,
    /// Whether a service without any endpoint keeps one empty slice, by which clients see that it
    /// was looked at.
    pub(crate) keeps_empty: bool,
    /// Labels, owners, namespace and what names begin with; annotations are left alone if none
    /// are given.
    pub(crate) meta: ObjectMeta,
}

/// Plans the writes. Slices of other families are left alone.
pub(crate) fn plan(
    existing: Vec<EndpointSlice>,
    mut wanted: BTreeMap<Ports, Vec<Backend>>,
    shape: &Shape,
) -> Plan {
    if wanted.is_empty() && shape.keeps_empty {
        wanted.insert(Ports::new(), Vec::new());
    }
    let mut plan = Plan::default();
    let mut by_ports: BTreeMap<Ports, Vec<EndpointSlice>> = BTreeMap::new();
    for slice in existing {
        if slice.address_type != shape.address_type {
            continue;
        }
        let ports = from_slice_ports(slice.ports.as_deref());
        if wanted.contains_key(&ports) {
            by_ports.entry(ports).or_default().push(slice);
        } else {
            plan.delete.push(slice);
        }
    }
    for (ports, backends) in wanted {
        let slices = by_ports.remove(&ports).unwrap_or_default();
        plan_group(&mut plan, &ports, backends, slices, shape);
    }
    plan
}

/// What tells endpoints apart: the pod and the address.
fn identity(endpoint: &Endpoint) -> (String, Vec<String>) {
    let pod = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    (pod.unwrap_or_default(), endpoint.addresses.clone())
}

fn plan_group(
    plan: &mut Plan,
    ports: &Ports,
    backends: Vec<Backend>,
    slices: Vec<EndpointSlice>,
    shape: &Shape,
) {
    let count = backends.len();
    let mut missing: HashMap<_, Backend> =
        backends.into_iter().map(|backend| (identity(&backend), backend)).collect();
    // Endpoints stay in the slice that they are in, in their order.
    let mut kept: Vec<(EndpointSlice, Vec<Endpoint>)> = slices
        .into_iter()
        .map(|slice| {
            let endpoints = slice.endpoints.iter().flatten();
            let stay = endpoints.filter_map(|e| missing.remove(&identity(e))).collect();
            (slice, stay)
        })
        .collect();
    let mut new: Vec<Backend> = missing.into_values().collect();
    new.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    let mut new = new.into_iter();
    // The rest fills slices that are written anyway, then those with room, then new ones.
    kept.sort_by_key(|(slice, stay)| unchanged(slice, stay, shape));
    let mut filled_any = false;
    for (mut slice, mut endpoints) in kept {
        let room = shape.largest.saturating_sub(endpoints.len());
        endpoints.extend(new.by_ref().take(room));
        if endpoints.is_empty() && (count > 0 || filled_any) {
            plan.delete.push(slice);
            continue;
        }
        filled_any = true;
        if !unchanged(&slice, &endpoints, shape) {
            slice.endpoints = Some(endpoints);
            slice.metadata.labels.clone_from(&shape.meta.labels);
            if shape.meta.annotations.is_some() {
                slice.metadata.annotations.clone_from(&shape.meta.annotations);
            }
            slice.metadata.owner_references.clone_from(&shape.meta.owner_references);
            plan.update.push(slice);
        }
    }
    loop {
        let endpoints: Vec<Endpoint> = new.by_ref().take(shape.largest).collect();
        if endpoints.is_empty() && filled_any {
            break;
        }
        filled_any = true;
        plan.create.push(EndpointSlice {
            metadata: shape.meta.clone(),
            address_type: shape.address_type.to_owned(),
            endpoints: Some(endpoints),
            ports: Some(to_slice_ports(ports)),
        });
    }
}

fn unchanged(slice: &EndpointSlice, endpoints: &[Endpoint], shape: &Shape) -> bool {
    let (is, meant) = (&slice.metadata, &shape.meta);
    slice.endpoints.as_deref().unwrap_or_default() == endpoints
        && is.labels.as_ref().unwrap_or(&BTreeMap::new())
            == meant.labels.as_ref().unwrap_or(&BTreeMap::new())
        && (meant.annotations.is_none() || is.annotations == meant.annotations)
        && is.owner_references.as_deref().unwrap_or_default()
            == meant.owner_references.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ObjectReference;

    use super::*;

    fn backend(uid: usize) -> Backend {
        Endpoint {
            // Three digits each: in the order of numbers and of texts.
            addresses: vec![format!("10.0.{}.{}", uid / 100 + 100, uid % 100 + 100)],
            target_ref: Some(ObjectReference { uid: Some(uid.to_string()), ..Default::default() }),
            ..Endpoint::default()
        }
    }

    fn http() -> Ports {
        vec![("http".to_owned(), "TCP".to_owned(), 80, None)]
    }

    fn run(existing: Vec<EndpointSlice>, uids: std::ops::Range<usize>) -> Plan {
        let wanted = match uids.is_empty() {
            true => BTreeMap::new(),
            false => BTreeMap::from([(http(), uids.map(backend).collect())]),
        };
        plan(existing, wanted, &shape())
    }

    fn shape() -> Shape {
        Shape { address_type: "IPv4", largest: 100, keeps_empty: true, ..Shape::default() }
    }

    fn sizes(slices: &[EndpointSlice]) -> Vec<usize> {
        slices.iter().map(|slice| slice.endpoints.as_ref().unwrap().len()).collect()
    }

    #[test]
    fn slices_hold_a_hundred_endpoints_and_changes_touch_few() {
        let first = run(vec![], 0..250);
        assert_eq!(sizes(&first.create), [100, 100, 50]);
        let same = run(first.create.clone(), 0..250);
        assert!(same.create.is_empty() && same.update.is_empty() && same.delete.is_empty());
        let more = run(first.create.clone(), 0..251);
        assert!(more.create.is_empty());
        assert_eq!(sizes(&more.update), [51], "one slice has room");
        let fewer = run(first.create, 0..200);
        assert_eq!((fewer.update.len(), fewer.delete.len()), (0, 1));
    }

    #[test]
    fn a_service_without_endpoints_keeps_one_empty_slice() {
        let none = run(vec![], 0..0);
        assert_eq!(sizes(&none.create), [0]);
        let same = run(none.create, 0..0);
        assert!(same.create.is_empty() && same.update.is_empty() && same.delete.is_empty());
    }

    #[test]
    fn other_ports_mean_other_slices() {
        let before = run(vec![], 0..1).create;
        let mut ports = http();
        ports[0].2 = 8080;
        let wanted = BTreeMap::from([(ports, vec![backend(0)])]);
        let after = plan(before, wanted, &shape());
        assert_eq!((after.create.len(), after.delete.len()), (1, 1));
    }
}
