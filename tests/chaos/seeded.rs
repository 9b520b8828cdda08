//! The checkers are checked: the product is built with a known bug at a time, and a run must fail.
//!
//! A bug is a patch in `bugs/`. The lines above the patch say what it is (`Bug:`), which run is to find it (`Run:`)
//! and which check it does not get past (`Check:`, the beginning of its name, or of some names with `|` between). The
//! same run without the bug must pass, else it proves nothing.
//!
//! `append` is made anew by one migration after the other. A patch names it as `migrations/append.sql`, which stands for
//! the newest: a bug in an older one would be in nobody's way.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Instant,
};

use crate::options::Options;

/// What a build needs of the sources.
const SOURCES: [&str; 7] = ["src", "migrations", "tests", "benches", ".sqlx", ".cargo", "Cargo.toml"];
/// What is taken over from the build at hand, so that the dependencies are not built again.
const BUILT: [&str; 3] = ["deps", ".fingerprint", "build"];

/// In seconds.
const LONGEST_RUN: &str = "240";

struct Bug {
    name: String,
    what: String,
    run: String,
    check: String,
    patch: PathBuf,
}

/// What one run came to.
struct Played {
    passed: bool,
    /// The checks that failed, with the second at which each did.
    failed: Vec<(f64, String)>,
    output: String,
}

impl Played {
    fn told_without_a_bug(self, run: &str) -> Vec<String> {
        said(&format!("without a bug: {} {run}", if self.passed { "passes" } else { "FAILS" }));
        if !self.passed {
            said(&self.output);
        }
        self.failed.into_iter().map(|(_, check)| check).collect()
    }
}

/// The bugs that cannot be put into the sources any more, because those have changed.
pub fn stale() -> Vec<String> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR"));
    match bugs() {
        Ok(bugs) => bugs.iter().filter_map(|bug| apply(sources, bug, true).err()).collect(),
        Err(error) => vec![error],
    }
}

/// Whether every bug was caught.
pub fn run(options: &Options) -> bool {
    let stale = stale();
    for error in &stale {
        said(&format!("does not apply any more: {error}"));
    }
    if options.applicable {
        said(&format!("{} passed, {} failed", usize::from(stale.is_empty()), stale.len()));
        return stale.is_empty();
    }
    let bugs: Vec<Bug> = match bugs() {
        Ok(bugs) => bugs.into_iter().filter(|bug| is_wanted(bug, options)).collect(),
        Err(error) => return failed(&error),
    };
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("seeded");
    let tree = match Tree::prepare(&place) {
        Ok(tree) => tree,
        Err(error) => return failed(&error),
    };
    // what each run finds where there is no bug
    let mut without: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut caught, mut seconds) = (0, Vec::new());
    for bug in &bugs {
        if !without.contains_key(&bug.run) {
            match tree.build().and_then(|()| tree.play(&bug.run, options)) {
                Ok(played) => without.insert(bug.run.clone(), played.told_without_a_bug(&bug.run)),
                Err(error) => return failed(&error),
            };
        }
        let found_anyway = &without[&bug.run];
        match tree.try_bug(bug, options) {
            Ok(Some((_, by))) if found_anyway.contains(&by) => {
                said(&format!("UNPROVEN {:30} \"{by}\" fails without it too", bug.name));
            }
            Ok(Some((second, by))) => {
                caught += 1;
                seconds.push(second);
                said(&format!("caught   {:30} after {second:5.1} s by \"{by}\" ({})", bug.name, bug.what));
            }
            Ok(None) => said(&format!("MISSED   {:30} {} ({})", bug.name, bug.what, bug.run)),
            Err(error) => said(&format!("FAILED   {:30} {error}", bug.name)),
        }
    }
    seconds.sort_unstable_by(f64::total_cmp);
    let median = seconds.get(seconds.len() / 2).copied().unwrap_or(0.0);
    said(&format!("seeded bugs caught: {caught} of {}, median after {median:.1} s", bugs.len()));
    said(&format!("{caught} passed, {} failed", bugs.len() - caught));
    caught == bugs.len()
}

fn is_wanted(bug: &Bug, options: &Options) -> bool {
    options.bug.as_ref().is_none_or(|name| bug.name == *name)
}

fn bugs() -> Result<Vec<Bug>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/chaos/bugs");
    let files = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut patches: Vec<PathBuf> = files.flatten().map(|file| file.path()).collect();
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    patches.into_iter().map(read).collect()
}

fn read(patch: PathBuf) -> Result<Bug, String> {
    let text = fs::read_to_string(&patch).map_err(|error| error.to_string())?;
    let line = |head: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(head));
        found
            .map(|rest| rest.trim().to_owned())
            .ok_or_else(|| format!("{} has no line {head}", patch.display()))
    };
    let name = patch.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Bug { name, what: line("Bug:")?, run: line("Run:")?, check: line("Check:")?, patch })
}

/// A copy of the sources, into which bugs are put.
struct Tree {
    sources: PathBuf,
    place: PathBuf,
    target: PathBuf,
}

impl Tree {
    fn prepare(place: &Path) -> Result<Self, String> {
        let tree = Self {
            sources: Path::new(env!("CARGO_MANIFEST_DIR")).to_owned(),
            place: place.join("tree"),
            target: place.join("target"),
        };
        fs::create_dir_all(&tree.place).map_err(|error| error.to_string())?;
        tree.restore()?;
        if !tree.target.exists() {
            tree.take_over_dependencies()?;
        }
        Ok(tree)
    }

    /// Puts the sources back as they are in the product.
    fn restore(&self) -> Result<(), String> {
        for name in SOURCES.iter().chain(&["Cargo.lock"]) {
            let from = self.sources.join(name);
            if from.exists() {
                let to = self.place.join(name);
                run_program(Command::new("rm").arg("-rf").arg(&to))?;
                run_program(Command::new("cp").arg("-r").arg(&from).arg(&to))?;
            }
        }
        Ok(())
    }

    /// Links what has been built already into the folder of these builds.
    fn take_over_dependencies(&self) -> Result<(), String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let Some(profile) = own.parent().and_then(Path::parent) else { return Ok(()) };
        let to = self.target.join(profile.file_name().unwrap_or_default());
        fs::create_dir_all(&to).map_err(|error| error.to_string())?;
        for name in BUILT {
            if profile.join(name).exists() {
                run_program(Command::new("cp").arg("-al").arg(profile.join(name)).arg(&to))?;
            }
        }
        Ok(())
    }

    fn build(&self) -> Result<(), String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(&self.place).args(["build", "--locked", "--bin", "rollcall"]);
        command.args(is_release().then_some("--release"));
        command.env("CARGO_TARGET_DIR", &self.target);
        run_program(&mut command).map(drop)
    }

    fn binary(&self) -> PathBuf {
        self.target.join(if is_release() { "release" } else { "debug" }).join("rollcall")
    }

    /// Runs the chaos with the binary of this tree.
    fn play(&self, run: &str, options: &Options) -> Result<Played, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        // with a bug a run may never end: what it has found by then counts
        let mut command = Command::new("timeout");
        command.arg(LONGEST_RUN).arg(own);
        command.args(run.split_whitespace()).arg("--binary").arg(self.binary());
        command.args(["--seed", &options.seed.to_string()]).stdin(Stdio::null());
        let output = command.output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let failed = text.lines().filter_map(|line| {
            let (second, rest) = line.split_once(" s ")?;
            let check = rest.trim_start().strip_prefix("FAILED  ")?;
            let check = check.rsplit_once(": ").map_or(check, |(name, _)| name);
            Some((second.trim().parse().ok()?, check.to_owned()))
        });
        Ok(Played { passed: output.status.success(), failed: failed.collect(), output: text.clone() })
    }

    /// Builds with the bug, and says when it was caught, and by which check: the one that should, if that did.
    fn try_bug(&self, bug: &Bug, options: &Options) -> Result<Option<(f64, String)>, String> {
        let begun = Instant::now();
        apply(&self.place, bug, false)?;
        // what is compiled in is not always noticed as changed
        let touched = run_program(Command::new("touch").arg(self.place.join("src/store/migrate.rs")));
        let played = touched.and_then(|_| self.build()).and_then(|()| self.play(&bug.run, options));
        self.restore()?;
        let played = played?;
        said(&format!("         {} took {:.0} s to build and run", bug.name, begun.elapsed().as_secs_f64()));
        let meant = |check: &str| bug.check.split('|').any(|name| check.starts_with(name.trim()));
        let expected = played.failed.iter().find(|(_, check)| meant(check));
        if expected.is_none() && !played.failed.is_empty() {
            said(&format!("         not caught by \"{}\" but by {:?}", bug.check, played.failed));
        }
        Ok(expected.cloned())
    }
}

fn apply(tree: &Path, bug: &Bug, only_check: bool) -> Result<(), String> {
    let mut command = Command::new("git");
    // else a repository around this folder decides what the paths of the patch mean
    command.current_dir(tree).env("GIT_CEILING_DIRECTORIES", tree.parent().unwrap_or(tree));
    let of_bug = |error: String| format!("{}: {error}", bug.name);
    let patch = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.patch", bug.name));
    let text = resolved(tree, bug).map_err(of_bug)?;
    fs::write(&patch, text).map_err(|error| of_bug(error.to_string()))?;
    command.args(["apply", "-C1"]).args(only_check.then_some("--check")).arg(&patch);
    run_program(&mut command).map(drop).map_err(of_bug)
}

const APPEND: &str = "migrations/append.sql";

/// The patch with the names of the files that it is about. An error where it changes a function that a later migration
/// makes anew.
fn resolved(tree: &Path, bug: &Bug) -> Result<String, String> {
    let migrations = migrations(tree)?;
    let text = fs::read_to_string(&bug.patch).map_err(|error| error.to_string())?;
    let newest = migrations.iter().rev().find(|(_, sql)| sql.contains("function append("));
    let (newest, _) = newest.ok_or("no migration makes append")?;
    let text = text.replace(APPEND, &format!("migrations/{newest}"));
    for section in text.split("\n--- a/migrations/").skip(1) {
        let (file, section) = section.split_once('\n').unwrap_or((section, ""));
        let Some(at) = migrations.iter().position(|(name, _)| name == file) else { continue };
        let ([.., (_, sql)], later) = migrations.split_at(at + 1) else { continue };
        for hunk in section.split("\n@@ ").skip(1) {
            let begins = hunk.lines().skip(1).filter_map(|line| line.strip_prefix([' ', '-']));
            let before = begins.take(2).collect::<Vec<_>>().join("\n");
            let Some(place) = sql.find(&before) else { continue };
            let function = sql[..place + before.len()].rsplit_once("function ").map(|(_, rest)| rest);
            let Some((name, _)) = function.and_then(|rest| rest.split_once('(')) else { continue };
            if let Some((by, _)) = later.iter().find(|(_, sql)| sql.contains(&format!("function {name}("))) {
                return Err(format!("changes {name} in {file}, which {by} makes anew"));
            }
        }
    }
    Ok(text)
}

/// The names and the texts of all migrations, in their order.
fn migrations(tree: &Path) -> Result<Vec<(String, String)>, String> {
    let files = fs::read_dir(tree.join("migrations")).map_err(|error| error.to_string())?;
    let mut migrations = Vec::new();
    for file in files.flatten() {
        let sql = fs::read_to_string(file.path()).map_err(|error| error.to_string())?;
        migrations.push((file.file_name().to_string_lossy().into_owned(), sql));
    }
    migrations.sort();
    Ok(migrations)
}

fn is_release() -> bool {
    !cfg!(debug_assertions)
}

fn run_program(command: &mut Command) -> Result<Output, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{} ended with {}: {said}", command.get_program().display(), output.status))
}

fn failed(error: &str) -> bool {
    said(error);
    said("0 passed, 1 failed");
    false
}

#[expect(clippy::print_stdout, reason = "the report is what the program is for")]
fn said(text: &str) {
    println!("{text}");
}
