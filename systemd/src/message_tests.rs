//! Messages against bytes that another implementation of D-Bus writes, and against broken ones.

use crate::Error;
use crate::manager::transient;
use crate::message::{Call, FIXED, Kind, decode, rest};
use crate::property::{Property, Value};

const START: &str = "\
6c010001d000000005000000b600000001016f00190000002f6f72672f667265656465736b746f702f73797374656d64310000000000000002017300\
200000006f72672e667265656465736b746f702e73797374656d64312e4d616e616765720000000000000000030173001200000053746172745472616e\
7369656e74556e697400000000000006017300180000006f72672e667265656465736b746f702e73797374656d6431000000000000000008016700107373\
612873762961287361287376292900000007000000612e73636f706500070000007265706c61636500aa0000000000000005000000536c6963650001730000\
000007000000622e736c69636500000000000800000044656c6567617465000162000100000000000000040000005049447300026175000000000400000007\
000000090000004d656d6f72794d6178000174000000000000000000001000000000000b000000416c6c6f7765644350557300026179000100000003000000\
000000000500000057616e74730002617300000006000000010000006300000000000000";

const REPLY: &str = "\
6c020001240000000300000037000000050175000500000007017300180000006f72672e667265656465736b746f702e73797374656d6431000000000000\
000008016700016f00001f0000002f6f72672f667265656465736b746f702f73797374656d64312f6a6f622f3900";

const REFUSAL: &str = "\
6c03000121000000040000003f00000004017300230000006f72672e667265656465736b746f702e73797374656d64312e556e6974457869737473000000\
0000050175000500000008016700017300001c000000556e697420612e73636f706520616c7265616479206578697374732e00";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn a_call_is_what_others_write() {
    let properties = [
        Property::new("Slice", Value::Text("b.slice".into())),
        Property::new("Delegate", Value::Bool(true)),
        Property::new("PIDs", Value::U32s(vec![7])),
        Property::new("MemoryMax", Value::U64(1 << 20)),
        Property::new("AllowedCPUs", Value::Bytes(vec![3])),
        Property::new("Wants", Value::Texts(vec!["c".into()])),
    ];
    let call = Call {
        destination: "org.freedesktop.systemd1",
        path: "/org/freedesktop/systemd1",
        interface: "org.freedesktop.systemd1.Manager",
        member: "StartTransientUnit",
        signature: "ssa(sv)a(sa(sv))",
        body: transient("a.scope", &properties),
    };
    assert_eq!(call.encode(5), bytes(START));
}

#[test]
fn replies_and_refusals_are_read() {
    let reply = decode(&bytes(REPLY)).unwrap();
    assert_eq!((reply.kind, reply.answers), (Kind::Reply, Some(5)));
    assert!(reply.body.ends_with(b"/org/freedesktop/systemd1/job/9\0"));
    let refusal = decode(&bytes(REFUSAL)).unwrap();
    assert_eq!(refusal.kind, Kind::Error("org.freedesktop.systemd1.UnitExists".into()));
    assert_eq!(refusal.answers, Some(5));
}

#[test]
fn the_fixed_part_tells_how_much_follows() {
    for message in [START, REPLY, REFUSAL].map(bytes) {
        let fixed: [u8; FIXED] = message[..FIXED].try_into().unwrap();
        assert_eq!(rest(&fixed).unwrap(), message.len() - FIXED);
    }
}

#[test]
fn what_is_cut_endless_or_of_another_order_is_refused() {
    let whole = bytes(REFUSAL);
    for length in 0..whole.len() {
        assert!(matches!(decode(&whole[..length]), Err(Error::Malformed(_))), "{length}");
    }
    let mut fixed: [u8; FIXED] = whole[..FIXED].try_into().unwrap();
    fixed[4..8].fill(0xff);
    assert!(rest(&fixed).is_err(), "an endless body");
    fixed[4..8].fill(0);
    fixed[12..16].fill(0xff);
    assert!(rest(&fixed).is_err(), "endless fields");
    fixed[0] = b'B';
    assert!(rest(&fixed).is_err(), "big-endian");
}
