use super::*;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use tar::{Builder, Header};

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("knarr-unpack-{name}-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("layer")).unwrap();
        Dir(dir)
    }
    fn layer(&self) -> PathBuf {
        self.0.join("layer")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An archive whose entries may be anything.
struct Hostile(Builder<Vec<u8>>);

impl Hostile {
    fn new() -> Hostile {
        Hostile(Builder::new(Vec::new()))
    }
    fn entry(mut self, path: &str, kind: EntryType, content: &str) -> Hostile {
        let mut header = Header::new_gnu();
        // Not through set_path, which is too polite.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        let link = matches!(kind, EntryType::Link | EntryType::Symlink);
        if link {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        let data = if link { "" } else { content };
        header.set_size(data.len() as u64);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        header.set_cksum();
        self.0.append(&header, data.as_bytes()).unwrap();
        self
    }
    fn file(self, path: &str, content: &str) -> Hostile {
        self.entry(path, EntryType::Regular, content)
    }
    fn dir(self, path: &str) -> Hostile {
        self.entry(path, EntryType::Directory, "")
    }
    fn link(self, path: &str, target: &str) -> Hostile {
        self.entry(path, EntryType::Symlink, target)
    }
    fn hard(self, path: &str, target: &str) -> Hostile {
        self.entry(path, EntryType::Link, target)
    }
    fn unpack(self, dir: &Dir) -> io::Result<Unpacked> {
        unpack(&self.0.into_inner().unwrap()[..], &dir.layer())
    }
}

#[test]
fn paths_that_want_out_are_refused() {
    for path in ["../evil", "a/../../evil", "/../evil", "a/b/../../../evil"] {
        let dir = Dir::new("dots");
        let error = Hostile::new().file(path, "x").unpack(&dir).unwrap_err();
        assert!(error.to_string().contains("leaves the layer"), "{path}: {error}");
        assert!(!dir.0.join("evil").exists());
    }
    let dir = Dir::new("hard");
    std::fs::write(dir.0.join("secret"), "s").unwrap();
    let error = Hostile::new().hard("a", "../secret").unpack(&dir).unwrap_err();
    assert!(error.to_string().contains("leaves the layer"), "{error}");
}

#[test]
fn links_do_not_lead_out() {
    let dir = Dir::new("links");
    std::fs::write(dir.0.join("secret"), "s").unwrap();
    let outside = dir.0.to_str().unwrap().to_owned();
    Hostile::new()
        .link("up", "..")
        .file("up/evil", "x")
        .link("abs", &outside)
        .file("abs/evil", "x")
        .link("file", &format!("{outside}/secret"))
        // Replaces the link, does not write through it.
        .file("file", "own")
        .unpack(&dir)
        .unwrap();
    assert!(!dir.0.join("evil").exists());
    assert_eq!(std::fs::read_to_string(dir.0.join("secret")).unwrap(), "s");
    assert_eq!(std::fs::read_to_string(dir.layer().join("evil")).unwrap(), "x");
    assert_eq!(std::fs::read_to_string(dir.layer().join("file")).unwrap(), "own");
    // A hard link through a link finds nothing of the host either.
    let other = Dir::new("links2");
    std::fs::write(other.0.join("secret"), "s").unwrap();
    let error =
        Hostile::new().link("up", "..").hard("mine", "up/secret").unpack(&other).unwrap_err();
    assert!(error.to_string().contains("the layer lacks"), "{error}");
    // Nor does a folder that becomes a link while it is being filled.
    let third = Dir::new("links3");
    Hostile::new()
        .dir("d")
        .file("d/one", "1")
        .link("d", "../")
        .file("d/evil", "x")
        .unpack(&third)
        .unwrap();
    assert!(!third.0.join("evil").exists() && third.layer().join("evil").exists());
}

#[test]
fn a_planted_link_is_not_followed() {
    // As if something had been in the folder before.
    let dir = Dir::new("planted");
    symlink(&dir.0, dir.layer().join("out")).unwrap();
    Hostile::new().file("out/evil", "x").unpack(&dir).unwrap();
    assert!(!dir.0.join("evil").exists());
}

#[test]
fn whiteouts_and_opaque_folders() {
    let dir = Dir::new("whiteout");
    Hostile::new()
        .dir("etc")
        .file("etc/.wh.gone", "")
        .file("opaque/.wh..wh..opq", "")
        .file(".wh..wh.plnk", "")
        // Order does not matter: what the layer has itself stays.
        .file("etc/.wh.kept", "")
        .file("etc/kept", "k")
        .file("etc/first", "f")
        .file("etc/.wh.first", "")
        .file(".wh.again", "")
        .dir("again")
        .unpack(&dir)
        .unwrap();
    let layer = dir.layer();
    let gone = layer.join("etc/gone").symlink_metadata().unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert_eq!(std::fs::read_to_string(layer.join("etc/kept")).unwrap(), "k");
    assert_eq!(std::fs::read_to_string(layer.join("etc/first")).unwrap(), "f");
    let opaque = |path: &str| fs::get_xattr(&layer.join(path), "trusted.overlay.opaque").unwrap();
    assert_eq!(opaque("opaque"), Some(b"y".to_vec()));
    assert_eq!(opaque("again"), Some(b"y".to_vec()), "removed below and made anew");
    assert_eq!(opaque("etc"), None);
    assert!(!layer.join(".wh..wh.plnk").exists());
    for bad in [".wh.", "a/.wh..", "a/.wh..."] {
        assert!(Hostile::new().file(bad, "").unpack(&Dir::new("badwh")).is_err(), "{bad}");
    }
}

#[test]
fn attributes_arrive() {
    let dir = Dir::new("attributes");
    let mut builder = Builder::new(Vec::new());
    let big = 3_000_000u64;
    builder
        .append_pax_extensions([
            ("SCHILY.xattr.user.note", b"n".as_slice()),
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("uid", big.to_string().as_bytes()),
        ])
        .unwrap();
    let mut header = Header::new_ustar();
    header.set_path("bin/tool").unwrap();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o4755);
    header.set_uid(7);
    header.set_gid(8);
    header.set_mtime(1_500_000_000);
    header.set_size(4);
    header.set_cksum();
    builder.append(&header, &b"tool"[..]).unwrap();
    let unpacked = unpack(&builder.into_inner().unwrap()[..], &dir.layer()).unwrap();
    let path = dir.layer().join("bin/tool");
    let metadata = path.metadata().unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (big as u32, 8));
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o4755, "set-uid survives the chown");
    assert_eq!(metadata.mtime(), 1_500_000_000);
    assert_eq!(fs::get_xattr(&path, "user.note").unwrap(), Some(b"n".to_vec()));
    assert_eq!(fs::get_xattr(&path, "trusted.overlay.redirect").unwrap(), None);
    assert_eq!(unpacked.implied, [PathBuf::from("bin")]);
    assert_eq!((unpacked.bytes, unpacked.inodes), (4, 1));
}

#[test]
fn kinds_of_entries() {
    let dir = Dir::new("kinds");
    let unpacked = Hostile::new()
        .dir("./")
        .dir("d")
        .file("d/file", "content")
        .hard("d/hard", "d/file")
        .link("d/sym", "file")
        .entry("d/fifo", EntryType::Fifo, "")
        .entry("d/char", EntryType::Char, "")
        .dir("late/sub")
        .dir("late")
        .unpack(&dir)
        .unwrap();
    let layer = dir.layer();
    assert_eq!(std::fs::read_to_string(layer.join("d/hard")).unwrap(), "content");
    assert_eq!(layer.join("d/file").metadata().unwrap().nlink(), 2);
    assert_eq!(std::fs::read_link(layer.join("d/sym")).unwrap(), Path::new("file"));
    assert!(layer.join("d/fifo").metadata().unwrap().file_type().is_fifo());
    assert_eq!(layer.join("d").metadata().unwrap().mtime(), 1_000_000);
    assert!(unpacked.implied.is_empty(), "it came later: {:?}", unpacked.implied);
    // A folder that replaces a file, a file that replaces a folder.
    let swap = Dir::new("swap");
    Hostile::new().file("a", "x").dir("a").dir("b/c").file("b", "y").unpack(&swap).unwrap();
    assert!(swap.layer().join("a").is_dir());
    assert_eq!(std::fs::read_to_string(swap.layer().join("b")).unwrap(), "y");
}

#[test]
fn broken_archives_are_errors() {
    let good = Hostile::new().file("a", &"x".repeat(5000)).0.into_inner().unwrap();
    for cut in [100, 512, 3000] {
        assert!(unpack(&good[..cut], &Dir::new("cut").layer()).is_err(), "cut at {cut}");
    }
    let mut noise = good.clone();
    noise[0] ^= 0xff;
    assert!(unpack(&noise[..], &Dir::new("noise").layer()).is_err(), "checksum");
    assert!(unpack(&[0x55; 2048][..], &Dir::new("junk").layer()).is_err());
}
