/// Gives memory back when a burst of connections or a rebuild is over, which the system's own seldom does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    rollcall::cli::run()
}
