//! The constant chains and their rules, and the chains by number (of endpoints, of seconds) that verdict maps name.
//!
//! Within a rule, registers hold: the frontend's key, then its handling, then the client's address. The kernel forgets
//! registers between rules, so each rule that needs the handling looks it up again (a hash lookup, on a connection's
//! first packet only); the packet mark stays free. Must not know: which Services there are.

use super::element::{Action, Masquerade, Protocol, policy};
use super::sets;
use pintle_nftables::{
    Chain, Cmp, CtKey, DynsetOp, Element, ElementData, Expr, Family, FibAddress, Hook, HookKind, MetaKey, PayloadBase,
    Register, Rule, Verdict,
};

/// Behind conntrack (-200), before translation (-100): source ranges are about the address the client used.
const BEFORE_NAT: i32 = -110;
/// Behind translation: what is still sent to a frontend has no endpoint. Not in prerouting, where a rejection does not
/// get back over a bridge in IPv6.
const FILTER: i32 = 0;
const DESTINATION_NAT: i32 = -100;
const SOURCE_NAT: i32 = 100;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`; `IPS_DST_NAT`.
const STATE_NEW: u32 = 8;
const STATUS_DNAT: u32 = 0x20;
/// `RTN_LOCAL`: an address of this host.
const LOCAL: u32 = 2;

/// The chains every table has.
pub fn constant(family: Family) -> Vec<Chain> {
    let r = Registers::of(family);
    let mut chains = base_chains();
    chains.extend([
        r.check(),
        r.check_external_local(),
        r.check_services(),
        r.check_fence(),
        r.firewall(),
        reject(family),
    ]);
    chains.extend([r.services(), r.services_external_local()]);
    chains.extend([r.lane(Lane::CLUSTER), r.lane(Lane::LOCAL)]);
    chains.extend([
        r.postrouting(),
        r.masquerade_pods(),
        r.masquerade_unless_pod(),
        masquerade_if_host(),
        masquerade(),
        r.remember(),
    ]);
    chains
}

/// The elements of the constant verdict maps, by map.
pub fn constant_verdicts() -> [(&'static str, Vec<Element>); 3] {
    let mut actions = Vec::new();
    let mut fences = Vec::new();
    let mut masquerades = Vec::new();
    for action in Action::ALL {
        for masquerade in Masquerade::ALL {
            let key = policy(action, masquerade);
            actions.push(verdict_element(key, action_verdict(action)));
            if action == Action::Firewall {
                fences.push(verdict_element(key, goto("firewall")));
            }
            masquerades.extend(masquerade_verdict(masquerade).map(|verdict| verdict_element(key, verdict)));
        }
    }
    [(sets::ACTIONS, actions), (sets::FENCES, fences), (sets::MASQUERADES, masquerades)]
}

/// The chains that pick one of `count` endpoints, with the map and element that lead to each.
pub fn pickers(family: Family, count: u32) -> [(Chain, &'static str, Element); 2] {
    [Lane::CLUSTER, Lane::LOCAL].map(|lane| {
        let chain = Registers::of(family).picker(lane, count);
        let element = verdict_element(count, Verdict::Goto(chain.name.clone()));
        (chain, lane.counts, element)
    })
}

/// The chain that remembers a client for `seconds`, with the map and element that lead to it.
pub fn rememberer(family: Family, seconds: u32) -> (Chain, &'static str, Element) {
    let chain = Registers::of(family).rememberer(seconds);
    let element = verdict_element(seconds, Verdict::Goto(chain.name.clone()));
    (chain, sets::TIMEOUTS, element)
}

fn verdict_element(key: u32, verdict: Verdict) -> Element {
    Element { key: key.to_ne_bytes().to_vec(), data: ElementData::Verdict(verdict) }
}

fn action_verdict(action: Action) -> Verdict {
    match action {
        Action::Accept | Action::Firewall => Verdict::Return,
        Action::Reject => goto("reject-port"),
        Action::Drop => Verdict::Drop,
    }
}

fn masquerade_verdict(masquerade: Masquerade) -> Option<Verdict> {
    match masquerade {
        Masquerade::Never => None,
        Masquerade::UnlessPod => Some(goto("masquerade-unless-pod")),
        Masquerade::Always => Some(goto("masquerade-source")),
        Masquerade::IfHost => Some(goto("masquerade-if-host")),
    }
}

/// One of the two maps of frontends and what belongs to it.
#[derive(Clone, Copy)]
struct Lane {
    map: &'static str,
    counts: &'static str,
    chain: &'static str,
    picker: &'static str,
}

impl Lane {
    const CLUSTER: Self = Self { map: sets::SERVICES, counts: sets::COUNTS, chain: "services-cluster", picker: "pick" };
    const LOCAL: Self =
        Self { map: sets::EXTERNAL_LOCAL, counts: sets::COUNTS_LOCAL, chain: "services-local", picker: "pick-local" };
}

fn goto(chain: &str) -> Verdict {
    Verdict::Goto(chain.to_string())
}

fn rule(comment: &'static str, expressions: Vec<Expr>) -> Rule {
    Rule { comment, expressions }
}

fn chain(name: &str, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_string(), hook: None, rules }
}

fn base(name: &str, chain_type: &'static str, kind: HookKind, priority: i32, rules: Vec<Rule>) -> Chain {
    Chain { name: name.to_string(), hook: Some(Hook { chain_type, kind, priority }), rules }
}

fn base_chains() -> Vec<Chain> {
    let r0 = Register(0);
    let jump = |chain: &str| Expr::Verdict(Verdict::Jump(chain.to_string()));
    let masked = |key, mask: u32| {
        vec![
            Expr::Ct { key, to: r0 },
            Expr::And { from: r0, to: r0, mask: mask.to_ne_bytes().to_vec() },
            Expr::Cmp { register: r0, op: Cmp::NotEqual, value: vec![0; 4] },
        ]
    };
    let if_new = |chain| rule("", [masked(CtKey::State, STATE_NEW), vec![jump(chain)]].concat());
    let if_translated = |chain| rule("", [masked(CtKey::Status, STATUS_DNAT), vec![jump(chain)]].concat());
    vec![
        base("fence-prerouting", "filter", HookKind::Prerouting, BEFORE_NAT, vec![if_new("check-fence")]),
        base("fence-output", "filter", HookKind::Output, BEFORE_NAT, vec![if_new("check-fence")]),
        base("filter-input", "filter", HookKind::Input, FILTER, vec![if_new("check")]),
        base("filter-forward", "filter", HookKind::Forward, FILTER, vec![if_new("check")]),
        base("filter-output", "filter", HookKind::Output, FILTER, vec![if_new("check")]),
        base("nat-prerouting", "nat", HookKind::Prerouting, DESTINATION_NAT, vec![rule("", vec![jump("services")])]),
        base("nat-output", "nat", HookKind::Output, DESTINATION_NAT, vec![rule("", vec![jump("services")])]),
        base("nat-input", "nat", HookKind::Input, SOURCE_NAT, vec![if_translated("remember")]),
        base("nat-postrouting", "nat", HookKind::Postrouting, SOURCE_NAT, {
            vec![if_translated("postrouting"), rule("", vec![jump("masquerade-pods")])]
        }),
    ]
}

/// A reset for TCP: unlike ICMP errors it is not rate-limited. ICMP for the others.
fn reject(family: Family) -> Chain {
    let r0 = Register(0);
    let tcp = vec![
        Expr::Meta { key: MetaKey::L4Proto, to: r0 },
        Expr::Cmp { register: r0, op: Cmp::Equal, value: vec![Protocol::Tcp as u8] },
        Expr::RejectWithReset,
    ];
    chain("reject-port", vec![rule("", tcp), rule("", vec![Expr::Reject { family }])])
}

fn masquerade() -> Chain {
    chain("masquerade-source", vec![rule("", vec![Expr::Masquerade])])
}

fn masquerade_if_host() -> Chain {
    chain("masquerade-if-host", vec![rule("", [from_host().to_vec(), vec![Expr::Masquerade]].concat())])
}

/// Matches packets whose source is an address of this host.
fn from_host() -> [Expr; 2] {
    let r0 = Register(0);
    [
        Expr::FibType { address: FibAddress::Source, to: r0 },
        Expr::Cmp { register: r0, op: Cmp::Equal, value: LOCAL.to_ne_bytes().to_vec() },
    ]
}

/// Which registers hold what, by the family's address length.
#[derive(Clone, Copy)]
struct Registers {
    family: Family,
    /// Registers per address.
    width: u32,
    /// Of service, group, count, affinity, policy. The first is no key: nft 1.0.6 aborts when it lists a rule whose key
    /// begins where a map's value does.
    handling: u32,
}

impl Registers {
    fn of(family: Family) -> Self {
        let width = family.address_length() / 4;
        Self { family, width, handling: width + 2 }
    }

    fn group(self) -> Register {
        Register(self.handling + 1)
    }

    fn count(self) -> Register {
        Register(self.handling + 2)
    }

    fn affinity(self) -> Register {
        Register(self.handling + 3)
    }

    fn policy(self) -> Register {
        Register(self.handling + 4)
    }

    /// The group of all endpoints, which stands for the Service port.
    fn service(self) -> Register {
        Register(self.handling + 5)
    }

    /// Puts service.client, the key of `affinity`, into registers.
    fn client(self) -> [Expr; 2] {
        let mask = (!1u32).to_ne_bytes().to_vec();
        [Expr::And { from: self.group(), to: self.service(), mask }, self.address(true, Register(self.service().0 + 1))]
    }

    fn address(self, source: bool, to: Register) -> Expr {
        let length = self.family.address_length();
        let offset = match (self.family, source) {
            (Family::V4, true) => 12,
            (Family::V4, false) => 16,
            (Family::V6, true) => 8,
            (Family::V6, false) => 24,
        };
        Expr::Payload { base: PayloadBase::Network, offset, length, to }
    }

    fn port(to: Register) -> Expr {
        Expr::Payload { base: PayloadBase::Transport, offset: 2, length: 2, to }
    }

    fn protocol(self) -> Expr {
        Expr::Meta { key: MetaKey::L4Proto, to: Register(self.width) }
    }

    /// The frontend's key from the packet itself: before translation.
    fn key(self) -> Vec<Expr> {
        vec![self.address(false, Register(0)), self.protocol(), Self::port(Register(self.width + 1))]
    }

    /// The frontend's key from conntrack: behind translation.
    fn original_key(self) -> Vec<Expr> {
        let port = Register(self.width + 1);
        vec![
            Expr::Ct { key: CtKey::OriginalDestination(self.family), to: Register(0) },
            self.protocol(),
            Expr::Ct { key: CtKey::OriginalDestinationPort, to: port },
        ]
    }

    fn look_up(self, map: &'static str) -> Expr {
        Expr::Lookup { set: map, key: Register(0), to: Some(Register(self.handling)), inverted: false }
    }

    /// The handling of the packet's frontend in `map`; ends the rule when it is not there.
    fn handling(self, map: &'static str) -> Vec<Expr> {
        [self.key(), vec![self.look_up(map)]].concat()
    }

    fn original_handling(self, map: &'static str) -> Vec<Expr> {
        [self.original_key(), vec![self.look_up(map)]].concat()
    }

    fn in_set(self, source: bool, set: &'static str, inverted: bool) -> Vec<Expr> {
        let lookup = Expr::Lookup { set, key: Register(0), to: None, inverted };
        vec![self.address(source, Register(0)), lookup]
    }

    fn check(self) -> Chain {
        let external = [self.handling(sets::EXTERNAL_LOCAL), vec![Expr::Verdict(goto("check-external-local"))]];
        chain(
            "check",
            vec![
                rule("externalTrafficPolicy Local", external.concat()),
                rule("", vec![Expr::Verdict(goto("check-services"))]),
            ],
        )
    }

    fn check_services(self) -> Chain {
        let act = Expr::LookupVerdict { map: sets::ACTIONS, key: self.policy() };
        // Addresses that a local socket answers, such as the cluster's DNS, are this host's.
        let unallocated = [
            self.in_set(false, sets::SERVICE_CIDRS, false),
            vec![
                Expr::FibType { address: FibAddress::Destination, to: Register(0) },
                Expr::Cmp { register: Register(0), op: Cmp::NotEqual, value: LOCAL.to_ne_bytes().to_vec() },
                Expr::Verdict(Verdict::Drop),
            ],
        ];
        let other_port = [self.in_set(false, sets::CLUSTER_IPS, false), vec![Expr::Verdict(goto("reject-port"))]];
        chain(
            "check-services",
            vec![
                rule("", [self.handling(sets::SERVICES), vec![act]].concat()),
                rule("a port that the Service does not have", other_port.concat()),
                rule("a cluster IP that no Service has", unallocated.concat()),
            ],
        )
    }

    fn check_external_local(self) -> Chain {
        let act = Expr::LookupVerdict { map: sets::ACTIONS, key: self.policy() };
        let mut rules = self.insiders("check-services");
        rules.push(rule("", [self.handling(sets::EXTERNAL_LOCAL), vec![act]].concat()));
        chain("check-external-local", rules)
    }

    /// Pods and this host are subject to no externalTrafficPolicy.
    fn insiders(self, target: &str) -> Vec<Rule> {
        let to = || vec![Expr::Verdict(goto(target))];
        vec![
            rule("from pods", [self.in_set(true, sets::CLUSTER_CIDRS, false), to()].concat()),
            rule("from this host", [from_host().to_vec(), to()].concat()),
        ]
    }

    fn check_fence(self) -> Chain {
        let by_policy = Expr::LookupVerdict { map: sets::FENCES, key: self.policy() };
        chain("check-fence", vec![rule("", [self.handling(sets::SERVICES), vec![by_policy]].concat())])
    }

    fn firewall(self) -> Chain {
        let source = Register(self.width + 2);
        let lookup = Expr::Lookup { set: sets::ALLOWED_SOURCES, key: Register(0), to: None, inverted: false };
        let allowed = [self.key(), vec![self.address(true, source), lookup, Expr::Verdict(Verdict::Return)]];
        chain("firewall", vec![rule("", allowed.concat()), rule("", vec![Expr::Verdict(Verdict::Drop)])])
    }

    fn services(self) -> Chain {
        let external = [self.handling(sets::EXTERNAL_LOCAL), vec![Expr::Verdict(goto("services-external-local"))]];
        let cluster = vec![Expr::Verdict(goto(Lane::CLUSTER.chain))];
        chain("services", vec![rule("externalTrafficPolicy Local", external.concat()), rule("", cluster)])
    }

    fn services_external_local(self) -> Chain {
        let mut rules = self.insiders(Lane::CLUSTER.chain);
        rules.push(rule("", vec![Expr::Verdict(goto(Lane::LOCAL.chain))]));
        chain("services-external-local", rules)
    }

    fn lane(self, lane: Lane) -> Chain {
        let pick = Expr::LookupVerdict { map: lane.counts, key: self.count() };
        chain(
            lane.chain,
            vec![self.to_remembered(lane), self.forget(lane), rule("", [self.handling(lane.map), vec![pick]].concat())],
        )
    }

    /// The lookup of the client's remembered endpoint: behind the group, so that group.endpoint is a key.
    fn remembered(self, lane: Lane) -> Vec<Expr> {
        let mut expressions = self.handling(lane.map);
        expressions.push(Expr::Cmp { register: self.affinity(), op: Cmp::NotEqual, value: vec![0; 4] });
        expressions.extend(self.client());
        expressions
    }

    fn to_remembered(self, lane: Lane) -> Rule {
        let mut expressions = self.remembered(lane);
        let (address, port) = (self.count(), Register(self.count().0 + self.width));
        expressions.extend([
            Expr::Lookup { set: sets::AFFINITY, key: self.service(), to: Some(address), inverted: false },
            Expr::Lookup { set: sets::MEMBERS, key: self.group(), to: None, inverted: false },
            Expr::Dnat { family: self.family, address, port },
        ]);
        rule("a client's remembered endpoint", expressions)
    }

    fn forget(self, lane: Lane) -> Rule {
        let mut expressions = self.remembered(lane);
        let (key, data) = (self.service(), Register(0));
        expressions.extend([
            Expr::Lookup { set: sets::AFFINITY, key, to: Some(data), inverted: false },
            Expr::Dynset { map: sets::AFFINITY, op: DynsetOp::Delete, key, data, timeout_ms: 0 },
        ]);
        rule("a remembered endpoint that is none any more", expressions)
    }

    fn picker(self, lane: Lane, count: u32) -> Chain {
        let first = Expr::Immediate { to: self.count(), value: vec![0; 4] };
        let random = Expr::Random { modulus: count, to: self.count() };
        let pick = |index| {
            let (address, port) = (Register(0), Register(self.width));
            let lookup = Expr::Lookup { set: sets::ENDPOINTS, key: self.group(), to: Some(address), inverted: false };
            let dnat = Expr::Dnat { family: self.family, address, port };
            [self.handling(lane.map), vec![index, lookup, dnat]].concat()
        };
        chain(
            &format!("{}-{count}", lane.picker),
            vec![
                rule("", pick(random)),
                // a change may come between two rules: never let the packet out untranslated
                rule("", pick(first)),
                rule("", vec![Expr::Verdict(Verdict::Drop)]),
            ],
        )
    }

    fn postrouting(self) -> Chain {
        let client = Register(0);
        let endpoint = Register(self.width);
        let lookup = Expr::Lookup { set: sets::HAIRPIN, key: client, to: None, inverted: false };
        let hairpin = vec![self.address(true, client), self.address(false, endpoint), lookup, Expr::Masquerade];
        let by_policy = Expr::LookupVerdict { map: sets::MASQUERADES, key: self.policy() };
        chain(
            "postrouting",
            vec![
                rule("", vec![Expr::Verdict(Verdict::Jump("remember".to_string()))]),
                rule("a pod that reaches itself", hairpin),
                rule("", [self.original_handling(sets::SERVICES), vec![by_policy]].concat()),
            ],
        )
    }

    fn masquerade_unless_pod(self) -> Chain {
        let unless = self.in_set(true, sets::CLUSTER_CIDRS, true);
        chain("masquerade-unless-pod", vec![rule("", [unless, vec![Expr::Masquerade]].concat())])
    }

    /// What pods send out of the cluster. Their address means nothing there.
    fn masquerade_pods(self) -> Chain {
        let multicast: (u8, u8) = if self.family == Family::V4 { (0xf0, 0xe0) } else { (0xff, 0xff) };
        let r0 = Register(0);
        let first_byte = |byte| vec![byte, 0, 0, 0];
        let leaving = [
            self.in_set(true, sets::CLUSTER_CIDRS, false),
            self.in_set(false, sets::CLUSTER_CIDRS, true),
            vec![
                Expr::And { from: r0, to: r0, mask: first_byte(multicast.0) },
                Expr::Cmp { register: r0, op: Cmp::NotEqual, value: first_byte(multicast.1) },
                Expr::Masquerade,
            ],
        ];
        chain("masquerade-pods", vec![rule("pods to the world", leaving.concat())])
    }

    fn remember(self) -> Chain {
        let by_timeout = Expr::LookupVerdict { map: sets::TIMEOUTS, key: self.affinity() };
        chain("remember", vec![rule("", [self.original_handling(sets::SERVICES), vec![by_timeout]].concat())])
    }

    fn rememberer(self, seconds: u32) -> Chain {
        let mut expressions = self.original_handling(sets::SERVICES);
        let (key, data) = (self.service(), Register(0));
        expressions.extend(self.client());
        expressions.extend([
            self.address(false, data),
            Self::port(Register(self.width)),
            Expr::Dynset {
                map: sets::AFFINITY,
                op: DynsetOp::Update,
                key,
                data,
                timeout_ms: u64::from(seconds) * 1000,
            },
        ]);
        chain(&format!("remember-{seconds}"), vec![rule("", expressions)])
    }
}
