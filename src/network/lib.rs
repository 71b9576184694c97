//! The pod network, its addresses and the service proxy.
