//! PURE: the table's constant chains. A host port is an element of a map, never a rule.
//!
//! Must not know: which pods there are.

use pintle_nftables::{
    Chain, Cmp, CtKey, Expr, Family, FibAddress, Hook, HookKind, MetaKey, PayloadBase, Register, Rule, Set, SetKind,
    Type, Verdict,
};

pub const TABLE: &str = "pintle-hostports";
/// protocol.port → pod's address.port, on every address of the host.
pub const PORTS: &str = "ports";
/// address.protocol.port → pod's address.port, on one address of the host.
pub const ADDRESS_PORTS: &str = "address-ports";
/// address.address of pods with host ports.
pub const HAIRPIN: &str = "hairpin";

const CHAIN: &str = "host-ports";
/// Behind the proxy's: Services come first, as they do where both are programmed by others.
const DESTINATION_NAT: i32 = -99;
const SOURCE_NAT: i32 = 100;
const FILTER: i32 = 0;
/// `RTN_LOCAL`, `IPS_DST_NAT`, the bits of established and related flows in `ct state`, and the loopback device's index.
const LOCAL: u32 = 2;
const STATUS_DNAT: u32 = 0x20;
const STATE_KNOWN: u32 = 6;
const LOOPBACK: u32 = 1;

/// The two maps, and the set.
pub fn sets(family: Family) -> [Set; 3] {
    let address = Type::Address(family);
    let ports = SetKind::Map(vec![address, Type::Port]);
    [
        Set { name: PORTS, key: vec![Type::Protocol, Type::Port], kind: ports.clone() },
        Set { name: ADDRESS_PORTS, key: vec![address, Type::Protocol, Type::Port], kind: ports },
        Set { name: HAIRPIN, key: vec![address, address], kind: SetKind::Set },
    ]
}

pub fn chains(family: Family) -> Vec<Chain> {
    let to_host = || vec![rule("to an address of this host", to_this_host())];
    let mut chains = vec![
        base("prerouting", "nat", HookKind::Prerouting, DESTINATION_NAT, to_host()),
        base("output", "nat", HookKind::Output, DESTINATION_NAT, to_host()),
        base("postrouting", "nat", HookKind::Postrouting, SOURCE_NAT, masquerades(family)),
        Chain { name: CHAIN.into(), hook: None, rules: vec![on_address(family), on_every_address(family)] },
    ];
    if family == Family::V4 {
        chains.push(base("input", "filter", HookKind::Input, FILTER, vec![fence()]));
    }
    chains
}

fn rule(comment: &'static str, expressions: Vec<Expr>) -> Rule {
    Rule { comment, expressions }
}

fn base(name: &str, chain_type: &'static str, kind: HookKind, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { name: name.into(), hook: Some(Hook { chain_type, kind, priority }), rules }
}

fn to_this_host() -> Vec<Expr> {
    let r0 = Register(0);
    vec![
        Expr::FibType { address: FibAddress::Destination, to: r0 },
        Expr::Cmp { register: r0, op: Cmp::Equal, value: LOCAL.to_ne_bytes().to_vec() },
        Expr::Verdict(Verdict::Jump(CHAIN.into())),
    ]
}

fn on_address(family: Family) -> Rule {
    let width = family.address_length() / 4;
    let key = [vec![address(family, false, Register(0))], port(Register(width)).to_vec()].concat();
    rule("on this address", [key, translate(family, ADDRESS_PORTS, Register(width + 3))].concat())
}

fn on_every_address(family: Family) -> Rule {
    rule("on every address", [port(Register(0)).to_vec(), translate(family, PORTS, Register(3))].concat())
}

/// Protocol and port, in two registers.
fn port(at: Register) -> [Expr; 2] {
    [
        Expr::Meta { key: MetaKey::L4Proto, to: at },
        Expr::Payload { base: PayloadBase::Transport, offset: 2, length: 2, to: Register(at.0 + 1) },
    ]
}

/// The key is in the first registers. The value lies behind a gap: nft 1.0.6 aborts when it lists a rule whose key begins
/// where a map's value does.
fn translate(family: Family, map: &'static str, value: Register) -> Vec<Expr> {
    let width = family.address_length() / 4;
    vec![
        Expr::Lookup { set: map, key: Register(0), to: Some(value), inverted: false },
        Expr::Dnat { family, address: value, port: Register(value.0 + width) },
    ]
}

fn masquerades(family: Family) -> Vec<Rule> {
    let width = family.address_length() / 4;
    let hairpin = vec![
        address(family, true, Register(0)),
        address(family, false, Register(width)),
        Expr::Lookup { set: HAIRPIN, key: Register(0), to: None, inverted: false },
        Expr::Masquerade,
    ];
    let mut rules = vec![rule("a pod that reaches itself", [translated().to_vec(), hairpin].concat())];
    if family == Family::V4 {
        let from_loopback = [vec![address(family, true, Register(0))], is_loopback().to_vec(), vec![Expr::Masquerade]];
        rules.push(rule("from 127.0.0.1", [translated().to_vec(), from_loopback.concat()].concat()));
    }
    rules
}

fn translated() -> [Expr; 3] {
    has(CtKey::Status, STATUS_DNAT, Cmp::NotEqual)
}

fn has(key: CtKey, bits: u32, op: Cmp) -> [Expr; 3] {
    let r0 = Register(0);
    [
        Expr::Ct { key, to: r0 },
        Expr::And { from: r0, to: r0, mask: bits.to_ne_bytes().to_vec() },
        Expr::Cmp { register: r0, op, value: vec![0; 4] },
    ]
}

/// Routing 127.0.0.0/8 over the bridge must not let pods in to what listens there: only answers pass.
fn fence() -> Rule {
    let r0 = Register(0);
    let elsewhere = [
        Expr::Meta { key: MetaKey::InputLink, to: r0 },
        Expr::Cmp { register: r0, op: Cmp::NotEqual, value: LOOPBACK.to_ne_bytes().to_vec() },
        address(Family::V4, false, r0),
    ];
    let unknown = has(CtKey::State, STATE_KNOWN, Cmp::Equal);
    let parts = [elsewhere.to_vec(), is_loopback().to_vec(), unknown.to_vec(), vec![Expr::Verdict(Verdict::Drop)]];
    rule("127.0.0.0/8 is for this host", parts.concat())
}

fn is_loopback() -> [Expr; 2] {
    let r0 = Register(0);
    [
        Expr::And { from: r0, to: r0, mask: vec![0xff, 0, 0, 0] },
        Expr::Cmp { register: r0, op: Cmp::Equal, value: vec![127, 0, 0, 0] },
    ]
}

fn address(family: Family, source: bool, to: Register) -> Expr {
    let length = family.address_length();
    let offset = match (family, source) {
        (Family::V4, true) => 12,
        (Family::V4, false) => 16,
        (Family::V6, true) => 8,
        (Family::V6, false) => 24,
    };
    Expr::Payload { base: PayloadBase::Network, offset, length, to }
}
