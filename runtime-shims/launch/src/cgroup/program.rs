//! The device rules as a program of cgroup v2, put together and loaded without any library.
//!
//! The kernel gives it three words: kind in the low and access in the high half, major, minor; it answers 1 for yes.
//! Must not know: where rules come from.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::libc;

use super::devices::{ALL, Kind, Rule, matches_everything};
use crate::sys::check;

const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb4;
const MOVE_REGISTER: u8 = 0xbc;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const UNLESS_EQUAL: u8 = 0x56;
const IF_EQUAL: u8 = 0x16;
const EXIT: u8 = 0x95;

const ANSWER: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 6;

const BLOCK: i32 = 1;
const CHAR: i32 = 2;

const PROGRAM_LOAD: libc::c_int = 5;
const PROGRAM_ATTACH: libc::c_int = 8;
const CGROUP_DEVICE_PROGRAM: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// One instruction, laid out as the kernel reads it on a little-endian machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    value: i32,
}

fn op(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    Instruction { code, registers, offset, value }
}

/// The program that answers as `rules` say, of which the last that matches counts. Denies what none matches.
pub fn assemble(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD_WORD, KIND, CONTEXT, 0, 0),
        op(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        op(AND, KIND, 0, 0, 0xffff),
        op(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        op(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        op(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    rules.iter().rev().for_each(|rule| program.extend(block(rule)));
    // the verifier takes no instruction that is never reached
    if !rules.first().is_some_and(matches_everything) {
        program.extend(answer(false));
    }
    program
}

fn answer(allow: bool) -> [Instruction; 2] {
    [op(MOVE, ANSWER, 0, 0, i32::from(allow)), op(EXIT, 0, 0, 0, 0)]
}

/// A rule: its conditions, each of which jumps behind the block where it does not hold, then its answer.
fn block(rule: &Rule) -> Vec<Instruction> {
    let mut block = Vec::new();
    match rule.kind {
        Kind::Any => {}
        Kind::Block => block.push(op(UNLESS_EQUAL, KIND, 0, 0, BLOCK)),
        Kind::Char => block.push(op(UNLESS_EQUAL, KIND, 0, 0, CHAR)),
    }
    if rule.access != ALL {
        // a rule that allows must cover all that is asked for; one that denies, any of it
        let (mask, jump) = if rule.allow { (!rule.access & ALL, UNLESS_EQUAL) } else { (rule.access, IF_EQUAL) };
        block.push(op(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
        block.push(op(AND, SCRATCH, 0, 0, i32::from(mask)));
        block.push(op(jump, SCRATCH, 0, 0, 0));
    }
    block.extend(rule.major.map(|major| op(UNLESS_EQUAL, MAJOR, 0, 0, major as i32)));
    block.extend(rule.minor.map(|minor| op(UNLESS_EQUAL, MINOR, 0, 0, minor as i32)));
    block.extend(answer(rule.allow));
    let length = block.len();
    for (at, instruction) in block.iter_mut().enumerate() {
        if matches!(instruction.code, UNLESS_EQUAL | IF_EQUAL) {
            instruction.offset = (length - at - 1) as i16;
        }
    }
    block
}

/// Loads a program and lets it judge the devices of a cgroup and all below it, beside those that judge already.
pub fn attach(cgroup: BorrowedFd<'_>, program: &[Instruction]) -> Result<()> {
    let loaded = load(program).context("the kernel refuses the device program")?;
    let order = [cgroup.as_raw_fd() as u32, loaded.as_raw_fd() as u32, CGROUP_DEVICE, ALLOW_MULTI];
    bpf(PROGRAM_ATTACH, &order).map(drop).context("cannot attach the device program to the cgroup")
}

/// The head of bpf(2)'s argument for loading a program.
#[repr(C)]
struct Load {
    kind: u32,
    length: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel: u32,
    flags: u32,
}

fn load(program: &[Instruction]) -> io::Result<OwnedFd> {
    let order = Load {
        kind: CGROUP_DEVICE_PROGRAM,
        length: program.len() as u32,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel: 0,
        flags: 0,
    };
    let fd = bpf(PROGRAM_LOAD, &order)?;
    // SAFETY: a new fd of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn bpf<T>(command: libc::c_int, order: &T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads the argument's size and, in a load, the program, which the caller borrows.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(order), size_of::<T>()) })
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
