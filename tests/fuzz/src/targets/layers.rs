//! Layers of images: whatever they hold, nothing outside their folder changes, and no device gets in.
//!
//! Must not know: how they are unpacked.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use pintle_images::unpack;

use super::cage::{Cage, limits};
use crate::{Dice, mutate, tar};

pub(super) fn stay_in_their_folder(dice: &mut Dice) {
    let cage = Cage::new();
    let mut layer = tar::layer(dice, 25, &cage.outside());
    if dice.one_in(3) {
        mutate(&mut layer, dice, 6);
    }
    let mut layer = tar::packed(layer, dice);
    if dice.one_in(6) {
        mutate(&mut layer, dice, 4);
    }
    let _ = unpack(Cursor::new(layer), &cage.root(), &limits());
    cage.assert_untouched();
    assert_harmless(&cage.root());
}

/// No device of the host's: only a whiteout's form, and what every container has (null, zero, full, random, urandom, tty).
fn assert_harmless(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let (path, about) = (entry.path(), entry.path().symlink_metadata().unwrap());
        let kind = about.file_type();
        let devices = [(0, 0), (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0)];
        let device = (about.rdev() >> 8, about.rdev() & 0xff);
        assert!(!kind.is_block_device(), "{path:?}");
        assert!(!kind.is_char_device() || devices.contains(&device), "{path:?} is {device:?}");
        if kind.is_dir() {
            assert_harmless(&path);
        }
    }
}
