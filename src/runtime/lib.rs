//! Images, layers, sandboxes, containers and the shim that owns them.
