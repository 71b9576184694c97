//! The controllers of a cluster, one file each.
//!
//! Each watches through the shared informers, queues the keys of what it looks after, and brings
//! one key at a time from the observed to the desired state. None keeps state that a restart would
//! miss. Adding one is a file and a line in [`CONTROLLERS`].

mod clusterrole_aggregation;
mod context;
mod counts;
mod cronjob;
mod csr;
mod daemonset;
mod deployment;
mod disruption;
mod endpoints;
mod endpointslice;
mod endpointslice_mirroring;
mod ephemeral_volume;
mod expectations;
mod finalizers;
mod garbage;
mod job;
mod manifests;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod ownership;
mod pod;
mod pod_batch;
mod pod_certificate_cleaner;
mod pod_claims;
mod pod_control;
mod pod_gc;
mod replicaset;
mod resource_quota;
mod resources;
mod revisions;
mod root_ca;
mod service_account;
mod service_lb;
mod service_pods;
mod statefulset;
mod status_patch;
mod taint_eviction;
mod volume_binder;
mod volume_protection;

use futures::future::BoxFuture;
use k8s_openapi::api::{apps::v1::ReplicaSet, core::v1::ReplicationController};
use tracing::info;

pub use crate::context::{Config, Context};

/// A controller: its upstream name and what runs it until the context's stop.
type Controller = (&'static str, fn(Context) -> BoxFuture<'static, ()>);

/// All controllers, in the order in which they start.
const CONTROLLERS: &[Controller] = &[
    ("serviceaccount-controller", |context| Box::pin(service_account::run(context))),
    ("root-ca-certificate-publisher-controller", |context| Box::pin(root_ca::run(context))),
    ("node-ipam-controller", |context| Box::pin(node_ipam::run(context))),
    ("node-lifecycle-controller", |context| Box::pin(node_lifecycle::run(context))),
    ("taint-eviction-controller", |context| Box::pin(taint_eviction::run(context))),
    ("service-lb-controller", |context| Box::pin(service_lb::run(context))),
    ("namespace-controller", |context| Box::pin(namespace::run(context))),
    ("generic-garbage-collector", |context| Box::pin(garbage::run(context))),
    ("endpointslice-controller", |context| Box::pin(endpointslice::run(context))),
    ("endpoints-controller", |context| Box::pin(endpoints::run(context))),
    ("endpointslicemirroring-controller", |context| {
        Box::pin(endpointslice_mirroring::run(context))
    }),
    ("persistentvolume-binder-controller", |context| Box::pin(volume_binder::run(context))),
    ("ephemeral-volume-controller", |context| Box::pin(ephemeral_volume::run(context))),
    ("persistentvolumeclaim-protection-controller", |context| {
        Box::pin(volume_protection::run_claims(context))
    }),
    ("persistentvolume-protection-controller", |context| {
        Box::pin(volume_protection::run_volumes(context))
    }),
    ("volumeattributesclass-protection-controller", |context| {
        Box::pin(volume_protection::run_attributes_classes(context))
    }),
    ("deployment-controller", |context| Box::pin(deployment::run(context))),
    ("replicaset-controller", |context| Box::pin(replicaset::run::<ReplicaSet>(context))),
    ("replication-controller", |context| {
        Box::pin(replicaset::run::<ReplicationController>(context))
    }),
    ("daemonset-controller", |context| Box::pin(daemonset::run(context))),
    ("statefulset-controller", |context| Box::pin(statefulset::run(context))),
    ("job-controller", |context| Box::pin(job::run(context))),
    ("cronjob-controller", |context| Box::pin(cronjob::run(context))),
    ("resourcequota-controller", |context| Box::pin(resource_quota::run(context))),
    ("disruption-controller", |context| Box::pin(disruption::run(context))),
    ("pod-garbage-collector-controller", |context| Box::pin(pod_gc::run(context))),
    ("clusterrole-aggregation-controller", |context| {
        Box::pin(clusterrole_aggregation::run(context))
    }),
    ("certificatesigningrequest-approving-controller", |context| {
        Box::pin(csr::run_approver(context))
    }),
    ("certificatesigningrequest-signing-controller", |context| Box::pin(csr::run_signer(context))),
    ("certificatesigningrequest-cleaner-controller", |context| Box::pin(csr::run_cleaner(context))),
    ("podcertificaterequest-cleaner-controller", |context| {
        Box::pin(pod_certificate_cleaner::run(context))
    }),
    ("manifests-controller", |context| Box::pin(manifests::run(context))),
];

/// Runs all controllers until the context's stop.
pub async fn run(context: Context) {
    let running: Vec<_> = CONTROLLERS
        .iter()
        .map(|(name, start)| {
            let context = context.named(name);
            tokio::spawn(start(context))
        })
        .collect();
    info!(count = running.len(), "controllers started");
    for task in running {
        // A controller that panicked was logged by the panic hook; the others go on.
        let _ = task.await;
    }
}
