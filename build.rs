//! Leaves out of a release what it has twice, and what only unwinding needs: it aborts on a panic, and
//! without the tables the binary is 1.6 MiB smaller. The compiler alone cannot leave them out: the standard library
//! comes compiled for both.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=.cargo/no-unwind.ld");
    let is = |key: &str, wanted: &str| std::env::var(key).is_ok_and(|found| found == wanted);
    // Other linkers than this target's may not take such a script.
    if is("PROFILE", "release")
        && is("CARGO_CFG_TARGET_ARCH", "x86_64")
        && is("CARGO_CFG_TARGET_ENV", "gnu")
        && let Ok(folder) = std::env::var("CARGO_MANIFEST_DIR")
    {
        println!("cargo::rustc-link-arg-bin=knarr=-Wl,-T,{folder}/.cargo/no-unwind.ld");
        // Functions that came out the same are one: nothing here tells functions by their addresses.
        println!("cargo::rustc-link-arg-bin=knarr=-Wl,--icf=all");
    }
}
