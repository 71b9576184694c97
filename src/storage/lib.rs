//! Where objects live: a durable backend, revisions and the one watch cache of a server.
