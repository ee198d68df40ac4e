//! Tar archives that mean no good: names, links and headers that lead elsewhere, claim too much, or contradict.
//!
//! Must not know: who unpacks them.

use std::io::Write as _;

use crate::Dice;

const BLOCK: usize = 512;
/// Names with a meaning: to the file system, to overlayfs, to the kernel, to those beside the root.
const PARTS: &[&str] = &[
    "a",
    "b",
    "c",
    "..",
    ".",
    "",
    ".wh.a",
    ".wh..wh..opq",
    ".wh.",
    ".wh...",
    "outside",
    "root",
    "etc",
    "proc",
    "self",
    "dev",
    "link",
    "\u{fc}",
    "a\nb",
    " ",
];
const KINDS: &[u8] = b"0000\x0055511112223467gxLKS\xff";
const EXTENDED: &[&str] = &[
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "mtime",
    "uname",
    "SCHILY.xattr.user.a",
    "SCHILY.xattr.trusted.overlay.redirect",
    "SCHILY.xattr.trusted.overlay.opaque",
    "SCHILY.xattr.security.capability",
    "SCHILY.xattr.user.overlay.whiteout",
    "GNU.sparse.major",
    "GNU.sparse.name",
    "GNU.sparse.realsize",
    "GNU.sparse.map",
    "LIBARCHIVE.xattr.user.b",
    "hdrcharset",
];

/// A layer of up to so many entries, some of them sound.
pub fn layer(dice: &mut Dice, entries: usize, outside: &str) -> Vec<u8> {
    let mut tar = Vec::new();
    for _ in 0..=dice.below(entries) {
        if dice.one_in(5) {
            extended(&mut tar, dice, outside);
        }
        entry(&mut tar, dice, outside);
    }
    if !dice.one_in(10) {
        tar.resize(tar.len() + 2 * BLOCK, 0);
    }
    tar
}

/// Packed as layers are: not at all, with gzip, with zstd.
pub fn packed(tar: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    match dice.below(4) {
        0 => {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            // into memory, which takes all
            packed.write_all(&tar).and_then(|()| packed.finish()).unwrap_or_default()
        }
        1 => zstd::bulk::compress(&tar, 1).unwrap_or_default(),
        _ => tar,
    }
}

fn path(dice: &mut Dice, outside: &str) -> String {
    let mut parts: Vec<&str> = (0..=dice.below(5)).map(|_| *dice.choose(PARTS)).collect();
    match dice.below(12) {
        0 => parts.insert(0, ""),
        1 => parts.insert(0, outside),
        2 => return "long/".repeat(dice.below(1200)) + "a",
        3 => return "/proc/self/root/".to_owned() + &parts.join("/"),
        _ => {}
    }
    parts.join("/")
}

fn number(dice: &mut Dice) -> String {
    if dice.one_in(4) { dice.odd_number().to_string() } else { dice.below(70_000).to_string() }
}

/// Records that speak of the next entry.
fn extended(tar: &mut Vec<u8>, dice: &mut Dice, outside: &str) {
    let mut records = Vec::new();
    for _ in 0..=dice.below(4) {
        let key = *dice.choose(EXTENDED);
        let value = match key {
            "path" | "linkpath" | "GNU.sparse.name" => path(dice, outside).into_bytes(),
            _ if dice.one_in(3) => dice.bytes(40),
            _ => number(dice).into_bytes(),
        };
        records.extend(record(key, &value, dice));
    }
    let kind = *dice.choose(b"xxxg");
    header(tar, dice, "PaxHeaders/x", kind, "", records.len() as u64, 0o644);
    content(tar, &records);
}

/// `LENGTH KEY=VALUE\n`, the length that of the whole.
fn record(key: &str, value: &[u8], dice: &mut Dice) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let digits = (rest + rest.to_string().len()).to_string().len();
    let length = if dice.one_in(20) { dice.odd_number() } else { (rest + digits) as u64 };
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

fn entry(tar: &mut Vec<u8>, dice: &mut Dice, outside: &str) {
    let (name, link) = (path(dice, outside), path(dice, outside));
    let kind = *dice.choose(KINDS);
    let bytes = if b"0\x007LKxgS".contains(&kind) { dice.bytes(900) } else { Vec::new() };
    let claimed = if dice.one_in(15) { dice.odd_number() } else { bytes.len() as u64 };
    let mode = *dice.choose(&[0o644, 0o755, 0o777, 0, 0o7777, 0o1777, u32::MAX]);
    header(tar, dice, &name, kind, &link, claimed, mode);
    content(tar, &bytes);
}

fn content(tar: &mut Vec<u8>, bytes: &[u8]) {
    tar.extend_from_slice(bytes);
    tar.resize(tar.len().next_multiple_of(BLOCK), 0);
}

fn header(tar: &mut Vec<u8>, dice: &mut Dice, name: &str, kind: u8, link: &str, size: u64, mode: u32) {
    let mut block = [0_u8; BLOCK];
    put(&mut block[..100], name.as_bytes());
    put(&mut block[100..108], format!("{:07o}", mode & 0o7_777_777).as_bytes());
    for at in [108, 116] {
        let id = if dice.one_in(10) { dice.odd_number() & 0o7_777_777 } else { 0 };
        put(&mut block[at..at + 8], format!("{id:07o}").as_bytes());
    }
    put_number(&mut block[124..136], size, dice);
    let time = if dice.one_in(10) { dice.odd_number() } else { 1 };
    put_number(&mut block[136..148], time, dice);
    block[156] = kind;
    put(&mut block[157..257], link.as_bytes());
    put(&mut block[257..265], if dice.one_in(4) { b"ustar  \0" } else { b"ustar\x0000" });
    for at in [329, 337] {
        put(&mut block[at..at + 8], format!("{:07o}", dice.choose(&[0, 1, 3, 5, 8, 254, 0o7_777_777])).as_bytes());
    }
    if dice.one_in(8) {
        put(&mut block[345..500], dice.choose(PARTS).as_bytes());
    }
    sign(&mut block, dice.one_in(60));
    tar.extend_from_slice(&block);
}

/// Octal, or base 256 where that is too short.
fn put_number(field: &mut [u8], value: u64, dice: &mut Dice) {
    if value < 1 << 33 && !dice.one_in(20) {
        return put(field, format!("{value:011o}").as_bytes());
    }
    put(field, &[&[if dice.one_in(2) { 0x80 } else { 0xff }, 0, 0, 0][..], &value.to_be_bytes()].concat());
}

fn put(field: &mut [u8], bytes: &[u8]) {
    field.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
}

fn sign(block: &mut [u8; BLOCK], wrong: bool) {
    put(&mut block[148..156], b"        ");
    let sum = block.iter().map(|byte| u32::from(*byte)).sum::<u32>() + u32::from(wrong);
    put(&mut block[148..156], format!("{sum:06o}\0 ").as_bytes());
}
