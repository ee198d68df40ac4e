//! The volumes that an image declares.
//!
//! Must not know: how they are filled.

use std::path::{Path, PathBuf};

use oci_spec::image::Config;
use pintle_cri::v1::ContainerConfig;

use crate::mounts::clean;

/// A volume of the image: a folder of the container's own that the caller makes, and fills with what the image has at
/// the destination, before the container starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// In the container, absolute.
    pub destination: PathBuf,
    /// On the host, below the container's folder.
    pub source: PathBuf,
}

/// The image's volumes but those that a mount of the request covers, in order of their destinations; the first gets the
/// folder `0` of `dir`, and so on.
pub fn image_volumes(config: &ContainerConfig, image: Option<&Config>, dir: &Path) -> Vec<Volume> {
    let covered = |path: &PathBuf| config.mounts.iter().any(|mount| clean(&mount.container_path) == *path);
    let declared = image.and_then(|image| image.volumes().as_deref()).unwrap_or_default();
    let mut places: Vec<PathBuf> = declared.iter().map(|volume| clean(volume)).filter(|path| !covered(path)).collect();
    places.sort_unstable();
    places.dedup();
    let numbered = places.into_iter().filter(|path| path != Path::new("/")).enumerate();
    numbered.map(|(number, destination)| Volume { destination, source: dir.join(number.to_string()) }).collect()
}

#[cfg(test)]
mod tests {
    use pintle_cri::v1::Mount;

    use super::*;

    #[test]
    fn a_mount_of_the_request_covers_a_volume_of_the_image() {
        let mut image = Config::default();
        image.set_volumes(Some(["/var/lib/data", "/log/", "relative", "/log", "/"].map(str::to_owned).into()));
        let mount = Mount { container_path: "/var//lib/data/".into(), ..Default::default() };
        let config = ContainerConfig { mounts: vec![mount], ..Default::default() };
        let got = image_volumes(&config, Some(&image), Path::new("/c"));
        let at = |destination: &str, source: &str| Volume { destination: destination.into(), source: source.into() };
        assert_eq!(got, [at("/log", "/c/0"), at("/relative", "/c/1")]);
        assert_eq!(image_volumes(&config, None, Path::new("/c")), []);
    }
}
