//! What a cluster gets beyond what upstream's API server makes: objects that stand for our own
//! parts. Made once; whoever changes or removes them has the last word until the next start.

use client::{Client, Error, PostParams, is_already_exists};
use k8s_openapi::api::networking::v1::IngressClass;
use serde_json::json;
use tracing::warn;

use crate::config::{Part, ServerOptions};

/// Makes the objects of the parts that run.
pub(crate) async fn make(client: &Client, options: &ServerOptions) {
    if options.disabled(Part::Ingress) {
        return;
    }
    if let Err(error) = ingress_class(client).await {
        warn!(%error, "ingress class not made");
    }
}

/// The class `knarr`, which Ingresses without a class belong to.
async fn ingress_class(client: &Client) -> Result<(), Error> {
    let class = json!({
        "metadata": {
            "name": "knarr",
            "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"},
        },
        "spec": {"controller": ingress::feed::CONTROLLER},
    });
    let class: IngressClass = serde_json::from_value(class).map_err(Error::SerdeError)?;
    match client.cluster::<IngressClass>().create(&PostParams::default(), &class).await {
        Err(error) if !is_already_exists(&error) => Err(error),
        _ => Ok(()),
    }
}
