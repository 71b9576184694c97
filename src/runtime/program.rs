//! The program that shims run: this one, seen through a read-only mount.
//!
//! A process on its way into a container is reachable from inside through `/proc/<pid>/exe`, and
//! whoever could write to that file would own the host (CVE-2019-5736). Through this mount nobody
//! can. It also keeps the program for running shims when the file on disk is replaced.

use std::fs::File;
use std::path::Path;

use linux::fs::identity;
use linux::mount::{self, Attributes, Propagation, RDONLY};

use crate::error::{Context, Result};

/// Shows the program at a path, read-only. One that is shown already stays.
pub(crate) fn provide(program: &Path, path: &Path) -> Result<()> {
    let wanted = File::open(program).and_then(identity).at("open", program)?;
    if File::open(path).and_then(identity).is_ok_and(|shown| shown == wanted) {
        return Ok(());
    }
    withdraw(path)?;
    let show = || -> std::io::Result<()> {
        let target = File::create(path)?;
        let tree = mount::clone_tree(program, false)?;
        let propagation = Some(Propagation::Private);
        Attributes { set: RDONLY, propagation, ..Default::default() }.apply(&tree)?;
        mount::attach(tree, target)
    };
    show().at("show the program at", path)
}

/// Takes the mount away. Shims that run keep the program. Idempotent.
pub(crate) fn withdraw(path: &Path) -> Result<()> {
    linux::namespace::unpin(path).at("unmount", path)
}
