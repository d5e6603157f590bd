//! What closes this process to others of the same user.

/// Makes the process undumpable: its memory, environment and root (`/proc/<pid>/{mem,environ,root}`) are closed to all
/// without `CAP_SYS_PTRACE`, others of its own user included, and no core is dumped. It ends with an `exec`, so that
/// hooks are as they always were, and every command asks for it anew. Its own files in `/proc` belong to root from then
/// on.
///
/// # Errors
/// Where the operating system refuses.
pub fn make_undumpable() -> std::io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(false)?)
}
