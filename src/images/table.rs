//! Images as lines of a table, and as JSON.
//!
//! Must not know: where they go.

use pintle_images::Image;
use serde_json::{Value, json};

/// A heading, and a line per tag (or per image that has none).
pub fn lines(images: &[Image]) -> Vec<String> {
    let mut rows: Vec<[String; 4]> = images.iter().flat_map(rows).collect();
    rows.sort();
    rows.insert(0, ["IMAGE", "ID", "SIZE", "PINNED"].map(str::to_owned));
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    let line = |row: &[String; 4]| {
        let [name, id, size, pinned] = row;
        let [first, second, third] = widths;
        format!("{name:<first$}  {id:<second$}  {size:>third$}  {pinned}").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

fn rows(image: &Image) -> Vec<[String; 4]> {
    let unnamed = [image.digests.first().cloned().unwrap_or_else(|| "<none>".into())];
    let names = if image.tags.is_empty() { &unnamed[..] } else { &image.tags };
    let id: String = image.id.hex().chars().take(13).collect();
    let pinned = if image.pinned { "yes" } else { "" };
    names.iter().map(|name| [name.clone(), id.clone(), size(image.size), pinned.to_owned()]).collect()
}

/// With crictl's names.
pub fn described(image: &Image) -> Value {
    json!({
        "id": image.id, "repoTags": image.tags, "repoDigests": image.digests, "size": image.size.to_string(),
        "pinned": image.pinned, "manifest": image.manifest,
    })
}

/// In units of 1000, as `crictl images` and `docker images` show them.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit < UNITS.len() - 1 {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes}B") } else { format!("{value:.1}{}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        assert_eq!([size(999), size(1_500), size(2_000_000_000)], ["999B", "1.5kB", "2.0GB"]);
    }
}
