//! The device program by what it answers, by a small machine that runs it, and by the kernel that takes it.
//!
//! Must not know: containers.

use std::fs;

use super::super::devices::{MKNOD, READ, WRITE, rules};
use super::*;

/// What the program answers for a device: kind (1 block, 2 char), numbers, access.
fn answer_of(program: &[Instruction], kind: u32, major: u32, minor: u32, access: u8) -> u32 {
    let context = [u32::from(access) << 16 | kind, major, minor];
    let (mut registers, mut at) = ([0u32; 11], 0i64);
    loop {
        let one = program[at as usize];
        let (to, from) = ((one.registers & 15) as usize, (one.registers >> 4) as usize);
        at += 1;
        match one.code {
            LOAD_WORD => registers[to] = context[one.offset as usize / 4],
            MOVE => registers[to] = one.value as u32,
            MOVE_REGISTER => registers[to] = registers[from],
            AND => registers[to] &= one.value as u32,
            SHIFT_RIGHT => registers[to] >>= one.value,
            UNLESS_EQUAL if registers[to] != one.value as u32 => at += i64::from(one.offset),
            IF_EQUAL if registers[to] == one.value as u32 => at += i64::from(one.offset),
            UNLESS_EQUAL | IF_EQUAL => {}
            EXIT => return registers[0],
            code => panic!("no instruction {code:#x}"),
        }
    }
}

fn program(json: &str) -> Vec<Instruction> {
    assemble(&rules(&serde_json::from_str::<Vec<_>>(json).unwrap()).unwrap())
}

#[test]
fn nothing_but_harmless_devices_by_itself() {
    let program = program("[]");
    assert_eq!(answer_of(&program, 2, 1, 3, READ | WRITE), 1, "null");
    assert_eq!(answer_of(&program, 2, 136, 77, READ), 1, "a terminal");
    for (kind, major, minor) in [(1, 8, 0), (1, 254, 0), (2, 1, 1), (2, 10, 200), (1, 1, 3)] {
        for access in [MKNOD, READ, WRITE] {
            assert_eq!(answer_of(&program, kind, major, minor, access), 0, "{kind} {major}:{minor}");
        }
    }
}

#[test]
fn the_last_rule_counts_and_an_access_must_be_covered() {
    let program = program(
        r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"access":"r"},
            {"allow":true,"type":"c","major":10,"minor":200,"access":"rwm"},
            {"allow":false,"type":"c","major":10,"minor":200,"access":"m"}]"#,
    );
    assert_eq!(answer_of(&program, 1, 8, 5, READ), 1);
    assert_eq!(answer_of(&program, 1, 8, 5, READ | WRITE), 0);
    assert_eq!(answer_of(&program, 2, 10, 200, READ | WRITE), 1);
    assert_eq!(answer_of(&program, 2, 10, 200, MKNOD), 0);
    assert_eq!(answer_of(&program, 2, 10, 200, MKNOD | READ), 0);
}

#[test]
fn a_privileged_container_may_use_every_device() {
    let program = program(r#"[{"allow":true,"access":"rwm"}]"#);
    assert_eq!(answer_of(&program, 1, 8, 0, READ | WRITE | MKNOD), 1);
}

#[test]
fn the_kernel_takes_the_program_and_obeys_it() {
    let v2 = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .into_iter()
        .find(|path| fs::metadata(format!("{path}/cgroup.controllers")).is_ok());
    let Some(v2) = v2 else { return eprintln!("no cgroup v2 hierarchy here") };
    let folder = format!("{v2}/pintle-launch-test-{}", std::process::id());
    fs::create_dir(&folder).unwrap();
    let cgroup = fs::File::open(&folder).unwrap();
    let attached = attach(std::os::fd::AsFd::as_fd(&cgroup), &program("[]"));
    let script = format!(
        "echo $$ > {folder}/cgroup.procs; n=/tmp/pintle-launch-node-$$; mknod $n c 1 1 && echo made; rm -f $n; \
         : < /dev/null && echo null; dd if=/dev/mem of=/dev/null bs=1 count=0 2>/dev/null && echo mem; exit 0"
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    // the shell has ended, so nothing holds the folder
    fs::remove_dir(&folder).unwrap();
    attached.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "null\n", "{}", String::from_utf8_lossy(&output.stderr));
}
