"""Builds the extension module and the library in C that is linked into it."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
PACKAGE = "picows_uring"


def workspace() -> Path:
    """Where the crates are: in a source distribution inside of it, else above it."""
    for root in (HERE, HERE.parent):
        if (root / "crates" / "picows-uring-c" / "Cargo.toml").is_file():
            return root
    sys.exit("setup.py: crates/picows-uring-c is missing: build from a checkout or a source distribution")


class BuildWithLibrary(build_ext):
    """Has cargo build the library first. `PICOWS_URING_CARGO_ARGS` adds arguments, such as
    `--config profile.release.lto=false` while developing; `PICOWS_URING_C_PROFILE` names a profile."""

    def build_extensions(self) -> None:
        root = workspace()
        profile = os.environ.get("PICOWS_URING_C_PROFILE", "release")
        command = ["cargo", "build", f"--profile={profile}", "--locked", "-p", "picows-uring-c"]
        # TLS is that of Python's ssl.
        command += ["--no-default-features", "--features", "deflate"]
        command += shlex.split(os.environ.get("PICOWS_URING_CARGO_ARGS", ""))
        try:
            subprocess.run(command, cwd=root, check=True)
        except FileNotFoundError:
            sys.exit("setup.py: cargo is missing: install Rust (https://rustup.rs)")
        target = Path(os.environ.get("CARGO_TARGET_DIR", root / "target"))
        folder = "debug" if profile == "dev" else profile
        library = target / folder / "libpicows_uring_c.a"
        for extension in self.extensions:
            extension.extra_objects = [str(library)]
            extension.depends = [*extension.depends, str(library)]
        super().build_extensions()


root = workspace()
extension = Extension(
    f"{PACKAGE}.picows",
    [f"{PACKAGE}/picows.pyx"],
    include_dirs=[str(root / "crates" / "picows-uring-c" / "include")],
    depends=[f"{PACKAGE}/{path.name}" for path in sorted((HERE / PACKAGE).glob("*.p?[xi]*"))],
    extra_compile_args=["-O2", "-std=c99"],
    # The library's symbols are this module's own.
    extra_link_args=["-Wl,--exclude-libs,ALL", "-Wl,--gc-sections"],
    libraries=["pthread", "dl", "m"],
)

setup(
    ext_modules=cythonize([extension], language_level=3),
    cmdclass={"build_ext": BuildWithLibrary},
)
