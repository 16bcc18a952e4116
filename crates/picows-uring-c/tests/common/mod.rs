//! The compilers of the machine, and the library as it was built for the tests.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]
#![allow(dead_code, reason = "each test program uses a part")]

use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

pub(crate) const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

pub(crate) fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The place of what this test program makes.
pub(crate) fn made(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"));
    fs::create_dir_all(&folder).expect("the folder can be made");
    folder.join(name)
}

/// The same, for this test alone: others run at the same time.
pub(crate) fn made_for_test(name: &str) -> PathBuf {
    let thread = std::thread::current();
    made(&format!("{name}-{}", thread.name().unwrap_or_default()))
}

/// The folder of what cargo has built, with the library in it.
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let test = env::current_exe().expect("a test has a path");
        // target/debug/deps/c-….
        let profile = test.ancestors().nth(2).expect("it is in deps");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--offline", "--package", "picows-uring-c"]);
        if profile.ends_with("release") {
            build.arg("--release");
        }
        // With --target, as sanitizers need it.
        if let Some(triple) = profile.parent().and_then(Path::file_name)
            && triple.to_string_lossy().contains('-')
            && profile.ancestors().nth(2).is_some_and(|it| it.join("debug").exists())
        {
            build.arg("--target").arg(triple);
        }
        assert!(build.status().expect("cargo is there").success());
        profile.to_owned()
    })
}

/// A folder with the shared library under the names that programs look for.
pub(crate) fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = made("lib");
        fs::create_dir_all(&folder).expect("the folder can be made");
        for name in ["libpicows_uring_c.so", "libpicows_uring_c.so.0"] {
            let link = folder.join(name);
            let _ = fs::remove_file(&link);
            symlink(built().join("libpicows_uring_c.so"), link).expect("a link can be made");
        }
        folder
    })
}

/// Whether there is a compiler that takes `arguments`; a line says so if not.
pub(crate) fn is_there(compiler: &str, arguments: &[&str]) -> bool {
    let mut probe = Command::new(compiler);
    probe.args(arguments).args(["-xc", "-", "-o"]).arg(made_for_test(&format!("probe-{compiler}")));
    let outcome =
        probe.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().and_then(|mut child| {
            if let Some(mut input) = child.stdin.take() {
                std::io::Write::write_all(&mut input, b"int main(void) { return 0; }\n")?;
            }
            child.wait()
        });
    let is_there = outcome.is_ok_and(|status| status.success());
    if !is_there {
        let with = arguments.join(" ");
        eprintln!(
            "SKIPPED: {compiler} {with} compiles nothing here: the C library is not tested so"
        );
    }
    is_there
}

/// Compiles `source` against the shared library.
pub(crate) fn compile(compiler: &str, arguments: &[&str], source: &Path, program: &Path) {
    let library = library();
    let status = Command::new(compiler)
        .args(arguments)
        .args(WARNINGS)
        .args(["-g", "-D_GNU_SOURCE", "-pthread", "-I"])
        .arg(crate_folder().join("include"))
        .arg(source)
        .arg("-o")
        .arg(program)
        .arg("-L")
        .arg(library)
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .arg("-lpicows_uring_c")
        .status();
    assert!(status.expect("the compiler runs").success(), "{} with {compiler}", source.display());
}
