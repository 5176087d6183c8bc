//! Which file systems are not this machine's own.

use std::fs::File;

/// The name of the file system if it may be another machine's: locks there may be this machine's alone, and nobody tells us of
/// changes. Also what a process provides, which can promise anything.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn foreign(file: &File) -> nix::Result<Option<&'static str>> {
    let kind = nix::sys::statfs::fstatfs(file)?.filesystem_type();
    // The kernel's numbers are 32 bits, however wide the field.
    Ok(name(kind.0 as u32))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn name(kind: u32) -> Option<&'static str> {
    Some(match kind {
        0x0000_6969 => "NFS",
        0x0000_517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x7375_7245 => "Coda",
        0x0000_564c => "NCP",
        0x6573_5546 => "FUSE",
        0x0102_1997 => "9P",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x2003_0528 => "OrangeFS",
        0xaad7_aaea => "PanFS",
        0x786f_4256 => "a shared folder of VirtualBox",
        _ => return None,
    })
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn foreign(file: &File) -> nix::Result<Option<&'static str>> {
    let status = nix::sys::statfs::fstatfs(file)?;
    let names = ["nfs", "smbfs", "afpfs", "webdav", "macfuse", "osxfuse", "fusefs"];
    Ok(names.into_iter().find(|name| status.filesystem_type_name() == *name))
}

#[cfg(all(test, any(target_os = "linux", target_os = "android")))]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_and_local_ones_are_not_among_them() {
        for (kind, known) in [
            (nix::libc::NFS_SUPER_MAGIC as u32, Some("NFS")),
            (nix::libc::SMB_SUPER_MAGIC as u32, Some("SMB")),
            (nix::libc::AFS_SUPER_MAGIC as u32, Some("AFS")),
            (nix::libc::CODA_SUPER_MAGIC as u32, Some("Coda")),
            (nix::libc::FUSE_SUPER_MAGIC as u32, Some("FUSE")),
            (nix::libc::OCFS2_SUPER_MAGIC as u32, Some("OCFS2")),
            (nix::libc::EXT4_SUPER_MAGIC as u32, None),
            (nix::libc::XFS_SUPER_MAGIC as u32, None),
            (nix::libc::BTRFS_SUPER_MAGIC as u32, None),
            (nix::libc::TMPFS_MAGIC as u32, None),
            (nix::libc::OVERLAYFS_SUPER_MAGIC as u32, None),
        ] {
            assert_eq!(name(kind), known, "{kind:x}");
        }
    }
}
