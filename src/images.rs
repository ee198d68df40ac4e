//! `pintle images`: the embedded runtime's images, listed, pulled, imported, exported and removed, beside a running
//! runtime or without one.
//!
//! Must not know: how images are kept.

mod bars;
mod table;

use std::fs::File;
use std::io::{IsTerminal as _, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand, ValueEnum};
use pintle_images::{Auth, Compression, Config, Image, Store};

use crate::progress::say;

/// Where registries, their mirrors and credentials are configured, if it is there.
const REGISTRIES: &str = "/etc/pintle/registries.yaml";

const EXAMPLES: &str = r#"Examples:
  pintle images pull busybox registry.example:5000/team/app:v1
  pintle images pull --username me registry.example/app < password.txt
  pintle images export --output app.tar registry.example/app
  pintle images import app.tar            on another machine
  pintle images prune --all               what no container uses

Archives in /var/lib/pintle/runtime/import are imported when the runtime starts, and pinned.

/etc/pintle/registries.yaml says how registries are reached; the runtime reads it when it starts:
  registries:
    docker.io:
      mirrors: ["https://mirror.example:5000", "http://10.0.0.1/prefix"]    asked before it
    registry.example:
      caFile: /etc/ssl/private-ca.pem           or skipVerify: true, or plainHttp: true
      auth: { username: me, password: secret }  for pods without imagePullSecrets
    "*": { mirrors: ["https://cache.example"] }   for the others"#;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Images {
    #[command(subcommand)]
    command: Command,
    /// Where images are kept
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/pintle/runtime/images")]
    root: PathBuf,
    /// Registries: mirrors, plain HTTP, certificates, credentials [default: /etc/pintle/registries.yaml, where it is there]
    #[arg(long, global = true, value_name = "FILE")]
    registries: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// List images
    List {
        /// Print ids alone
        #[arg(short, long)]
        quiet: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Pull images from their registries
    Pull {
        /// Names with a tag or a digest; `latest` is the tag where none is given, docker.io the registry
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// The user at the registry; the password is read from standard input
        #[arg(long, value_name = "USER")]
        username: Option<String>,
    },
    /// Import archives of docker save, podman save, ctr export, or `pintle images export`
    Import {
        /// Files, plain or compressed with gzip or zstd; `-` is standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// What an image is called whose archive does not say
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Pin the images, so that garbage collection leaves them alone
        #[arg(long)]
        pin: bool,
    },
    /// Export images as one archive
    Export {
        /// Names or ids; an id stands for all names of the image
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Where to; `-` is standard output
        #[arg(short, long, value_name = "FILE", default_value = "-")]
        output: PathBuf,
        /// Compress the archive
        #[arg(long, value_enum, default_value_t = Compress::None)]
        compress: Compress,
    },
    /// Remove images, or names of them
    Remove {
        /// Names or ids: the last name, a digest or an id removes the image
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Remove images that are pinned or that containers use, too (these keep their files until they are gone)
        #[arg(short, long)]
        force: bool,
    },
    /// Remove images without a tag that no container uses, and what no image needs any more
    Prune {
        /// Remove all images that no container uses
        #[arg(short, long)]
        all: bool,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Compress {
    None,
    Gzip,
    Zstd,
}

pub async fn run(images: Images) -> Result<()> {
    let store = Store::open(&images.root, registries(images.registries.as_deref())?)?;
    match images.command {
        Command::List { quiet, json } => list(&store, quiet, json),
        Command::Pull { names, username } => pull(&store, &names, username).await,
        Command::Import { files, name, pin } => import(&store, &files, name.as_deref(), pin).await,
        Command::Export { names, output, compress } => export(&store, names, &output, compress).await,
        Command::Remove { names, force } => remove(&store, &names, force),
        Command::Prune { all } => prune(&store, all),
    }
}

pub fn registries(file: Option<&Path>) -> Result<Config> {
    let path = file.unwrap_or(Path::new(REGISTRIES));
    if file.is_none() && !path.exists() {
        return Ok(Config::default());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_yaml_ng::from_str(&text).with_context(|| format!("{} is not valid", path.display()))
}

fn list(store: &Store, quiet: bool, json: bool) -> Result<()> {
    let images = store.list()?;
    if json {
        say(&serde_json::to_string_pretty(&images.iter().map(table::described).collect::<Vec<_>>())?);
    } else if quiet {
        images.iter().for_each(|image| say(image.id.as_str()));
    } else {
        table::lines(&images).iter().for_each(|line| say(line));
    }
    Ok(())
}

async fn pull(store: &Store, names: &[String], username: Option<String>) -> Result<()> {
    let auth = username.map(credentials).transpose()?;
    for name in names {
        let shown = bars::Shown::start(name);
        let image = store.pull(name, auth.as_ref(), shown.progress()).await?;
        shown.end();
        say(&format!("{name}: {}", image.id));
    }
    Ok(())
}

fn credentials(username: String) -> Result<Auth> {
    if std::io::stdin().is_terminal() {
        bail!("the password is read from standard input: pintle images pull --username {username} NAME < FILE");
    }
    let mut password = String::new();
    std::io::stdin().read_to_string(&mut password).context("cannot read the password from standard input")?;
    Ok(Auth::Basic { username, password: password.trim_end_matches(['\r', '\n']).to_owned() })
}

async fn import(store: &Store, files: &[PathBuf], name: Option<&str>, pin: bool) -> Result<()> {
    for file in files {
        let shown = bars::Shown::start(&file.display().to_string());
        let images = store.import(reader(file)?, name, shown.progress()).await;
        let images = images.with_context(|| format!("cannot import {}", file.display()))?;
        shown.end();
        for image in images {
            if pin {
                store.pin(image.id.as_str(), true)?;
            }
            say(&format!("{}: {}", called(&image), image.id));
        }
    }
    Ok(())
}

fn reader(file: &Path) -> Result<Box<dyn Read + Send>> {
    if file == Path::new("-") {
        return Ok(Box::new(std::io::stdin()));
    }
    Ok(Box::new(File::open(file).with_context(|| format!("cannot open {}", file.display()))?))
}

fn called(image: &Image) -> &str {
    image.tags.first().or(image.digests.first()).map_or("<none>", String::as_str)
}

async fn export(store: &Store, names: Vec<String>, output: &Path, compress: Compress) -> Result<()> {
    let compression = match compress {
        Compress::None => Compression::None,
        Compress::Gzip => Compression::Gzip,
        Compress::Zstd => Compression::Zstd,
    };
    if output == Path::new("-") {
        ensure!(!std::io::stdout().is_terminal(), "an archive is nothing to look at: name a file with --output");
        return Ok(store.export(names, std::io::stdout(), compression).await?);
    }
    let new = output.with_file_name(format!("{}.new", output.file_name().unwrap_or_default().display()));
    let file = File::create(&new).with_context(|| format!("cannot make {}", new.display()))?;
    let exported = store.export(names, std::io::BufWriter::with_capacity(1 << 20, file), compression).await;
    if exported.is_err() {
        // the error says more than a leftover that cannot be removed
        let _ = std::fs::remove_file(&new);
    }
    exported?;
    std::fs::rename(&new, output).with_context(|| format!("cannot make {}", output.display()))
}

/// A tag among several is taken from its image; the last, a digest or an id removes the image.
///
/// A name that cannot be removed does not keep the others.
fn remove(store: &Store, names: &[String], force: bool) -> Result<()> {
    let failed: Vec<String> = names
        .iter()
        .filter_map(|name| remove_one(store, name, force).err())
        .map(|error| format!("{error:#}"))
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

fn remove_one(store: &Store, name: &str, force: bool) -> Result<()> {
    let Some(image) = store.image(name)? else { bail!("image {name:?} not found") };
    let full = name.parse::<pintle_images::Reference>().map(|it| it.to_string()).unwrap_or_default();
    if image.tags.len() > 1 && image.tags.contains(&full) {
        store.untag(name)?;
        say(&format!("untagged {full}"));
        return Ok(());
    }
    let users = store.holds()?.into_iter().filter(|hold| hold.image == image.id).count();
    let by = if users == 1 { "1 container".to_owned() } else { format!("{users} containers") };
    ensure!(force || users == 0, "image {name:?} is used by {by}; --force removes it all the same");
    ensure!(force || !image.pinned, "image {name:?} is pinned; --force removes it all the same");
    store.remove(image.id.as_str())?;
    say(&format!("removed {}", image.id));
    Ok(())
}

fn prune(store: &Store, all: bool) -> Result<()> {
    let before = store.usage()?;
    for id in store.prune(all)? {
        say(&format!("removed {id}"));
    }
    let freed = before.bytes.saturating_sub(store.usage()?.bytes);
    say(&format!("freed {}", table::size(freed)));
    std::io::stdout().flush().context("cannot write to standard output")
}
