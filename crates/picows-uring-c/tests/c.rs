//! The tests in C, `tests/c/*.c`: compiled as C99 and as C++, and run against the shared library.
//!
//! Skipped, with a line that says so, where there is no compiler.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where the library was built, with links by which programs find it.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let test = env::current_exe().expect("a test has a path");
        // target/debug/deps/c-…: what cargo has built for the test as well.
        let profile = test.ancestors().nth(2).expect("it is in deps");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--offline", "--package", "picows-uring-c"]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo is there").success());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lib");
        fs::create_dir_all(&folder).expect("the folder can be made");
        for name in ["libpicows_uring_c.so", "libpicows_uring_c.so.0"] {
            let link = folder.join(name);
            let _ = fs::remove_file(&link);
            symlink(profile.join("libpicows_uring_c.so"), link).expect("a link can be made");
        }
        folder
    })
}

/// Whether there is a compiler; a line says so if not.
fn is_there(compiler: &str) -> bool {
    let version = Command::new(compiler).arg("--version").stdout(Stdio::null()).status();
    let is_there = version.is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("SKIPPED: {compiler} is not installed: the C library is not tested with it");
    }
    is_there
}

/// Compiles one file of `tests/c` and runs it.
fn run(name: &str) {
    let source = crate_folder().join("tests/c").join(format!("{name}.c"));
    for (compiler, language) in [("cc", ["-std=c99", "-xc"]), ("c++", ["-std=c++17", "-xc++"])] {
        if !is_there(compiler) {
            continue;
        }
        let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{compiler}"));
        let library = library();
        let compiled = Command::new(compiler)
            .args(language)
            .args(WARNINGS)
            .args(["-g", "-D_GNU_SOURCE", "-pthread", "-I"])
            .arg(crate_folder().join("include"))
            .arg(&source)
            .arg("-o")
            .arg(&program)
            .arg("-L")
            .arg(library)
            .arg(format!("-Wl,-rpath,{}", library.display()))
            .arg("-lpicows_uring_c")
            .status();
        assert!(compiled.expect("the compiler runs").success(), "{name} with {compiler}");
        let outcome = Command::new(&program).output().expect("the program runs");
        let said = String::from_utf8_lossy(&outcome.stderr);
        assert!(outcome.status.success(), "{name} with {compiler}: {}\n{said}", outcome.status);
    }
}

#[test]
fn a_client_and_a_server_echo() {
    run("echo");
}
