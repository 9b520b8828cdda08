//! A small filesystem of its own for the database, so that a disk can be full without harm to anybody else.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What is left when the disk counts as full: the log of the database is written in pages of this size.
const LEFT_FREE: u64 = 8192;

/// A mounted ext4 filesystem in a sparse file. Unmounted by the guardian of the folder that it stands in.
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// None, with the reason, where this user or this machine may not mount.
    pub fn mount(folder: &Path, size: u64) -> Result<Self, String> {
        let (image, path) = (folder.join("disk.img"), folder.join("disk"));
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        File::create(&image).and_then(|file| file.set_len(size)).map_err(|error| error.to_string())?;
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&path))?;
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the space that is left.
    pub fn fill(&self) -> Result<(), String> {
        for _ in 0..8 {
            let free = self.free()?;
            if free <= LEFT_FREE {
                break;
            }
            let size = self.ballast_size() + (free - LEFT_FREE / 2);
            let mut command = Command::new("fallocate");
            // more than there is: then a little less
            if run(command.arg("-l").arg(size.to_string()).arg(self.ballast())).is_err() {
                let size = self.ballast_size() + free / 2;
                let _ = run(Command::new("fallocate").arg("-l").arg(size.to_string()).arg(self.ballast()));
            }
        }
        Ok(())
    }

    pub fn release(&self) {
        let _ = fs::remove_file(self.ballast());
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }

    fn ballast_size(&self) -> u64 {
        fs::metadata(self.ballast()).map_or(0, |file| file.len())
    }

    fn free(&self) -> Result<u64, String> {
        let output = Command::new("df")
            .args(["--output=avail", "-B1"])
            .arg(&self.path)
            .output()
            .map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().nth(1).and_then(|line| line.trim().parse().ok()).ok_or(format!("df says {text}"))
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{}: {said}", command.get_program().display()))
}
