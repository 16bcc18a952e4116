//! Names the shared library by `PWU_ABI_VERSION`, so that programs are bound to that.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libpicows_uring_c.so.0");
}
