//! The HTTP edge of a node: Ingress rules followed live.
