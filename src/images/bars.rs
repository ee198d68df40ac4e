//! A pull or an import as it goes: a bar per layer on a terminal, plain lines elsewhere.
//!
//! Must not know: what is pulled.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use pintle_images::{Digest, Event, Progress};

const BAR: &str = "{prefix} {bar:30} {bytes:>10} / {total_bytes:<10} {msg}";

/// What is shown of one image.
pub struct Shown(Arc<dyn Watcher>);

trait Watcher: Send + Sync {
    fn tell(&self, event: Event);
    fn end(&self);
}

impl Shown {
    pub fn start(name: &str) -> Self {
        match std::io::stderr().is_terminal() {
            true => Self(Arc::new(Bars::default())),
            false => Self(Arc::new(Lines { name: name.to_owned(), layers: Mutex::default() })),
        }
    }

    pub fn progress(&self) -> Progress {
        let watcher = self.0.clone();
        Progress::to(move |event| watcher.tell(event))
    }

    pub fn end(self) {
        self.0.end();
    }
}

#[derive(Default)]
struct Bars {
    all: MultiProgress,
    layers: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    fn with(&self, blob: &Digest, act: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = self.layers.lock().unwrap_or_else(PoisonError::into_inner).get(blob) {
            act(bar);
        }
    }

    fn add(&self, blob: Digest, bytes: u64) {
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        layers.entry(blob).or_insert_with_key(|blob| {
            let style = ProgressStyle::with_template(BAR).unwrap_or_else(|_| ProgressStyle::default_bar());
            let bar = self.all.add(ProgressBar::new(bytes).with_style(style));
            bar.with_prefix(short(blob)).with_message("waiting")
        });
    }
}

impl Watcher for Bars {
    fn tell(&self, event: Event) {
        match event {
            Event::Resolved { layers, .. } => layers.into_iter().for_each(|(blob, bytes)| self.add(blob, bytes)),
            Event::Fetched { blob, bytes } => self.with(&blob, |bar| {
                bar.set_message("pulling");
                bar.set_position(bytes);
            }),
            Event::Retrying { what, error } => {
                // a terminal that is gone is no reason to stop
                let _ = self.all.println(format!("{what}: trying again: {error}"));
            }
            Event::Ready { blob } => self.with(&blob, |bar| {
                bar.set_position(bar.length().unwrap_or_default());
                bar.finish_with_message("ready");
            }),
        }
    }

    fn end(&self) {
        let _ = self.all.clear();
    }
}

struct Lines {
    name: String,
    layers: Mutex<HashMap<Digest, u64>>,
}

impl Watcher for Lines {
    fn tell(&self, event: Event) {
        let name = &self.name;
        match event {
            Event::Resolved { manifest, layers } => {
                eprintln!("{name}: {manifest}, {} layers", layers.len());
                self.layers.lock().unwrap_or_else(PoisonError::into_inner).extend(layers);
            }
            Event::Fetched { .. } => {}
            Event::Retrying { what, error } => eprintln!("{name}: {what}: trying again: {error}"),
            Event::Ready { blob } => {
                let layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
                let bytes = layers.get(&blob).copied().unwrap_or_default();
                eprintln!("{name}: layer {} ready, {}", short(&blob), super::table::size(bytes));
            }
        }
    }

    fn end(&self) {}
}

fn short(blob: &Digest) -> String {
    blob.hex().chars().take(12).collect()
}
