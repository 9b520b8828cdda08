//! The embedded default, on real `PostgreSQL`: it starts from nothing, keeps its data through every kind of
//! end, lets nobody else in, and says clearly why when it cannot run.
//!
//! Run as root these tests show that it becomes another user; the last one then runs as an ordinary user.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rollcall::store::private::{PrivateError, PrivatePostgres};
use rustix::process::{Pid, Signal, geteuid, kill_process};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

const NOBODY: u32 = 65534;
const DEADLINE: Duration = Duration::from_mins(1);
/// Less than what it takes when an orderly stop is not enough.
const ORDERLY_STOP: Duration = Duration::from_secs(20);

/// A data folder which, at its end, takes the server in it along.
struct Data {
    path: PathBuf,
    _around: TempDir,
}

impl Data {
    /// An empty folder that only its owner may enter.
    fn new() -> Self {
        let around = temporary_folder(0o700);
        Self { path: around.path().to_owned(), _around: around }
    }

    /// A folder that is yet to be made, below one with the mode.
    fn to_be_made(way: &str, mode_of_parent: u32) -> Self {
        let around = temporary_folder(mode_of_parent);
        Self { path: around.path().join(way), _around: around }
    }

    async fn start(&self) -> PrivatePostgres {
        self.try_start().await.unwrap_or_else(|error| panic!("{}", told(&error)))
    }

    async fn try_start(&self) -> Result<PrivatePostgres, PrivateError> {
        PrivatePostgres::start(&self.path, None).await
    }

    async fn failure(&self) -> String {
        match self.try_start().await {
            Ok(started) => panic!("it started: {}", started.describe()),
            Err(error) => told(&error),
        }
    }

    fn cluster(&self) -> PathBuf {
        self.path.join("postgres")
    }

    fn lock_file(&self) -> PathBuf {
        self.cluster().join("postmaster.pid")
    }

    fn server(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.lock_file()).ok()?;
        Pid::from_raw(text.lines().next()?.parse().ok()?)
    }

    fn state_of_server(&self) -> String {
        let lock_file = fs::read_to_string(self.lock_file()).unwrap_or_default();
        lock_file.lines().nth(7).unwrap_or_default().trim().to_owned()
    }

    fn signal_server(&self, signal: Signal) {
        kill_process(self.server().unwrap(), signal).unwrap();
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let Some(server) = self.server() else { return };
        let works_here = || {
            let place = fs::read_link(format!("/proc/{}/cwd", server.as_raw_nonzero()));
            place.is_ok_and(|place| place.starts_with(&self.path))
        };
        if works_here() {
            kill_process(server, Signal::QUIT).ok();
            poll(|| !works_here());
        }
    }
}

fn temporary_folder(mode: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
    folder
}

fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn poll(mut reached: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if reached() {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

fn as_root() -> bool {
    geteuid().is_root()
}

async fn connect(postgres: &PrivatePostgres) -> PgConnection {
    PgConnection::connect_with(&postgres.connect_options()).await.unwrap()
}

async fn ask(postgres: &PrivatePostgres, question: &'static str) -> String {
    sqlx::query_scalar(question).fetch_one(&mut connect(postgres).await).await.unwrap()
}

async fn write_a_row(postgres: &PrivatePostgres) {
    let write = "create table if not exists kept as select 'all of it'::text as row";
    sqlx::query(write).execute(&mut connect(postgres).await).await.unwrap();
}

async fn read_the_row(postgres: &PrivatePostgres) -> String {
    ask(postgres, "select row from kept").await
}

#[tokio::test]
async fn an_empty_folder_that_only_its_owner_may_enter_is_enough() {
    let data = Data::new();
    let postgres = data.start().await;
    assert_eq!(ask(&postgres, "select 1::text").await, "1");
    assert_eq!(ask(&postgres, "select current_database() || ' ' || current_user").await, "rollcall rollcall");
    let described = postgres.describe();
    assert!(described.starts_with("PostgreSQL 1"), "{described}");
    assert!(described.ends_with(&format!(" in {} (started)", data.cluster().display())), "{described}");
    postgres.stop().await.unwrap();
    assert_eq!(data.server(), None);
}

#[tokio::test]
async fn a_missing_folder_is_made_with_its_parents() {
    let data = Data::to_be_made("some/where", 0o755);
    let postgres = data.start().await;
    assert_eq!(ask(&postgres, "select 1::text").await, "1");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn nothing_but_the_socket_leads_in_and_writes_are_synced() {
    let data = Data::new();
    let postgres = data.start().await;
    for (question, answer) in [
        ("select current_setting('listen_addresses')", ""),
        ("select current_setting('fsync')", "on"),
        ("select current_setting('data_checksums')", "on"),
        ("select current_setting('server_encoding')", "UTF8"),
        ("select datcollate from pg_database where datname = 'rollcall'", "C"),
        (
            "select string_agg(distinct auth_method, ' ') from pg_hba_file_rules where type <> 'local'",
            "reject",
        ),
    ] {
        assert_eq!(ask(&postgres, question).await, answer, "{question}");
    }
    for folder in [data.cluster(), data.path.join("socket")] {
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700, "{folder:?}");
    }
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn configuration_files_cannot_open_it_or_turn_syncing_off() {
    let data = Data::new();
    let postgres = data.start().await;
    let mut superuser = PgConnection::connect_with(&postgres.superuser_options("postgres")).await.unwrap();
    for change in ["alter system set fsync = off", "alter system set listen_addresses = '127.0.0.1'"] {
        sqlx::query(change).execute(&mut superuser).await.unwrap();
    }
    postgres.stop().await.unwrap();
    let postgres = data.start().await;
    assert_eq!(ask(&postgres, "select current_setting('fsync')").await, "on");
    assert_eq!(ask(&postgres, "select current_setting('listen_addresses')").await, "");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_is_not_root_and_has_none_of_rollcalls_environment() {
    let data = Data::new();
    let postgres = data.start().await;
    let process = PathBuf::from(format!("/proc/{}", data.server().unwrap().as_raw_nonzero()));
    assert_ne!(fs::metadata(&process).unwrap().uid(), 0);
    assert_eq!(fs::metadata(data.cluster()).unwrap().uid(), fs::metadata(&process).unwrap().uid());
    if as_root() {
        assert_eq!(fs::metadata(&data.path).unwrap().uid(), 0);
        let status = fs::read_to_string(process.join("status")).unwrap();
        let groups = status.lines().find_map(|line| line.strip_prefix("Groups:"));
        assert_eq!(groups.map(str::trim), Some(""));
    }
    let environment = fs::read_to_string(process.join("environ")).unwrap();
    assert!(!environment.contains("CARGO"), "{environment}");
    assert!(ask(&postgres, "select current_setting('TimeZone')").await.contains("UTC"));
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn data_outlives_a_stop() {
    let data = Data::new();
    let postgres = data.start().await;
    write_a_row(&postgres).await;
    postgres.stop().await.unwrap();
    let postgres = data.start().await;
    assert_eq!(read_the_row(&postgres).await, "all of it");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_open_connections() {
    let data = Data::new();
    let postgres = data.start().await;
    let _left_open = connect(&postgres).await;
    let begun = Instant::now();
    postgres.stop().await.unwrap();
    assert!(begun.elapsed() < ORDERLY_STOP);
}

#[tokio::test]
async fn data_outlives_a_server_that_was_killed() {
    let data = Data::new();
    let postgres = data.start().await;
    write_a_row(&postgres).await;
    data.signal_server(Signal::KILL);
    drop(postgres);
    let postgres = data.start().await;
    assert_eq!(read_the_row(&postgres).await, "all of it");
    assert!(postgres.describe().ends_with("(started)"));
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_died_can_be_stopped() {
    let data = Data::new();
    let postgres = data.start().await;
    data.signal_server(Signal::KILL);
    let begun = Instant::now();
    postgres.stop().await.unwrap();
    assert!(begun.elapsed() < ORDERLY_STOP, "it waited for the dead");
}

#[tokio::test]
async fn a_server_whose_rollcall_is_gone_is_adopted() {
    let data = Data::new();
    let orphaned = data.start().await;
    write_a_row(&orphaned).await;
    let server = data.server();
    drop(orphaned);
    let postgres = data.start().await;
    assert_eq!(data.server(), server);
    assert!(postgres.describe().ends_with("(adopted)"), "{}", postgres.describe());
    assert_eq!(read_the_row(&postgres).await, "all of it");
    postgres.stop().await.unwrap();
    assert_eq!(data.server(), None);
}

/// Here rollcall is another process: the kernel releases its lock, and its server goes to another parent.
#[tokio::test]
async fn a_killed_rollcall_leaves_a_server_to_adopt() {
    let data = Data::new();
    let killed = another_rollcall(&data);
    let failure = data.failure().await;
    assert!(failure.contains("another rollcall"), "{failure}");
    drop(killed);
    let postgres = data.start().await;
    assert!(postgres.describe().ends_with("(adopted)"), "{}", postgres.describe());
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_rollcall_killed_with_its_server_is_started_anew() {
    let data = Data::new();
    drop(another_rollcall(&data));
    data.signal_server(Signal::KILL);
    let postgres = data.start().await;
    assert!(postgres.describe().ends_with("(started)"), "{}", postgres.describe());
    postgres.stop().await.unwrap();
}

fn another_rollcall(data: &Data) -> Bystander {
    let mut rollcall = this_test_binary("as_a_rollcall_that_will_be_killed");
    let rollcall = Bystander::run(rollcall.env("ROLLCALL_TEST_DATA", &data.path));
    assert!(poll(|| data.state_of_server() == "ready"));
    rollcall
}

#[tokio::test]
#[ignore = "the tests of killed rollcalls run it"]
async fn as_a_rollcall_that_will_be_killed() {
    let data = PathBuf::from(std::env::var_os("ROLLCALL_TEST_DATA").unwrap());
    let _running = PrivatePostgres::start(&data, None).await.unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn an_orphan_that_is_stopping_is_waited_for() {
    let data = Data::new();
    let orphaned = data.start().await;
    let _keeps_it_from_stopping = connect(&orphaned).await;
    let server = data.server();
    drop(orphaned);
    data.signal_server(Signal::TERM);
    assert!(poll(|| data.state_of_server() == "stopping"));
    let too_early = tokio::time::timeout(Duration::from_secs(1), data.try_start()).await;
    assert!(too_early.is_err(), "{too_early:?}");
    data.signal_server(Signal::INT);
    let postgres = data.start().await;
    assert_ne!(data.server(), server);
    assert!(postgres.describe().ends_with("(started)"));
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_start_on_a_held_folder_names_it() {
    let data = Data::new();
    let postgres = data.start().await;
    let failure = data.failure().await;
    assert!(failure.contains(&format!("using the data folder {}:", data.path.display())), "{failure}");
    assert_eq!(ask(&postgres, "select 1::text").await, "1");
    postgres.stop().await.unwrap();
    data.start().await.stop().await.unwrap();
}

#[tokio::test]
async fn a_folder_whose_name_is_too_long_for_a_socket_works() {
    let data = Data::to_be_made(&["quite-a-long-name"; 8].join("/"), 0o755);
    let postgres = data.start().await;
    let socket_folder = ask(&postgres, "select current_setting('unix_socket_directories')").await;
    let socket_folder = PathBuf::from(socket_folder.trim_matches('"'));
    assert!(socket_folder.starts_with("/tmp"), "{socket_folder:?}");
    assert_eq!(fs::metadata(&socket_folder).unwrap().mode() & 0o777, 0o700);
    drop(postgres);
    let adopted = data.start().await;
    adopted.stop().await.unwrap();

    fs::remove_dir_all(&socket_folder).unwrap();
    fs::create_dir(&socket_folder).unwrap();
    chown(&socket_folder, Some(12345), None).ok();
    let failure = data.failure().await;
    fs::remove_dir_all(&socket_folder).unwrap();
    assert!(failure.contains(&socket_folder.display().to_string()), "{failure}");
}

#[tokio::test]
async fn a_parent_that_the_server_may_not_pass_is_named() {
    if !as_root() {
        return;
    }
    let data = Data::to_be_made("data", 0o700);
    let failure = data.failure().await;
    let parent = data.path.parent().unwrap().display().to_string();
    assert!(failure.contains(&format!("may not pass through {parent} to reach")), "{failure}");
    assert!(failure.contains("ROLLCALL_DATA_DIR"), "{failure}");
}

#[tokio::test]
async fn what_a_killed_initdb_left_is_swept_away() {
    let data = Data::new();
    let unfinished = data.path.join("postgres.new-0123");
    fs::create_dir_all(unfinished.join("base")).unwrap();
    fs::write(unfinished.join("PG_VERSION"), "15\n").unwrap();
    let postgres = data.start().await;
    assert!(!unfinished.exists());
    assert_eq!(ask(&postgres, "select 1::text").await, "1");
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_that_is_given_up_during_initdb_leaves_nothing_in_the_way() {
    let data = Data::new();
    let unfinished = || {
        let entries = fs::read_dir(&data.path).unwrap().filter_map(Result::ok);
        entries.map(|entry| entry.path().join("PG_VERSION")).any(|file| file.exists())
    };
    tokio::select! {
        started = data.try_start() => panic!("it was quicker: {started:?}"),
        () = async { while !unfinished() { tokio::time::sleep(Duration::from_millis(1)).await } } => {}
    }
    assert!(!data.cluster().exists());
    data.start().await.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_that_is_given_up_while_the_server_starts_stops_it() {
    let data = Data::new();
    data.start().await.stop().await.unwrap();
    tokio::select! {
        started = data.try_start() => panic!("it was quicker: {started:?}"),
        () = async { while data.server().is_none() { tokio::time::sleep(Duration::from_millis(1)).await } } => {}
    }
    assert!(poll(|| data.server().is_none()));
    data.start().await.stop().await.unwrap();
}

/// As when the number in the lock file was given to another process since, which is usual in containers.
#[tokio::test]
async fn a_lock_file_that_names_another_program_is_in_nobodys_way() {
    let data = Data::new();
    data.start().await.stop().await.unwrap();
    let owner = fs::metadata(data.cluster()).unwrap();
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    let mut bystander = Bystander::run_by_owner(&data.cluster(), sleep);
    let socket_lock = data.path.join("socket/.s.PGSQL.5432.lock");
    for lock in [data.lock_file(), socket_lock] {
        let text = format!("{}\n{}\n1700000000\n5432\n\n", bystander.0.id(), data.cluster().display());
        fs::write(&lock, text).unwrap();
        chown(&lock, Some(owner.uid()), Some(owner.gid())).unwrap();
        fs::set_permissions(&lock, Permissions::from_mode(0o600)).unwrap();
    }
    let postgres = data.start().await;
    assert!(postgres.describe().ends_with("(started)"));
    postgres.stop().await.unwrap();
    assert_eq!(bystander.0.try_wait().unwrap(), None, "the bystander was hurt");
}

#[tokio::test]
async fn an_empty_lock_file_is_in_nobodys_way() {
    let data = Data::new();
    data.start().await.stop().await.unwrap();
    fs::write(data.lock_file(), "").unwrap();
    data.start().await.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_start_is_quoted() {
    let data = Data::new();
    data.start().await.stop().await.unwrap();
    let configuration = data.cluster().join("postgresql.conf");
    let kept = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, format!("{kept}\nno_such_setting = 1\n")).unwrap();
    let failure = data.failure().await;
    assert!(failure.contains("no_such_setting"), "{failure}");
    assert!(failure.contains(&data.path.join("postgres.log").display().to_string()), "{failure}");
    let attempts =
        fs::read_to_string(data.path.join("postgres.log")).unwrap().matches("no_such_setting").count();
    assert_eq!(attempts, 1, "it was tried again for nothing");
    fs::write(&configuration, kept).unwrap();
    data.start().await.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_someone_started_without_syncing_is_not_adopted() {
    let data = Data::new();
    let postgres = data.start().await;
    let program = fs::read_link(format!("/proc/{}/exe", data.server().unwrap().as_raw_nonzero())).unwrap();
    postgres.stop().await.unwrap();
    let mut by_hand = Command::new(program);
    by_hand.arg("-D").arg(data.cluster()).args(["-c", "fsync=off", "-c", "listen_addresses="]);
    by_hand.arg("-c").arg(format!("unix_socket_directories={}", data.path.join("socket").display()));
    let mut by_hand = Bystander::run_by_owner(&data.cluster(), by_hand);
    assert!(poll(|| data.state_of_server() == "ready"));
    let failure = data.failure().await;
    assert!(failure.contains("fsync is off"), "{failure}");
    assert!(failure.contains(&format!("kill -INT {}`", by_hand.0.id())), "{failure}");
    data.signal_server(Signal::INT);
    by_hand.0.wait().unwrap();
    data.start().await.stop().await.unwrap();
}

#[tokio::test]
async fn a_cluster_of_roots_says_whose_it_should_be() {
    if !as_root() {
        return;
    }
    let data = Data::new();
    data.start().await.stop().await.unwrap();
    chown(data.cluster(), Some(0), Some(0)).unwrap();
    let failure = data.failure().await;
    assert!(failure.contains("belongs to the user id 0"), "{failure}");
    assert!(failure.contains(&format!("chown -R postgres {}", data.cluster().display())), "{failure}");
}

#[tokio::test]
async fn a_cluster_keeps_the_user_it_was_made_by() {
    if !as_root() {
        return;
    }
    let data = Data::new();
    fs::create_dir(data.cluster()).unwrap();
    chown(data.cluster(), Some(NOBODY), Some(NOBODY)).unwrap();
    for _ in 0..2 {
        let postgres = data.start().await;
        assert_eq!(fs::metadata(data.lock_file()).unwrap().uid(), NOBODY);
        postgres.stop().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_no_cluster_is_left_alone() {
    let data = Data::new();
    let letter = data.cluster().join("letter.txt");
    fs::create_dir(data.cluster()).unwrap();
    fs::write(&letter, "dear all").unwrap();
    let failure = data.failure().await;
    assert!(failure.contains(&data.cluster().display().to_string()), "{failure}");
    assert_eq!(fs::read_to_string(&letter).unwrap(), "dear all");
}

#[tokio::test]
async fn a_cluster_of_another_version_says_which_it_needs() {
    let data = Data::new();
    data.start().await.stop().await.unwrap();
    fs::write(data.cluster().join("PG_VERSION"), "99\n").unwrap();
    let failure = data.failure().await;
    assert!(failure.contains("no PostgreSQL 99 "), "{failure}");
    for choice in ["DATABASE_URL", "install the package postgresql", "ROLLCALL_PG_BIN"] {
        assert!(failure.contains(choice), "{failure}");
    }
}

#[tokio::test]
async fn given_binaries_that_are_missing_or_too_old_are_refused() {
    let data = Data::new();
    let tools = temporary_folder(0o755);
    let refusal = async || told(&PrivatePostgres::start(&data.path, Some(tools.path())).await.unwrap_err());

    let failure = refusal().await;
    assert!(failure.contains(&format!("names {}", tools.path().display())), "{failure}");
    assert!(failure.contains("holds no initdb"), "{failure}");

    for tool in ["initdb", "postgres", "pg_ctl"] {
        let tool = tools.path().join(tool);
        // A script written by this process could, for a moment, be "busy" in children of the tests beside.
        let script =
            "printf '#!/bin/sh\necho postgres \"(PostgreSQL)\" 13.22\n' > \"$0\" && chmod 755 \"$0\"";
        assert!(Command::new("sh").arg("-c").arg(script).arg(&tool).status().unwrap().success());
    }
    let failure = refusal().await;
    assert!(failure.contains("holds PostgreSQL 13.22"), "{failure}");
    assert!(failure.contains("14 or newer"), "{failure}");
}

/// Runs the test below once more as a user who is not root, and who could not become another.
#[test]
fn an_ordinary_user_runs_it_as_themselves() {
    if !as_root() || !Path::new("/proc/self/exe").exists() {
        return;
    }
    let around = temporary_folder(0o700);
    chown(around.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let ran = this_test_binary("as_an_ordinary_user")
        .env("TMPDIR", around.path())
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[tokio::test]
#[ignore = "an_ordinary_user_runs_it_as_themselves runs it"]
async fn as_an_ordinary_user() {
    assert!(!as_root());
    let data = Data::to_be_made("made/by/itself", 0o700);
    let postgres = data.start().await;
    write_a_row(&postgres).await;
    assert_eq!(fs::metadata(&data.path).unwrap().mode() & 0o777, 0o700);
    assert!(data.failure().await.contains("another rollcall"));
    drop(postgres);
    let postgres = data.start().await;
    assert!(postgres.describe().ends_with("(adopted)"));
    data.signal_server(Signal::KILL);
    drop(postgres);
    let postgres = data.start().await;
    assert_eq!(read_the_row(&postgres).await, "all of it");
    postgres.stop().await.unwrap();
}

/// To run one of the ignored tests in a process of its own. The name by which a process knows its own program
/// works also for a user who may not pass through the folders on the way to it.
fn this_test_binary(test: &str) -> Command {
    let module = module_path!().split_once("::").map_or(String::new(), |(_, module)| format!("{module}::"));
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", "--ignored", &format!("{module}{test}")]).current_dir("/");
    command
}

/// A process that ends with its test.
struct Bystander(Child);

impl Bystander {
    fn run(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn run_by_owner(folder: &Path, mut command: Command) -> Self {
        let owner = fs::metadata(folder).unwrap();
        if as_root() {
            command.uid(owner.uid()).gid(owner.gid());
        }
        Self::run(command.current_dir("/"))
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}
