//! Programs that do not compile, and the cure that the compiler's text names.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The library as it was built for these tests: the newest there is beside this program.
fn library() -> PathBuf {
    let folder = std::env::current_exe().expect("it is a file");
    let folder = folder.parent().expect("it is in a folder").to_owned();
    let files = std::fs::read_dir(folder).expect("it can be read");
    let is_library = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("libpicows_uring-") && name.ends_with(".rlib")
    };
    let made = |path: &PathBuf| {
        path.metadata().and_then(|it| it.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
    };
    let files = files.filter_map(|file| Some(file.ok()?.path())).filter(|path| is_library(path));
    files.max_by_key(made).expect("the library was built")
}

/// What the compiler says of a program whose `main` is this, if it does not compile.
fn error(test: &str, main: &str) -> Option<String> {
    let (library, folder) = (library(), std::env::temp_dir());
    let name = format!("picows-{}-{test}", std::process::id());
    let (source, output) =
        (folder.join(format!("{name}.rs")), folder.join(format!("{name}.rmeta")));
    std::fs::write(&source, format!("use picows_uring::*; fn main() {{ {main} }}"))
        .expect("the folder for temporary files can be written to");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compiled = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "bin", "--emit", "metadata"])
        .arg("--extern")
        .arg(format!("picows_uring={}", library.display()))
        .arg("-L")
        .arg(library.parent().expect("it is in a folder"))
        .arg("-o")
        .args([&output, &source])
        .output()
        .expect("the compiler that built this program is there");
    let _ = (std::fs::remove_file(source), std::fs::remove_file(output));
    let text = String::from_utf8_lossy(&compiled.stderr).into_owned();
    (!compiled.status.success()).then_some(text)
}

#[test]
fn an_async_factory_is_led_to_upgrade_later() {
    let later = "|_: &UpgradeRequest| Upgrade::later(async { Upgrade::not_found() })";
    assert_eq!(error("later", &format!("let _ = Server::builder().start({later});")), None);
    for (test, factory) in [
        ("closure", "async |_| Upgrade::accept(EchoListener)"),
        ("result", "async |_| Ok::<_, Error>(Upgrade::accept(EchoListener))"),
        (
            "asks",
            "async |request: &UpgradeRequest| { let _ = request.path(); Upgrade::not_found() }",
        ),
        ("block", "|_| async { Upgrade::accept(EchoListener) }"),
    ] {
        let text = error(test, &format!("let _ = Server::builder().start({factory});"));
        let text = text.expect("it does not compile");
        assert!(text.contains("return") && text.contains("`Upgrade::later(async move {"), "{text}");
    }
}

#[test]
fn an_upgrade_is_made_of_nothing_else() {
    let program = "struct Own; impl IntoUpgrade for Own { \
                   fn into_upgrade(self) -> Result<Upgrade, ListenerError> { loop {} } }";
    let text = error("sealed", program).expect("the trait is sealed");
    assert!(text.contains("Sealed") && text.contains("is not satisfied"), "{text}");
}
