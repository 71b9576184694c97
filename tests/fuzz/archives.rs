//! Image archives that try to get out of the folder that they are unpacked in.

use std::{fs, io::Write, path::Path};

use runtime::{Runtime, RuntimeConfig};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use crate::engine::{Random, fuzz, mutated};

/// Where an archive must not write; short, so that it fits into a header's name.
const OUTSIDE: &str = "/tmp/knarr-fuzz-outside";

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Adds an entry without the checks that the library makes for honest people.
fn entry(archive: &mut Builder<Vec<u8>>, kind: EntryType, name: &[u8], link: &[u8], body: &[u8]) {
    let mut header = Header::new_gnu();
    let fields = header.as_old_mut();
    let length = name.len().min(fields.name.len());
    fields.name[..length].copy_from_slice(&name[..length]);
    let length = link.len().min(fields.linkname.len());
    fields.linkname[..length].copy_from_slice(&link[..length]);
    header.set_entry_type(kind);
    header.set_mode(0o4755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(body.len() as u64);
    header.set_cksum();
    archive.append(&header, body).unwrap();
}

/// A layer of names that lead elsewhere.
fn layer(random: &mut Random) -> Vec<u8> {
    let outside = format!("{OUTSIDE}/file");
    let names = [
        "a",
        "a/b",
        "a/b/c",
        "./a",
        "../../../../../../../tmp/knarr-fuzz-outside/file",
        &outside,
        "a/../../x",
        "..",
        ".",
        "",
        "/",
        "a/.wh.b",
        "a/.wh..wh..opq",
        ".wh.",
        ".wh...",
        ".wh..",
        ".wh.a",
        "etc/passwd",
        "dev/null",
        "a//b",
        "a/b/",
        "proc/self/root/tmp/x",
    ];
    let kinds = [
        EntryType::Regular,
        EntryType::Regular,
        EntryType::Directory,
        EntryType::Symlink,
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::GNUSparse,
        EntryType::XHeader,
        EntryType::GNULongName,
        EntryType::GNULongLink,
    ];
    let links = [
        OUTSIDE,
        &outside,
        "/",
        "..",
        "../../../../../../../tmp/knarr-fuzz-outside",
        "a",
        "a/b",
        "/proc/self/cwd",
        "",
    ];
    let bodies: [&[u8]; 4] = [b"", b"body", b"19 path=/etc/passwd\n", b"../../../x\0"];
    let mut archive = Builder::new(Vec::new());
    for _ in 0..1 + random.below(8) {
        let (kind, name) = (*random.pick(&kinds), random.pick(&names).as_bytes());
        let (link, body) = (random.pick(&links).as_bytes(), *random.pick(&bodies));
        entry(&mut archive, kind, name, link, body);
    }
    archive.into_inner().unwrap()
}

/// An archive as `docker save` makes it, with one layer.
fn image(layer: &[u8], diff_id: &str) -> Vec<u8> {
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["sha256:{diff_id}"]}}}}"#
    );
    let name = format!("{}.json", hex(config.as_bytes()));
    let manifest = format!(
        r#"[{{"Config":"{name}","RepoTags":["evil.example/x:1"],"Layers":["l/layer.tar"]}}]"#
    );
    let mut archive = Builder::new(Vec::new());
    let files: [(&str, &[u8]); 3] = [
        (&name, config.as_bytes()),
        ("l/layer.tar", layer),
        ("manifest.json", manifest.as_bytes()),
    ];
    for (name, body) in files {
        entry(&mut archive, EntryType::Regular, name.as_bytes(), b"", body);
    }
    archive.into_inner().unwrap()
}

/// Imports into a store of its own; whether it was taken.
fn import(archive: &[u8]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    fs::write(&path, archive).unwrap();
    let config = RuntimeConfig {
        data_dir: folder.path().join("data"),
        run_dir: folder.path().join("run"),
        ..RuntimeConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let taken = runtime.block_on(async {
        let store = Runtime::image_store(&config).await.unwrap();
        store.import(&path).await.is_ok()
    });
    let mut there: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    there.sort();
    assert!(there.iter().all(|name| ["data", "image.tar", "run"].map(Into::into).contains(name)));
    taken
}

/// A file outside that has to stay as it is, and alone.
fn with_canary(work: impl FnOnce(&Path)) {
    let outside = Path::new(OUTSIDE);
    let _ = fs::remove_dir_all(outside);
    fs::create_dir(outside).unwrap();
    fs::write(outside.join("canary"), "alive").unwrap();
    work(outside);
    fs::remove_dir_all(outside).unwrap();
}

#[test]
fn no_archive_writes_outside_of_the_store() {
    with_canary(|outside| {
        fuzz(
            "archives",
            |random| {
                let layer = layer(random);
                let mut archive = image(&layer, &hex(&layer));
                if random.below(3) == 0 {
                    archive = mutated(random, &[archive], &["manifest.json", "../", "sha256:"]);
                }
                archive
            },
            |input| {
                import(input);
                let there: Vec<_> =
                    fs::read_dir(outside).unwrap().map(|e| e.unwrap().file_name()).collect();
                assert_eq!(there, ["canary"]);
                assert_eq!(fs::read(outside.join("canary")).unwrap(), b"alive");
            },
        );
    });
    // The honest one is taken, or nothing above would prove anything.
    let mut archive = Builder::new(Vec::new());
    entry(&mut archive, EntryType::Regular, b"a/file", b"", b"body");
    let layer = archive.into_inner().unwrap();
    assert!(import(&image(&layer, &hex(&layer))));
}

#[test]
fn a_small_layer_that_grows_without_end_is_refused() {
    // A file of 1 GiB of zeros, packed a thousandfold.
    const SIZE: u64 = 1 << 30;
    let mut header = Header::new_gnu();
    header.set_path("zeros").unwrap();
    header.set_size(SIZE);
    header.set_mode(0o644);
    header.set_cksum();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let mut sum = Sha256::new();
    let mut write = |bytes: &[u8]| {
        packed.write_all(bytes).unwrap();
        sum.update(bytes);
    };
    write(header.as_bytes());
    let zeros = vec![0; 1 << 20];
    for _ in 0..SIZE >> 20 {
        write(&zeros);
    }
    write(&[0; 1024]);
    let packed = packed.finish().unwrap();
    let diff_id: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(packed.len() < 2 << 20, "{}", packed.len());
    assert!(!import(&image(&packed, &diff_id)), "a bomb was taken");
}
