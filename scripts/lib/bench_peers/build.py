"""Builds the peers from package registries, and tells where each program is.

A kit that cannot be had is a failure of its own: whoever needs it is skipped.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from server import Failure

from .machine import output_of

PEERS = Path("benches/peers")
BOOST_PACKAGES = ("libboost1.81-dev", "libboost-dev")
BUN_PACKAGES = ("bun@1.4.4",)
NODE_PACKAGES = ("ws@8.23.0", "bufferutil@4.1.0")


class Workshop:
    def __init__(self, root, is_built=False):
        self.root = root
        # Take what was built last.
        self.is_built = is_built
        self.programs = {}
        self.versions = {}

    def make(self, kit):
        """Adds a kit's programs and versions. Raises `Failure` with the reason if it cannot."""
        earlier = set(self.programs)
        getattr(self, f"make_{kit}")()
        for name, path in self.programs.items():
            if name not in earlier and not Path(path).exists():
                raise Failure(f"{name} was not built: {path} is not there")

    def run(self, *command, cwd=None, what):
        if self.is_built:
            return
        try:
            done = subprocess.run(command, cwd=cwd or self.root, stdout=sys.stderr, check=False)
        except FileNotFoundError:
            raise Failure(f"{what}: {command[0]} is not installed") from None
        if done.returncode:
            raise Failure(f"{what}: `{' '.join(map(str, command))}` failed")

    def target(self):
        metadata = output_of("cargo", "metadata", "--no-deps", "--format-version", "1", cwd=self.root)
        if metadata is None:
            raise Failure("cargo is not installed, or the workspace is broken")
        return Path(json.loads(metadata)["target_directory"])

    def make_ours(self):
        self.run(
            "cargo", "build", "--release", "-p", "picows-cli", "-p", "benches", "--features", "benches/tls",
            "--bins", what="picows-uring and the load",
        )
        # By itself: with the library's seams for tests, which are not to be in the others.
        self.run(
            "cargo", "build", "--release", "-p", "benches", "--features", "benches/worker", "--bin", "topics_cost",
            what="the costs of topics",
        )
        # Where openssl is missing there are no certificates, and sections over TLS fail by name.
        certificates = self.target() / "certificates"
        if shutil.which("openssl"):
            self.run(self.root / "scripts/dev-cert", certificates, what="certificates")
            self.programs |= {"certificate": certificates / "server.crt", "key": certificates / "server.key"}
        folder = self.target() / "release"
        for name in (
            "picows", "load", "fan_out_load", "handshake_load", "floor", "epoll_echo", "blocking_rtt", "ready_sends",
            "topics_cost",
        ):
            self.programs[name] = folder / name
        self.versions["rustc"] = (output_of("rustc", "--version") or "rustc ?").split()[1]

    def make_libdeflate(self):
        """Builds the command once more, with libdeflate, and puts the one without back in its place."""
        built = self.target() / "release" / "picows"
        program = self.programs["picows_libdeflate"] = self.target() / "peers" / "libdeflate" / "picows"
        command = ("cargo", "build", "--release", "-p", "picows-cli", "--bin", "picows")
        self.run(*command, "--features", "libdeflate", what="picows with libdeflate")
        if not self.is_built:
            program.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(built, program)
        self.run(*command, what="picows")

    def make_rust(self):
        folder = self.target() / "peers"
        locked = ["--locked"] if os.environ.get("CI") == "true" else []
        self.run(
            "cargo", "build", "--release", *locked, "--manifest-path", PEERS / "Cargo.toml",
            "--target-dir", folder, what="the peers in Rust",
        )
        for name in (
            "tokio_echo", "fastwebsockets_echo", "tokio_websockets_echo", "tungstenite_echo",
            "picows_uring_fan_out", "picows_uring_embedded", "fastwebsockets_rtt", "tungstenite_rtt", "yawc_echo",
            "ntex_echo", "wtx_echo", "sockudo_echo",
        ):
            self.programs[name] = folder / "release" / name
        for crate in ("tokio", "fastwebsockets", "hyper", "tokio-websockets", "tokio-tungstenite", "rustls",
                      "tokio-rustls", "aws-lc-rs", "yawc", "ntex", "wtx", "sockudo-ws"):
            self.versions[crate] = self.locked_version(crate)

    def locked_version(self, crate):
        lock = (self.root / PEERS / "Cargo.lock").read_text(encoding="utf-8")
        version = re.search(rf'^name = "{crate}"\nversion = "([^"]+)"', lock, re.MULTILINE)
        return version[1] if version else "?"

    def make_beast(self):
        header = Path("/usr/include/boost/version.hpp")
        if not header.exists() and not self.install(*BOOST_PACKAGES):
            raise Failure("Boost is not installed: install the package libboost-dev")
        programs = {"beast_echo": [], "beast_rtt": []}
        if Path("/usr/include/openssl/ssl.h").exists() or self.install("libssl-dev"):
            programs["beast_tls_echo"] = ["-lssl", "-lcrypto"]
            self.versions["OpenSSL"] = (output_of("openssl", "version") or "OpenSSL ?").split()[1]
        folder = self.target() / "peers" / "beast"
        folder.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CXX", "c++")
        for name, libraries in programs.items():
            source = self.root / PEERS / "cpp" / f"{name}.cpp"
            program = self.programs[name] = folder / name
            if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
                self.run(
                    compiler, "-O3", "-DNDEBUG", "-std=c++17", "-o", program, source, "-pthread", *libraries,
                    what="Boost.Beast",
                )
        version = re.search(r'BOOST_LIB_VERSION "([^"]+)"', header.read_text(encoding="utf-8"))
        self.versions["Boost"] = version[1].replace("_", ".") if version else "?"
        self.versions["C++"] = (output_of(compiler, "--version") or "?").splitlines()[0]

    def make_uwebsockets(self):
        """Builds its server from the sources that a crate brings along; with libdeflate where that is."""
        if not Path("/usr/include/zlib.h").exists() and not self.install("zlib1g-dev"):
            raise Failure("zlib is not installed: install the package zlib1g-dev")
        sources = self.crate("libuwebsockets-sys") / "uWebSockets"
        sockets = sources / "uSockets" / "src"
        folder = self.target() / "peers" / "uwebsockets"
        folder.mkdir(parents=True, exist_ok=True)
        flags = ["-O3", "-flto", "-DNDEBUG", "-DLIBUS_NO_SSL", "-I", sockets]
        objects = []
        for file in sorted([*sockets.glob("*.c"), *sockets.glob("eventing/*.c"), *sockets.glob("crypto/*.c")]):
            objects.append(folder / f"{file.stem}.o")
            if not objects[-1].exists():
                compiler = os.environ.get("CC", "cc")
                self.run(compiler, *flags, "-std=gnu11", "-c", file, "-o", objects[-1], what="uSockets")
        source = self.root / PEERS / "cpp" / "uwebsockets_echo.cpp"
        programs = {"uwebsockets_echo": ["-lz"]}
        if Path("/usr/include/libdeflate.h").exists() or self.install("libdeflate-dev"):
            programs["uwebsockets_libdeflate_echo"] = ["-DUWS_USE_LIBDEFLATE", "-lz", "-ldeflate"]
        for name, libraries in programs.items():
            program = self.programs[name] = folder / name
            if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
                self.run(
                    os.environ.get("CXX", "c++"), *flags, "-std=c++20", "-I", sources / "src", "-o", program, source,
                    *objects, *libraries, what="uWebSockets",
                )
        self.versions["uWebSockets"] = f"of libuwebsockets-sys {self.locked_version('libuwebsockets-sys')}"

    def crate(self, name):
        """The folder of a package that the peers in Rust depend on, or may."""
        locked = ["--locked"] if os.environ.get("CI") == "true" else []
        metadata = output_of(
            "cargo", "metadata", "--format-version", "1", "--all-features", *locked,
            "--manifest-path", PEERS / "Cargo.toml", cwd=self.root,
        )
        packages = json.loads(metadata)["packages"] if metadata else []
        found = [package["manifest_path"] for package in packages if package["name"] == name]
        if not found:
            raise Failure(f"the sources in the crate {name} cannot be had")
        return Path(found[0]).parent

    def make_python(self):
        venv = self.root / ".tools" / "peers-venv"
        pins = self.root / PEERS / "python" / "requirements.txt"
        python = venv / "bin" / "python"
        stamp = venv / "stamp"
        wanted = f"{pins.read_text(encoding='utf-8')}\n{sys.version}\n{venv}"
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            if not self.is_built:
                shutil.rmtree(venv, ignore_errors=True)
            self.run(sys.executable, "-m", "venv", venv, what="picows (package python3-venv)")
            self.run(
                python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", pins,
                what="picows",
            )
            if python.exists():
                stamp.write_text(wanted, encoding="utf-8")
        self.programs["python"] = python
        for name in ("picows_echo.py", "picows_rtt.py", "websockets_echo.py"):
            self.programs[name] = self.root / PEERS / "python" / name
        for line in pins.read_text(encoding="utf-8").splitlines():
            if "==" in line:
                self.versions.update([line.split("==")])
        self.versions["Python"] = sys.version.split()[0]

    def make_package(self):
        """Builds the Python package of this tree as it is released, and runs one of its tests."""
        python = self.root / ".tools" / "python-venv" / "bin" / "python"
        self.run(
            self.root / "scripts" / "test-python", "--release", "--", "-k", "heads", what="the Python package",
        )
        if not python.exists():
            raise Failure("the Python package cannot be built here: see scripts/test-python")
        self.programs["package_python"] = python
        self.programs["picows_uring_echo.py"] = self.root / PEERS / "python" / "picows_uring_echo.py"

    def make_node(self):
        node = shutil.which("node")
        if not node or not shutil.which("npm"):
            self.install("nodejs npm")
            node = shutil.which("node")
        if not node:
            raise Failure("Node is not installed: install the packages nodejs and npm")
        folder = self.root / ".tools" / "peers-node"
        modules = folder / "node_modules"
        pins = dict(package.split("@") for package in NODE_PACKAGES)
        if {name: version_of(modules / name) for name in pins} != pins:
            self.run(
                "npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder,
                *NODE_PACKAGES, what="ws",
            )
        # Node looks for packages beside the script.
        script = folder / "ws_echo.js"
        if folder.exists():
            shutil.copyfile(self.root / PEERS / "node" / "ws_echo.js", script)
        self.programs |= {"node": Path(node), "ws_echo.js": script}
        self.versions |= {"ws": version_of(modules / "ws") or "?", "Node": output_of(node, "--version")}

    def make_bun(self):
        npm = shutil.which("npm")
        if not npm and not self.install("nodejs npm"):
            raise Failure("Bun comes by npm: install the packages nodejs and npm")
        folder = self.root / ".tools" / "peers-bun"
        modules = folder / "node_modules"
        pins = dict(package.rsplit("@", 1) for package in BUN_PACKAGES)
        if {name: version_of(modules / name) for name in pins} != pins:
            self.run(
                "npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, *BUN_PACKAGES, what="Bun",
            )
        self.programs |= {
            "bun": modules / "bun" / "bin" / "bun.exe",
            "bun_echo.js": self.root / PEERS / "node" / "bun_echo.js",
            "bun_topics.js": self.root / PEERS / "node" / "bun_topics.js",
        }
        self.versions["Bun"] = version_of(modules / "bun") or "?"

    def install(self, *alternatives):
        """Tries one set of system packages after the other, where that can be done without asking."""
        if self.is_built or os.geteuid() != 0 or not shutil.which("apt-get"):
            return False
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], stdout=sys.stderr, check=False)
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"]
        return any(
            subprocess.run(
                [*command, *packages.split()], stdout=sys.stderr, env=environment, check=False
            ).returncode == 0
            for packages in alternatives
        )


def version_of(package):
    manifest = package / "package.json"
    return json.loads(manifest.read_text(encoding="utf-8"))["version"] if manifest.exists() else None
