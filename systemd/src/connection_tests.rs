//! A connection to a real bus, where Debian's is installed, and to peers that do not keep to the protocol.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::Error;
use crate::connection::Connection;
use crate::message::Call;
use crate::wire::{Reader, Writer};

struct Bus(Child);

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A bus of our own; it prints its address once it listens.
fn bus(dir: &Path) -> Option<Bus> {
    let config = dir.join("bus.conf");
    let text = format!(
        "<busconfig><type>session</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow send_destination=\"*\"/><allow receive_sender=\"*\"/><allow own=\"*\"/></policy></busconfig>",
        dir.join("bus").display()
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("dbus-daemon");
    command.arg("--nofork").arg("--print-address").arg("--config-file").arg(config);
    let mut bus = Bus(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?);
    let mut one = [0];
    bus.0.stdout.as_mut()?.read_exact(&mut one).ok()?;
    Some(bus)
}

fn call(member: &'static str, signature: &'static str, body: Vec<u8>) -> Call<'static> {
    let name = "org.freedesktop.DBus";
    Call { destination: name, path: "/org/freedesktop/DBus", interface: name, member, signature, body }
}

fn text(value: &str) -> Vec<u8> {
    let mut body = Writer::default();
    body.text(value);
    body.into_bytes()
}

#[test]
fn a_real_bus_answers_refuses_and_signals() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_bus) = bus(dir.path()) else { return eprintln!("skipped: no dbus-daemon on this machine") };
    let mut connection = Connection::to(&dir.path().join("bus")).unwrap();
    let name = connection.call(&call("Hello", "", Vec::new())).unwrap();
    let own = Reader::new(&name).text().unwrap().to_owned();
    assert!(own.starts_with(':'), "{own}");
    // the bus told of the name before it answered the next call: kept, and found afterwards
    let owner = connection.call(&call("GetNameOwner", "s", text(&own))).unwrap();
    assert_eq!(Reader::new(&owner).text(), Some(own.as_str()));
    let acquired = connection.until(|member, body| {
        (member == "NameAcquired").then(|| Reader::new(body).text().map(str::to_owned)).flatten()
    });
    assert_eq!(acquired.unwrap(), own);
    let refused = connection.call(&call("GetNameOwner", "s", text("no.such"))).unwrap_err();
    assert!(matches!(&refused, Error::Refused { name, .. } if name.ends_with("NameHasNoOwner")), "{refused}");
}

/// What becomes of a connection to a peer that sends this after the first byte.
fn meeting(dir: &Path, answer: &'static [u8]) -> Result<Vec<u8>, Error> {
    let path = dir.join("peer");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(&path).unwrap();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(answer);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let met = Connection::to(&path).and_then(|mut connection| connection.call(&call("Hello", "", Vec::new())));
    peer.join().unwrap();
    met
}

#[test]
fn a_peer_that_refuses_breaks_off_or_sends_rubbish_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let rejected = meeting(dir.path(), b"REJECTED EXTERNAL\r\n").unwrap_err();
    assert!(rejected.to_string().contains("REJECTED EXTERNAL"), "{rejected}");
    assert!(matches!(meeting(dir.path(), b""), Err(Error::Broken(_))));
    assert!(matches!(meeting(dir.path(), b"OK 1\r\nl\x02"), Err(Error::Broken(_))));
    assert!(matches!(meeting(dir.path(), b"OK 1\r\nHTTP/1.1 400 Bad"), Err(Error::Malformed(_))));
    assert!(matches!(meeting(dir.path(), &[b'x'; 600]), Err(Error::Malformed(_))));
    assert!(matches!(Connection::to(&dir.path().join("none")), Err(Error::Unreachable { .. })));
}
