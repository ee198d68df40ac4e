//! The images of the tests, made from Debian's packages: nginx in two versions of a page, a shell (busybox), a client
//! with curl and kdig, and a program of a test's own. Each is a layer of busybox and one of the programs.
//!
//! Must not know: who pulls them.

mod programs;

use std::path::Path;

use anyhow::Result;
use pintle_cri::archive::{Entry, Image, ImageConfig, layer};

use crate::Registry;
use programs::{Busybox, File};

/// References of the images that were pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// nginx on port 80: `/` says `web 1`, `/hostname` the pod's name, `/healthz` says `ok`; the pages are in `/www`.
    /// It logs requests to standard output.
    pub web1: String,
    /// The same, saying `web 2`.
    pub web2: String,
    /// Sleeps; has a shell, `cat`, `tar` and the like.
    pub shell: String,
    /// Sleeps; `curl` and `kdig` beside what the shell has.
    pub client: String,
}

impl Images {
    pub fn all(&self) -> [&str; 4] {
        [&self.web1, &self.web2, &self.shell, &self.client]
    }
}

/// Sleeps, and ends well of SIGTERM although it is PID 1.
const SLEEP: &str = "trap 'exit 0' TERM; sleep 1000000000 & wait";
const SERVE: &str = "hostname > /www/hostname; echo serving; exec nginx";
/// In the foreground, logging as containers do, with nothing that needs a user or a folder of Debian's.
const NGINX: &str = "daemon off;
worker_processes 1;
user root root;
pid /run/nginx.pid;
error_log /dev/stderr;
events { worker_connections 256; }
http {
  access_log /dev/stdout;
  default_type text/plain;
  types { text/html html; }
  server { listen 80; root /www; }
}
";

/// Builds the images and pushes them: `web:1`, `web:2`, `shell:1` and `client:1`.
///
/// # Errors
/// One of Debian's packages is not installed (the error names it), or the registry refuses.
pub async fn build_and_push(registry: &Registry) -> Result<Images> {
    let base = base(&programs::busybox()?);
    let nginx = programs::with_libraries(&["/usr/sbin/nginx"], "nginx-light")?;
    let mut tools = programs::with_libraries(&["/usr/bin/curl"], "curl")?;
    tools.extend(programs::with_libraries(&["/usr/bin/kdig"], "knot-dnsutils")?);
    let client = image(vec![base.clone(), files(&tools, &[])], SLEEP);
    Ok(Images {
        web1: registry.push("web", "1", &web(&base, &nginx, "1")).await?,
        web2: registry.push("web", "2", &web(&base, &nginx, "2")).await?,
        shell: registry.push("shell", "1", &image(vec![base], SLEEP)).await?,
        client: registry.push("client", "1", &client).await?,
    })
}

/// Builds an image that runs `program`, an executable of this machine, with `arguments`, and pushes it as `name:1`; its
/// reference.
///
/// # Errors
/// The program cannot be read, or the registry refuses.
pub async fn push_program(registry: &Registry, name: &str, program: &Path, arguments: &[&str]) -> Result<String> {
    let mut found = programs::with_libraries(&[&program.to_string_lossy()], name)?;
    found.iter_mut().filter(|file| Path::new("/").join(&file.path) == program).for_each(|file| {
        file.path = "bin/program".into();
    });
    let layers = vec![base(&programs::busybox()?), files(&found, &[])];
    let cmd = ["/bin/program"].iter().chain(arguments).map(|word| (*word).to_owned()).collect();
    registry.push(name, "1", &Image::build(&config(cmd), layers)).await
}

/// The web server in a version.
fn web(base: &[u8], nginx: &[File], version: &str) -> Image {
    let page = format!("web {version}\n");
    let pages = [("www/index.html", page.as_str()), ("www/healthz", "ok\n"), ("etc/nginx/nginx.conf", NGINX)];
    image(vec![base.to_vec(), files(nginx, &[]), files(&[], &pages)], SERVE)
}

fn config(cmd: Vec<String>) -> ImageConfig {
    ImageConfig { cmd, env: vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".into()], ..Default::default() }
}

/// An image whose containers run a line of shell.
fn image(layers: Vec<Vec<u8>>, script: &str) -> Image {
    Image::build(&config(["/bin/sh", "-c", script].map(str::to_owned).to_vec()), layers)
}

/// The folders and files of every image, and busybox under all its names.
fn base(busybox: &Busybox) -> Vec<u8> {
    let links: Vec<String> = busybox.applets.iter().map(|name| format!("bin/{name}")).collect();
    let folders = ["bin", "etc", "etc/nginx", "root", "run", "var", "var/lib", "var/lib/nginx", "var/log", "www"];
    let mut entries: Vec<Entry<'_>> = folders.iter().map(|path| Entry::directory(path, 0o755)).collect();
    entries.push(Entry::directory("var/log/nginx", 0o755));
    entries.push(Entry::directory("tmp", 0o1777));
    entries.push(Entry::file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"));
    entries.push(Entry::file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n"));
    entries.push(Entry::file(programs::BUSYBOX, 0o755, &busybox.program));
    entries.extend(links.iter().map(|path| Entry::link(path, "busybox")));
    layer(&entries)
}

/// A layer of programs and of small files.
fn files(programs: &[File], texts: &[(&str, &str)]) -> Vec<u8> {
    let mut entries: Vec<Entry<'_>> = programs.iter().map(|file| Entry::file(&file.path, 0o755, &file.bytes)).collect();
    entries.extend(texts.iter().map(|(path, text)| Entry::file(path, 0o644, text.as_bytes())));
    layer(&entries)
}
