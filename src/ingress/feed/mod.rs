//! The agent's side: Ingresses and what they name become [`Update`](crate::Update)s.

mod convert;

pub use convert::{
    CONTROLLER, Classes, SERVICE_NAME_LABEL, certificate, ingress, secret_names, service,
    service_names,
};
