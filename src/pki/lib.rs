//! The certificate authorities, certificates, service account tokens and kubeconfigs of a cluster.
