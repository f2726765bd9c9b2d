//! A small file system of its own, to be filled, and folders that nothing may be written to.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system as large as said, in a folder that every user may enter.
pub(crate) struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None`: only root may mount, and the test is named as skipped.
    #[track_caller]
    pub(crate) fn new(size: &str) -> Option<SmallDisk> {
        let home = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=0777");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(home.path()).output();
        match mounted {
            Ok(out) if out.status.success() => {
                std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
                Some(SmallDisk(home))
            }
            _ => {
                crate::skipped::name_it("only root may mount the small disk that is filled");
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn resize(&self, size: &str) {
        let more = Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(self.path()).status();
        assert!(more.unwrap().success());
    }

    /// Leaves no room on it, until what is returned is dropped.
    pub(crate) fn fill(&self) -> Filler {
        let path = self.path().join("filler");
        let mut file = File::create(&path).unwrap();
        // In pages: less than one is no room for anything.
        while file.write_all(&[0; 4_096]).is_ok() {}
        Filler(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

/// What takes all the room there is.
pub(crate) struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A folder in which nothing can be made or opened for writing, until it is dropped.
pub(crate) struct ReadOnly(PathBuf);

impl ReadOnly {
    /// `None`: only root may mount, and the test is named as skipped.
    #[track_caller]
    pub(crate) fn of(folder: &Path) -> Option<ReadOnly> {
        let mount = |args: &[&str]| {
            let done = Command::new("mount").args(args).arg(folder).output();
            done.is_ok_and(|out| out.status.success())
        };
        let place = folder.to_str().unwrap();
        if !mount(&["--bind", place]) {
            crate::skipped::name_it("only root may make a folder read-only");
            return None;
        }
        let made = ReadOnly(folder.to_owned());
        assert!(mount(&["-o", "remount,ro,bind"]));
        Some(made)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
