/// Gives memory back when a burst of connections or a rebuild is over, which the system's own seldom does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    rollcall::cli::run(give_back)
}

/// What others have freed of a thread's memory is seen when the thread next takes some. One that answers plain requests
/// takes none, and what a crowd had would stay with it.
#[expect(unsafe_code, reason = "the allocator offers it in no other way")]
fn give_back() {
    // SAFETY: it has no preconditions: it looks at the calling thread's own part of the allocator.
    unsafe { libmimalloc_sys::mi_collect(false) }
}
