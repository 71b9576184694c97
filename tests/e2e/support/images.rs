//! The images that scenarios run: made once from Debian's busybox, by the script of the demo.

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

use super::command::run;

/// The archive with all images.
pub fn archive() -> &'static Path {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("images.tar");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/demo/images");
        run(script, &[&path]).stdout();
        path
    })
}
