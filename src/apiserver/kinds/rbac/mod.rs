//! `rbac.authorization.k8s.io`.

pub(crate) mod binding;
pub(crate) mod cluster_role;
pub(crate) mod role;
