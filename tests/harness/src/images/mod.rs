//! The images of the tests, each one layer around Debian's static busybox: a web server in two versions, a shell, and a
//! client with HTTP and DNS tools.
//!
//! Must not know: who pulls them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use pintle_cri::archive::{Entry, Image, ImageConfig, layer};

use crate::Registry;

/// The package everything comes from, and the program in it.
const PACKAGE: &str = "busybox-static";
const PROGRAM: &str = "bin/busybox";

/// References of the images that were pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Images {
    /// Serves HTTP on port 80: `/` says `web 1`, `/hostname` the pod's name, `/healthz` says `ok`.
    pub web1: String,
    /// The same, saying `web 2`.
    pub web2: String,
    /// Sleeps; has a shell, `cat`, `tar` and the like.
    pub shell: String,
    /// Sleeps; `wget`, `nslookup`, `nc`, `ping`.
    pub client: String,
}

impl Images {
    pub fn all(&self) -> [&str; 4] {
        [&self.web1, &self.web2, &self.shell, &self.client]
    }
}

/// Builds the images and pushes them: `web:1`, `web:2`, `shell:1` and `client:1`.
///
/// # Errors
/// Debian's package is neither installed nor to be had, or the registry refuses.
pub async fn build_and_push(registry: &Registry) -> Result<Images> {
    let busybox = busybox()?;
    let sleeping = image(&busybox, &[], "exec sleep 1000000000");
    Ok(Images {
        web1: registry.push("web", "1", &web(&busybox, "1")).await?,
        web2: registry.push("web", "2", &web(&busybox, "2")).await?,
        shell: registry.push("shell", "1", &sleeping).await?,
        client: registry.push("client", "1", &sleeping).await?,
    })
}

/// The web server in a version.
fn web(busybox: &Busybox, version: &str) -> Image {
    let page = format!("web {version}\n");
    let files = [("www/index.html", page.as_str()), ("www/healthz", "ok\n")];
    image(busybox, &files, "hostname > /www/hostname; echo serving; exec httpd -f -v -p 80 -h /www")
}

struct Busybox {
    program: Vec<u8>,
    applets: Vec<String>,
}

/// An image whose containers run a line of shell, which dies of SIGTERM although it is PID 1.
fn image(busybox: &Busybox, files: &[(&str, &str)], script: &str) -> Image {
    let run = format!("#!/bin/sh\ntrap 'exit 0' TERM\n({script}) &\nwait\n");
    let links: Vec<String> = busybox.applets.iter().map(|name| format!("bin/{name}")).collect();
    let mut entries: Vec<Entry<'_>> = ["bin", "etc", "root", "www"].map(|path| Entry::directory(path, 0o755)).into();
    entries.push(Entry::directory("tmp", 0o1777));
    entries.push(Entry::file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"));
    entries.push(Entry::file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n"));
    entries.push(Entry::file("bin/run", 0o755, run.as_bytes()));
    entries.push(Entry::file(PROGRAM, 0o755, &busybox.program));
    entries.extend(links.iter().map(|path| Entry::link(path, "busybox")));
    entries.extend(files.iter().map(|(path, text)| Entry::file(path, 0o644, text.as_bytes())));
    let config = ImageConfig { cmd: vec!["/bin/run".into()], env: vec!["PATH=/bin".into()], ..Default::default() };
    Image::build(&config, vec![layer(&entries)])
}

/// Debian's static busybox: the installed one, else from the package.
fn busybox() -> Result<Busybox> {
    let installed = Path::new("/").join(PROGRAM);
    let downloads = tempfile::tempdir()?;
    let path = if is_static(&installed) { installed } else { download(downloads.path())? };
    let listed = Command::new(&path).arg("--list").output().context("busybox does not run")?;
    let names = String::from_utf8(listed.stdout)?;
    let applets = names.lines().filter(|name| *name != "busybox").map(str::to_owned).collect();
    Ok(Busybox { program: std::fs::read(&path)?, applets })
}

fn is_static(program: &Path) -> bool {
    let owned = Command::new("dpkg").args(["-s", PACKAGE]).output();
    program.exists() && owned.is_ok_and(|answer| answer.status.success())
}

fn download(dir: &Path) -> Result<PathBuf> {
    let got = Command::new("apt-get").args(["download", PACKAGE]).current_dir(dir).output()?;
    ensure!(got.status.success(), "apt-get download {PACKAGE}: {}", String::from_utf8_lossy(&got.stderr));
    let package = std::fs::read_dir(dir)?.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some());
    let package = package.context("apt-get downloaded nothing")?;
    let unpacked = Command::new("dpkg-deb").arg("-x").arg(&package).arg(dir).status()?;
    ensure!(unpacked.success(), "cannot unpack {}", package.display());
    Ok(dir.join(PROGRAM))
}
