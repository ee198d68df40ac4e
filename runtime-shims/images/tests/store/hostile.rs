//! Layers that want out of their folder, or too much.
//!
//! Must not know: the crate's inside.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use pintle_images::{ErrorKind, Limits, Result, Unpacked, unpack};
use proptest::prelude::*;
use tar::EntryType;

use crate::images::{Layer, Tar, noise};
use crate::pulling::xattr;

/// A folder for a layer, and beside it what a layer must not reach.
struct Cage {
    dir: tempfile::TempDir,
}

impl Cage {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("root")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        fs::write(dir.path().join("outside/secret"), "secret").unwrap();
        fs::set_permissions(dir.path().join("outside/secret"), fs::Permissions::from_mode(0o600)).unwrap();
        Self { dir }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    fn outside(&self) -> String {
        self.dir.path().join("outside").display().to_string()
    }

    fn unpack(&self, layer: Vec<u8>) -> Result<Unpacked> {
        unpack(Cursor::new(layer), &self.root(), &Limits::default())
    }

    fn assert_untouched(&self) {
        let mut names: Vec<String> = names(self.dir.path());
        names.sort();
        assert_eq!(names, ["outside", "root"]);
        assert_eq!(names_of(&self.dir.path().join("outside")), ["secret"]);
        let secret = self.dir.path().join("outside/secret");
        let status = fs::metadata(&secret).unwrap();
        assert_eq!((status.nlink(), status.mode() & 0o7777, status.uid()), (1, 0o600, 0));
        assert_eq!(fs::read_to_string(secret).unwrap(), "secret");
    }
}

fn names(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
}

fn names_of(dir: &Path) -> Vec<String> {
    let mut found = names(dir);
    found.sort();
    found
}

fn refusal(layer: Vec<u8>) -> (ErrorKind, String) {
    let cage = Cage::new();
    let error = cage.unpack(layer).unwrap_err();
    cage.assert_untouched();
    (error.kind(), error.to_string())
}

#[test]
fn dots_and_absolute_paths_lead_nowhere_else() {
    for path in ["../evil", "a/../../evil", "/../evil", "..", "a/.."] {
        assert_eq!(refusal(Tar::new().file(path, b"x").end()).0, ErrorKind::Refused, "{path}");
    }
    let cage = Cage::new();
    cage.unpack(Tar::new().file("/etc/passwd", b"x").file("./b//c", b"x").end()).unwrap();
    assert_eq!(fs::read_to_string(cage.root().join("etc/passwd")).unwrap(), "x");
    assert!(cage.root().join("b/c").exists());
    cage.assert_untouched();
}

#[test]
fn links_lead_to_places_inside() {
    let cage = Cage::new();
    let outside = cage.outside();
    let layer = Tar::new()
        .symlink("absolute", &outside)
        .file("absolute/evil", b"x")
        .symlink("up", "../../../../../../../../etc")
        .file("up/evil", b"x")
        .dir("d", 0o755)
        .symlink("d/up", "../..")
        .file("d/up/evil", b"x")
        .symlink("magic", "/proc/self/root")
        .file("magic/evil", b"x");
    cage.unpack(layer.end()).unwrap();
    for inside in ["etc/evil", "evil", "proc/self/root/evil", &format!("{}/evil", outside.trim_start_matches('/'))] {
        assert!(cage.root().join(inside).is_file(), "{inside}");
    }
    cage.assert_untouched();
    assert!(!Path::new("/evil").exists() && !Path::new("/etc/evil").exists());
}

#[test]
fn extensions_of_one_member_have_a_bound_together() {
    let value = vec![b'x'; 60 << 10];
    let said = |times: usize| (0..times).fold(Tar::new(), |tar, _| tar.pax(&[("comment", &value)]));
    let (kind, text) = refusal(said(80).file("a", b"x").end());
    assert!(kind == ErrorKind::Refused && text.contains("4 MiB"), "{text}");
    Cage::new().unpack(said(10).file("a", b"x").end()).unwrap();
}

/// Each link leads to where the one before it ends, some thousand folders further down.
#[test]
fn folders_deeper_than_any_path_are_replaced_like_others() {
    let below = "d/".repeat(1_000);
    let mut layer = Tar::new().pax(&[("path", below.as_bytes())]).dir("", 0o755);
    let mut end = below.clone();
    for n in 0..4 {
        let link = format!("l{n}");
        layer = layer.pax(&[("linkpath", end.as_bytes())]).symlink(&link, "");
        end = format!("{link}/{below}");
        layer = layer.pax(&[("path", end.as_bytes())]).dir("", 0o755);
    }
    let cage = Cage::new();
    cage.unpack(layer.file("d", b"replaced").end()).unwrap();
    assert_eq!(fs::read(cage.root().join("d")).unwrap(), b"replaced");
    cage.assert_untouched();
}

#[test]
fn a_link_is_replaced_and_never_written_through() {
    let cage = Cage::new();
    let secret = format!("{}/secret", cage.outside());
    let layer = Tar::new()
        .symlink("file", &secret)
        .file("file", b"mine")
        .symlink("dir", &cage.outside())
        .dir("dir", 0o777)
        .file("dir/evil", b"x")
        .symlink("gone", &cage.outside())
        .file(".wh.gone", b"");
    cage.unpack(layer.end()).unwrap();
    assert_eq!(fs::read_to_string(cage.root().join("file")).unwrap(), "mine");
    assert!(cage.root().join("dir").symlink_metadata().unwrap().is_dir());
    cage.assert_untouched();
}

#[test]
fn hard_links_reach_only_what_the_layer_has() {
    let cage = Cage::new();
    let secret = format!("{}/secret", cage.outside());
    drop(cage);
    for target in [secret.as_str(), "/etc/passwd", "nothing"] {
        let (kind, text) = refusal(Tar::new().hardlink("evil", target).end());
        assert!(kind == ErrorKind::Corrupt && text.contains("no such file"), "{target}: {text}");
    }
    assert_eq!(refusal(Tar::new().hardlink("evil", "../outside/secret").end()).0, ErrorKind::Refused);
    let cage = Cage::new();
    let layer = Tar::new()
        .file("a", b"a")
        .hardlink("b", "/a")
        .hardlink("b", "a")
        .symlink("out", &cage.outside())
        .hardlink("copy", "out");
    cage.unpack(layer.end()).unwrap();
    assert_eq!(fs::metadata(cage.root().join("b")).unwrap().nlink(), 2);
    assert!(cage.root().join("copy").symlink_metadata().unwrap().is_symlink());
    cage.assert_untouched();
}

#[test]
fn devices_are_left_out_but_for_those_everybody_has() {
    let device = |tar: Tar, path: &str, kind: EntryType, major: u32, minor: u32| {
        let change = |header: &mut tar::Header| {
            header.set_entry_type(kind);
            header.set_path(path).unwrap();
            header.set_device_major(major).unwrap();
            header.set_device_minor(minor).unwrap();
        };
        tar.header(change, b"")
    };
    let tar = device(Tar::new(), "dev/sda", EntryType::Block, 8, 0);
    let tar = device(tar, "dev/mem", EntryType::Char, 1, 1);
    let tar = device(tar, "dev/whiteout", EntryType::Char, 0, 0);
    let tar = device(tar, "dev/null", EntryType::Char, 1, 3);
    let tar = device(tar, "dev/fifo", EntryType::Fifo, 0, 0);
    let cage = Cage::new();
    cage.unpack(tar.end()).unwrap();
    assert_eq!(names_of(&cage.root().join("dev")), ["fifo", "null"]);
}

#[test]
fn overlays_own_attributes_and_labels_are_not_a_layers_to_set() {
    let cage = Cage::new();
    let redirect: &[(&str, &[u8])] = &[
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.mine", b"a\nb\0c"),
        ("SCHILY.xattr.security.selinux", b"u:r:other_t:s0\0"),
    ];
    cage.unpack(Tar::new().pax(redirect).dir("d", 0o755).end()).unwrap();
    let folder = cage.root().join("d");
    assert_eq!(xattr(&folder, "trusted.overlay.redirect"), None);
    assert_eq!(xattr(&folder, "user.overlay.opaque"), None);
    assert_ne!(xattr(&folder, "security.selinux").as_deref(), Some(&b"u:r:other_t:s0\0"[..]));
    assert_eq!(xattr(&folder, "user.mine").as_deref(), Some(&b"a\nb\0c"[..]));
}

#[test]
fn owners_modes_times_and_capabilities_are_kept() {
    const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let cage = Cage::new();
    let ping = |header: &mut tar::Header| {
        header.set_path("bin/ping").unwrap();
        header.set_mode(0o6755);
        header.set_uid(70_000);
        header.set_gid(12);
        header.set_mtime(1);
    };
    let records: &[(&str, &[u8])] =
        &[("SCHILY.xattr.security.capability", CAPABILITY), ("mtime", b"1234567890.5"), ("uid", b"3000000000")];
    let layer = Tar::new().dir("bin", 0o1777).pax(records).header(ping, b"ping").symlink("link", "nowhere");
    cage.unpack(layer.end()).unwrap();
    let status = fs::metadata(cage.root().join("bin/ping")).unwrap();
    assert_eq!((status.uid(), status.gid(), status.mode() & 0o7777), (3_000_000_000, 12, 0o6755));
    assert_eq!((status.mtime(), status.mtime_nsec()), (1_234_567_890, 500_000_000));
    assert_eq!(xattr(&cage.root().join("bin/ping"), "security.capability").as_deref(), Some(CAPABILITY));
    let folder = fs::metadata(cage.root().join("bin")).unwrap();
    assert_eq!((folder.mode() & 0o7777, folder.mtime()), (0o1777, 1_000_000_000));
    assert_eq!(fs::symlink_metadata(cage.root().join("link")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn bombs_are_stopped_at_their_bounds() {
    let limits = Limits { layer_bytes: 1 << 20, layer_entries: 100, ..Limits::default() };
    let big = Layer::gzip(Tar::new().file("zeros", &vec![0; 8 << 20]).end());
    let many = (0..101).fold(Tar::new(), |tar, number| tar.file(&format!("f{number}"), b""));
    let long = Layer::zstd(Tar::new().member("x", EntryType::XHeader, 0, "", &vec![b'1'; 2 << 20]).end());
    for layer in [big.blob.bytes, many.end(), long.blob.bytes] {
        let cage = Cage::new();
        let error = unpack(Cursor::new(layer), &cage.root(), &limits).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
        cage.assert_untouched();
    }
}

#[test]
fn broken_streams_are_the_layers_fault() {
    let whole = Layer::gzip(Tar::new().file("a", &noise(50_000, 1)).end()).blob.bytes;
    let tar = Tar::new().file("a", &noise(5_000, 1)).end();
    let flipped: Vec<u8> = whole.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 20_000)).collect();
    for layer in [whole[..20_000].to_vec(), flipped, tar[..3_000].to_vec(), tar[..700].to_vec(), b"BZh9".to_vec()] {
        let (kind, text) = refusal(layer);
        assert!(matches!(kind, ErrorKind::Corrupt | ErrorKind::Unsupported), "{kind:?}: {text}");
    }
}

/// A member made of names that have a way of meaning something.
fn member() -> impl Strategy<Value = (String, u8, String, Vec<u8>)> {
    let part =
        prop::sample::select(vec!["a", "b", "c", "..", ".", "", ".wh.a", ".wh..wh..opq", ".wh.", "outside", "root"]);
    let path = prop::collection::vec(part.clone(), 1..5).prop_map(|parts| parts.join("/"));
    let link = prop::collection::vec(part, 1..6).prop_map(|parts| parts.join("/"));
    let kinds = prop::sample::select(b"0125634xLgS".to_vec());
    let slash = any::<bool>();
    (
        path,
        kinds,
        (slash, link).prop_map(|(slash, link)| format!("{}{link}", if slash { "/" } else { "" })),
        prop::collection::vec(any::<u8>(), 0..600),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_members_say_nothing_outside_changes(members in prop::collection::vec(member(), 1..25)) {
        let cage = Cage::new();
        symlink(cage.outside(), cage.root().join("planted")).unwrap();
        let layer = members.iter().fold(Tar::new(), |tar, (path, kind, link, content)| {
            tar.member(path, EntryType::new(*kind), 0o777, link, content)
        });
        let _ = cage.unpack(layer.end());
        cage.assert_untouched();
    }

    #[test]
    fn whatever_bytes_come_nothing_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..3000), magic in 0..4_usize) {
        let heads: [&[u8]; 4] = [b"", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"BZh"];
        bytes.splice(0..0, heads[magic].iter().copied());
        let cage = Cage::new();
        let _ = cage.unpack(bytes);
        cage.assert_untouched();
    }

    #[test]
    fn a_layer_with_flipped_bytes_never_panics(flips in prop::collection::vec((0..4096_usize, any::<u8>()), 1..12)) {
        let redirect: &[(&str, &[u8])] = &[("path", b"long/name"), ("SCHILY.xattr.user.a", b"1")];
        let mut layer = Tar::new().dir("a", 0o755).pax(redirect).file("x", b"content").symlink("s", "a").end();
        for (at, byte) in flips {
            let at = at % layer.len();
            layer[at] ^= byte;
        }
        let cage = Cage::new();
        let _ = cage.unpack(layer);
        cage.assert_untouched();
    }
}
