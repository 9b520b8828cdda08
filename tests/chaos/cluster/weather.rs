//! A clock that is wrong, and targets that cannot be reached: for one replica, while it runs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/chaos/cluster/weather.c");

/// What can befall a replica, and does not until it is told to.
#[derive(Clone, Debug)]
pub struct Weather {
    library: PathBuf,
    folder: PathBuf,
    replica: usize,
    /// How wrong its clock is.
    seconds: i64,
    /// Where the targets are.
    port: u16,
}

impl Weather {
    /// Compiles what a replica is to be started with.
    pub fn library(folder: &Path) -> Result<PathBuf, String> {
        let library = folder.join("weather.so");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&library).arg(SOURCE);
        let output = command.args(["-ldl"]).output().map_err(|error| format!("cc: {error}"))?;
        if output.status.success() {
            return Ok(library);
        }
        Err(format!("cc: {}", String::from_utf8_lossy(&output.stderr)))
    }

    pub fn new(library: &Path, folder: &Path, replica: usize, seconds: i64, port: u16) -> Self {
        Self { library: library.to_owned(), folder: folder.to_owned(), replica, seconds, port }
    }

    pub fn settings(&self) -> [(&'static str, String); 5] {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        [
            ("LD_PRELOAD", text(self.library.clone())),
            ("WEATHER_SKEWED", text(self.skewed())),
            ("WEATHER_SECONDS", self.seconds.to_string()),
            ("WEATHER_CUT_OFF", text(self.cut_off())),
            ("WEATHER_PORT", self.port.to_string()),
        ]
    }

    fn skewed(&self) -> PathBuf {
        self.folder.join(format!("skewed-{}", self.replica))
    }

    fn cut_off(&self) -> PathBuf {
        self.folder.join(format!("cut-off-{}", self.replica))
    }

    /// From now on its clock is wrong.
    pub fn skew(&self) {
        fs::write(self.skewed(), "").unwrap();
    }

    /// From now on it does not reach its targets.
    pub fn cut(&self) {
        fs::write(self.cut_off(), "").unwrap();
    }

    pub fn mend(&self) {
        fs::remove_file(self.cut_off()).unwrap();
    }
}
