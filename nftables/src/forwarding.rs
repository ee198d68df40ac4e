//! Hosts whose `FORWARD` chain drops what nothing accepts (Docker sets that): a verdict of another table does not help
//! there, so the accepting rules go into that very chain. At its end: what its owner says comes first.
//!
//! The chain is iptables' (its nf_tables or its legacy form), so the rules are made by its program; whether they are
//! wanted at all is asked of the kernel. Must not know: whose packets these are.

use std::process::{Command, Output};

use anyhow::Context as _;

use crate::netlink::Socket;
use crate::{Family, chain_policy};

/// By which the rules are known.
const COMMENT: &str = "pintle-forwarding";
/// `NF_DROP`.
const DROP: u32 = 0;
/// For others to finish with the rules, in seconds.
const WAIT: &str = "5";

/// The two forms in which a host may have the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    NfTables,
    Legacy,
}

/// Makes the family's `FORWARD` accept what `rules` match, where it drops by default. A rule is arguments of iptables,
/// such as `-s 10.244.0.0/16`. Answers with the number of rules that were missing.
///
/// # Errors
/// The chain drops, and iptables is not there or refuses.
pub fn open(socket: &mut Socket, family: Family, rules: &[String]) -> anyhow::Result<usize> {
    let mut added = 0;
    for form in [Form::NfTables, Form::Legacy] {
        if !drops(socket, family, form)? {
            continue;
        }
        for rule in rules {
            let rule = format!("FORWARD {rule} -m comment --comment {COMMENT} -j ACCEPT");
            if !run(family, form, &format!("-C {rule}"))?.status.success() {
                must(family, form, &format!("-A {rule}"))?;
                added += 1;
            }
        }
    }
    Ok(added)
}

/// Removes the rules again; what it removed.
///
/// # Errors
/// iptables refuses.
pub fn close(socket: &mut Socket) -> anyhow::Result<Vec<String>> {
    let mut removed = Vec::new();
    for family in Family::BOTH {
        for form in [Form::NfTables, Form::Legacy] {
            if !exists(socket, family, form)? {
                continue;
            }
            let rules = must(family, form, "-S FORWARD")?;
            let ours = rules.lines().filter_map(|line| line.strip_prefix("-A ")).filter(|line| line.contains(COMMENT));
            for rule in ours {
                must(family, form, &format!("-D {rule}"))?;
                removed.push(format!("{} rule {rule}", names(family, form)[1]));
            }
        }
    }
    Ok(removed)
}

fn drops(socket: &mut Socket, family: Family, form: Form) -> anyhow::Result<bool> {
    match form {
        Form::NfTables => Ok(chain_policy(socket, family, "filter", "FORWARD")? == Some(DROP)),
        Form::Legacy if exists(socket, family, form)? => {
            Ok(must(family, form, "-S FORWARD")?.lines().any(|line| line.trim() == "-P FORWARD DROP"))
        }
        Form::Legacy => Ok(false),
    }
}

fn exists(socket: &mut Socket, family: Family, form: Form) -> anyhow::Result<bool> {
    if form == Form::NfTables {
        return Ok(chain_policy(socket, family, "filter", "FORWARD")?.is_some());
    }
    let path = if family == Family::V4 { "ip_tables_names" } else { "ip6_tables_names" };
    // Of this thread's network namespace; not there while the module is not loaded.
    let tables = std::fs::read_to_string(format!("/proc/thread-self/net/{path}")).unwrap_or_default();
    Ok(tables.lines().any(|table| table == "filter"))
}

/// The form's own program, else the one that a host with only one of them has.
fn names(family: Family, form: Form) -> [&'static str; 2] {
    match (family, form) {
        (Family::V4, Form::NfTables) => ["iptables-nft", "iptables"],
        (Family::V4, Form::Legacy) => ["iptables-legacy", "iptables"],
        (Family::V6, Form::NfTables) => ["ip6tables-nft", "ip6tables"],
        (Family::V6, Form::Legacy) => ["ip6tables-legacy", "ip6tables"],
    }
}

fn run(family: Family, form: Form, arguments: &str) -> anyhow::Result<Output> {
    let [first, second] = names(family, form);
    let call = |name: &str| Command::new(name).args(["-w", WAIT]).args(arguments.split_whitespace()).output();
    let output = call(first).or_else(|_| call(second));
    output.with_context(|| format!("the chain FORWARD drops packets, and {second} cannot be run"))
}

fn must(family: Family, form: Form, arguments: &str) -> anyhow::Result<String> {
    let output = run(family, form, arguments)?;
    let said = || String::from_utf8_lossy(&output.stderr).trim().to_string();
    anyhow::ensure!(output.status.success(), "{} {arguments}: {}", names(family, form)[1], said());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
