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
        let folder = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, Into::into);
        let path = folder.join("knarr-images.tar");
        // The root of the checkout is that of the tests' package, or above it.
        let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let script = above.map(|root| root.join("demo/images")).find(|script| script.exists());
        run(script.unwrap().to_str().unwrap(), &[&path]).stdout();
        path
    })
}
