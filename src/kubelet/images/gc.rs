//! Removes images that no container uses when the disk fills up, or when nobody used them for long.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, SystemTime},
};

use runtime::ImageUsage;
use tracing::{info, warn};

use super::Images;
use crate::config::KubeletConfig;

/// Size of a filesystem and what is left of it, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) capacity: u64,
    pub(crate) used: u64,
    pub(crate) available: u64,
    pub(crate) inodes: u64,
    pub(crate) inodes_free: u64,
}

impl Disk {
    /// The filesystem that holds `path`.
    pub(crate) fn at(path: &Path) -> std::io::Result<Self> {
        let stat = nix::sys::statvfs::statvfs(path)?;
        let block = stat.fragment_size();
        Ok(Self {
            capacity: stat.blocks() * block,
            used: stat.blocks().saturating_sub(stat.blocks_free()) * block,
            available: stat.blocks_available() * block,
            inodes: stat.files(),
            inodes_free: stat.files_available(),
        })
    }

    /// What is there to be used or is used. What is kept back for root, or by a quota, does not
    /// count: no removal gives it back.
    fn usable(&self) -> u64 {
        self.used + self.available
    }

    /// How much of what can be used is left, in percent.
    pub(crate) fn percent_available(&self) -> f64 {
        match self.usable() {
            0 => 100.0,
            usable => self.available as f64 * 100.0 / usable as f64,
        }
    }
}

/// Which images to remove: enough to bring the disk down to the low threshold once it is above the
/// high one, the least recently used first, and all that are too old.
fn choose(
    usage: &[ImageUsage],
    disk: Disk,
    config: &KubeletConfig,
    now: SystemTime,
) -> Vec<String> {
    let percent = |part: u8| disk.usable() / 100 * u64::from(part);
    let mut to_free = if disk.used >= percent(config.image_gc_high) && disk.usable() > 0 {
        disk.used.saturating_sub(percent(config.image_gc_low))
    } else {
        0
    };
    let age = |since: SystemTime| now.duration_since(since).unwrap_or(Duration::ZERO);
    let mut chosen = Vec::new();
    for image in usage {
        if image.in_use || image.pinned || age(image.created) < config.image_gc_min_age {
            continue;
        }
        let max_age = config.image_gc_max_age;
        let too_old = !max_age.is_zero() && age(image.last_used) > max_age;
        if too_old || to_free > 0 {
            to_free = to_free.saturating_sub(image.unique_bytes);
            chosen.push(image.id.clone());
        }
    }
    chosen
}

/// Collects once. Answers the bytes freed.
pub(crate) async fn collect(images: &Images, config: &KubeletConfig) -> u64 {
    let disk = match Disk::at(&config.data_dir) {
        Ok(disk) => disk,
        Err(error) => {
            warn!(%error, "disk usage cannot be read");
            return 0;
        }
    };
    let usage = images.store.usage();
    let mut freed = 0;
    for id in choose(&usage, disk, config, SystemTime::now()) {
        match images.store.remove(&id).await {
            Ok(bytes) => {
                info!(image = %id, bytes, "unused image removed");
                freed += bytes;
            }
            Err(error) => warn!(image = %id, %error, "unused image not removed"),
        }
    }
    let present: BTreeSet<String> = images.store.list().into_iter().map(|i| i.id).collect();
    images.access.retain(&present);
    freed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_go_until_there_is_room() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(10_000_000);
        let image = |id: &str, unused_secs: u64, in_use: bool| ImageUsage {
            id: id.to_owned(),
            unique_bytes: 50,
            created: now - Duration::from_secs(100_000),
            last_used: now - Duration::from_secs(unused_secs),
            in_use,
            pinned: false,
        };
        let usage = [image("old", 900, false), image("used", 800, true), image("new", 10, false)];
        let config = KubeletConfig::default();
        // A third is kept back from everybody.
        let disk = |available| Disk {
            capacity: 1500,
            used: 1000 - available,
            available,
            ..Disk::default()
        };
        assert!(choose(&usage, disk(200), &config, now).is_empty());
        assert_eq!(choose(&usage, disk(150), &config, now), ["old"]);
        assert_eq!(choose(&usage, disk(100), &config, now), ["old", "new"]);
        let aging = KubeletConfig {
            image_gc_max_age: Duration::from_secs(500),
            ..KubeletConfig::default()
        };
        assert_eq!(choose(&usage, disk(900), &aging, now), ["old"]);
    }
}
