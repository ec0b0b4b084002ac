//! How much of the memory that the kernel grants us is in use.
//!
//! Asked of the files that every control group shows (cgroup v2, or v1 where that is all there is). In use is our own resident
//! memory: what the page cache or another process of the group holds does not become less by shedding calls.

use std::path::Path;

/// Unlimited groups of v1 say this or near to it: a page short of 2^63.
const UNLIMITED: u64 = 1 << 62;

/// The share in use; zero where there is no limit or nothing can be read.
#[must_use]
pub fn share() -> f64 {
    read(Path::new("/proc/self"), Path::new("/sys/fs/cgroup")).unwrap_or_default()
}

/// With the folders to look in.
pub(super) fn read(process: &Path, groups: &Path) -> Option<f64> {
    let limit = limit(process, groups)?;
    let resident = resident(process)?;
    Some(resident as f64 / limit as f64)
}

fn resident(process: &Path) -> Option<u64> {
    let status = std::fs::read_to_string(process.join("status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// The least of our group and those above it, for each of them bounds us.
fn limit(process: &Path, groups: &Path) -> Option<u64> {
    let membership = std::fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    let ours = membership.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let path = path.trim_start_matches('/').to_owned();
        if controllers.is_empty() {
            Some((groups.to_owned(), path, "memory.max"))
        } else if controllers.split(',').any(|name| name == "memory") {
            Some((groups.join("memory"), path, "memory.limit_in_bytes"))
        } else {
            None
        }
    });
    ours.flat_map(|(root, path, file)| {
        let above = Path::new(&path).ancestors();
        let limits = above.map(|group| number(&root.join(group).join(file)));
        limits.collect::<Vec<_>>()
    })
    .flatten()
    .filter(|limit| (1..UNLIMITED).contains(limit))
    .min()
}

/// `max`, for none, is no number.
fn number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}
