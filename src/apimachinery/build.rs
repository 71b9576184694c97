//! Compresses the tables of `embedded/schema`: the binary carries 80 KB of them instead of 800 KB.

use std::{env, fs, io::Write, path::PathBuf};

use flate2::{Compression, write::DeflateEncoder};

fn main() -> std::io::Result<()> {
    let table = PathBuf::from("../../embedded/schema");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or(std::io::ErrorKind::NotFound)?);
    for name in ["types", "defaults", "descriptions", "resources"] {
        let path = table.join(name).with_extension("txt");
        println!("cargo::rerun-if-changed={}", path.display());
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&fs::read(&path)?)?;
        fs::write(out.join(name).with_extension("deflate"), encoder.finish()?)?;
    }
    Ok(())
}
