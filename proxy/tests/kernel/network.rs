//! A node with a bridge of pods, and a machine outside, each a network namespace; small servers and clients in them.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// Addresses of the node: towards the outside, and of its pod bridge.
pub const NODE: &str = "192.168.77.1";
pub const OUTSIDE: &str = "192.168.77.2";
pub const NODE6: &str = "fd77::1";
pub const OUTSIDE6: &str = "fd77::2";

/// Is this a place where namespaces can be made?
pub fn possible() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// One node, its pods and an outside machine; gone with this value.
pub struct Network {
    prefix: String,
    pods: Vec<String>,
}

impl Network {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("proxy-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let network = Self { prefix, pods: Vec::new() };
        let (node, outside) = (network.node(), network.outside());
        for namespace in [&node, &outside] {
            add_namespace(namespace);
        }
        ip(&format!("-n {node} link add eth0 type veth peer name eth0 netns {outside}"));
        for (namespace, four, six) in [(&node, NODE, NODE6), (&outside, OUTSIDE, OUTSIDE6)] {
            ip(&format!("-n {namespace} addr add {four}/24 dev eth0"));
            ip(&format!("-n {namespace} addr add {six}/64 dev eth0 nodad"));
            ip(&format!("-n {namespace} link set eth0 up"));
        }
        ip(&format!("-n {node} route add default via {OUTSIDE}"));
        ip(&format!("-n {node} -6 route add default via {OUTSIDE6}"));
        // the outside knows the service addresses, as a load balancer's router would; not the pods'
        for route in ["10.96.0.0/12", "203.0.113.0/24", "198.51.100.0/24"] {
            ip(&format!("-n {outside} route add {route} via {NODE}"));
        }
        ip(&format!("-n {node} link add cni0 type bridge mcast_snooping 0"));
        ip(&format!("-n {node} addr add 10.244.0.1/24 dev cni0"));
        ip(&format!("-n {node} addr add fd10:244::1/64 dev cni0 nodad"));
        ip(&format!("-n {node} link set cni0 up"));
        inside(&node, || {
            for (name, value) in [
                ("net/ipv4/ip_forward", "1"),
                ("net/ipv6/conf/all/forwarding", "1"),
                ("net/bridge/bridge-nf-call-iptables", "1"),
                ("net/bridge/bridge-nf-call-ip6tables", "1"),
            ] {
                std::fs::write(format!("/proc/sys/{name}"), value).expect(name);
            }
        });
        network
    }

    pub fn node(&self) -> String {
        format!("{}-node", self.prefix)
    }

    pub fn outside(&self) -> String {
        format!("{}-out", self.prefix)
    }

    /// The namespace of the pod with this number.
    pub fn pod(&self, number: u8) -> String {
        format!("{}-pod{number}", self.prefix)
    }

    /// Adds the pod 10.244.0.`number` (fd10:244::`number`), number 2 or more.
    pub fn add_pod(&mut self, number: u8) -> String {
        let (node, pod) = (self.node(), self.pod(number));
        add_namespace(&pod);
        ip(&format!("-n {node} link add veth{number} type veth peer name eth0 netns {pod}"));
        ip(&format!("-n {node} link set veth{number} master cni0 up"));
        ip(&format!("-n {node} link set veth{number} type bridge_slave hairpin on"));
        ip(&format!("-n {pod} addr add 10.244.0.{number}/24 dev eth0"));
        ip(&format!("-n {pod} addr add fd10:244::{number}/64 dev eth0 nodad"));
        ip(&format!("-n {pod} link set eth0 up"));
        ip(&format!("-n {pod} route add default via 10.244.0.1"));
        ip(&format!("-n {pod} -6 route add default via fd10:244::1"));
        self.pods.push(pod.clone());
        pod
    }

    /// Adds pods that answer with their number on TCP and UDP port 8080.
    pub fn add_servers(&mut self, numbers: impl IntoIterator<Item = u8>) {
        for number in numbers {
            let pod = self.add_pod(number);
            serve(&pod, &format!("pod{number}"), 8080);
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in self.pods.iter().chain(&[self.node(), self.outside()]) {
            ip(&format!("netns del {namespace}"));
        }
    }
}

/// Without waiting for duplicate addresses to show up.
fn add_namespace(namespace: &str) {
    ip(&format!("netns add {namespace}"));
    inside(namespace, || {
        for conf in ["all", "default"] {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{conf}/accept_dad"), "0").expect("accept_dad");
        }
    });
    ip(&format!("-n {namespace} link set lo up"));
}

pub fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("running ip");
    assert!(status.success(), "ip {arguments}: {status}");
}

/// Runs `act` in a thread inside the namespace.
pub fn inside<T: Send>(namespace: &str, act: impl FnOnce() -> T + Send) -> T {
    let enter = || {
        let file = File::open(format!("/var/run/netns/{namespace}")).expect("the namespace");
        setns(file, CloneFlags::CLONE_NEWNET).expect("entering the namespace");
        act()
    };
    std::thread::scope(|scope| scope.spawn(enter).join()).expect("a thread in the namespace")
}

/// Answers every TCP connection and UDP datagram with `name`, a blank and the client's address, until the process ends.
pub fn serve(namespace: &str, name: &str, port: u16) {
    let (listener, socket) = inside(namespace, || {
        let any = SocketAddr::new("::".parse().expect("::"), port);
        (TcpListener::bind(any).expect("listening"), UdpSocket::bind(any).expect("binding"))
    });
    let tcp_name = name.to_string();
    std::thread::spawn(move || {
        while let Ok((mut stream, client)) = listener.accept() {
            let _ = write!(stream, "{tcp_name} {}", client.ip().to_canonical());
        }
    });
    let name = name.to_string();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, client)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {}", client.ip().to_canonical()).as_bytes(), client);
        }
    });
}

/// Who answered, and the address it saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub server: String,
    pub client: String,
}

fn answer(text: &str) -> io::Result<Answer> {
    let (server, client) = text.split_once(' ').ok_or_else(|| io::Error::other(format!("answered {text:?}")))?;
    Ok(Answer { server: server.to_string(), client: client.to_string() })
}

const PATIENCE: Duration = Duration::from_millis(700);

/// One TCP connection from inside the namespace.
pub fn tcp(namespace: &str, address: &str, port: u16) -> io::Result<Answer> {
    let to = SocketAddr::new(address.parse::<IpAddr>().expect("an address"), port);
    inside(namespace, || {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        answer(&text)
    })
}

/// One datagram there and one back, from a socket of its own.
pub fn udp(namespace: &str, address: &str, port: u16) -> io::Result<Answer> {
    let to = SocketAddr::new(address.parse::<IpAddr>().expect("an address"), port);
    inside(namespace, || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(to)?;
        udp_once(&socket)
    })
}

pub fn udp_once(socket: &UdpSocket) -> io::Result<Answer> {
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(b"?")?;
    let mut buffer = [0; 64];
    let read = socket.recv(&mut buffer)?;
    answer(&String::from_utf8_lossy(&buffer[..read]))
}

/// The servers that answer `tries` connections.
pub fn servers(namespace: &str, address: &str, port: u16, tries: usize) -> std::collections::BTreeSet<String> {
    (0..tries).map(|_| tcp(namespace, address, port).unwrap_or_else(|e| panic!("{address}: {e}")).server).collect()
}
