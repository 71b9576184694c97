//! Links, addresses, routes and nf_tables by netlink, without an async runtime.
