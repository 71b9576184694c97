//! HTTP: the port, TLS, what requests ask and the form of answers.

pub mod accept;
pub mod body;
pub mod client;
pub mod decode;
pub mod gzip;
pub mod info;
pub mod listener;
pub mod query;
pub mod router;
pub mod tls;
pub mod yaml;
