#!/usr/bin/env python3
"""The dependency rules of docs/ARCHITECTURE that no compiler and no lint can check.

Usage: rules.py [--root FOLDER] [--self-test] [--list]

Reads the sources under FOLDER (default: this repository) and `cargo metadata`. Each finding says
what is wrong, where, and the cure; the exit code is 1 if there is one. `--self-test` shows that
every rule fails on a tree that breaks it, and that a clean tree passes. scripts/check runs both.
"""

import argparse
import bisect
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))
sys.dont_write_bytecode = True

import walk  # noqa: E402

LINES_MAX = 1000
LINES_TALK = 600


# What waits (tokio and the rings) and who may know it is in deny.toml. These two are not, as a ban there
# names every package that may depend on a crate: more than a dozen of others, which change with each
# update, and the tests of the protocol crate.
PROTO_FORBIDDEN = ("rustix", "libc")

LIBRARY = "crates/picows-uring/src"
PROTO = "crates/picows-uring-proto/src"
TLS = "crates/picows-uring-tls/src"
COMMAND = "crates/picows-cli/src"
# Crates that can be replaced without a breaking change, as only this module of the library names each.
CONFINED_CRATES = {
    "tokio_uring": f"{LIBRARY}/host/hosted",
    "io_uring": f"{LIBRARY}/ring/uring",
    "socket2": f"{LIBRARY}/socket",
    "zlib_rs": f"{PROTO}/extension/deflate",
}
# The same in the TLS crate: modules that may name each. Records are opened and sealed without rustls, and no
# other crate names it at all (deny.toml).
CONFINED_TLS = {
    "rustls": "certificate client handshake key_log notes pem provider secret secure server verify",
    "aws_lc_rs": "provider record/aead",
    "ring": "provider record/aead",
    "rustls_native_certs": "client/roots",
    "webpki_roots": "client",
}
# Where a line of level WARN or above is logged that no peer can cause, or once only.
UNLIMITED_LOGS = (
    f"{LIBRARY}/driver",
    f"{LIBRARY}/foreign",
    f"{LIBRARY}/keys",
    f"{LIBRARY}/foreign/log/limit",
    f"{LIBRARY}/ring/uring",
    f"{LIBRARY}/server/handle",
    f"{LIBRARY}/server/takeover",
    f"{LIBRARY}/server/threads",
    f"{LIBRARY}/socket",
    f"{LIBRARY}/task",
)
# Of users, who share a listener; and of tests.
REFCELL_ALLOWED = (
    f"{LIBRARY}/foreign/cell",
    f"{LIBRARY}/listener",
    f"{LIBRARY}/messages",
    f"{LIBRARY}/testing/ring/scripted",
    f"{LIBRARY}/testing/ring/sim",
    f"{LIBRARY}/testing",
)
# cargo takes into a package what is below its folder.
LICENCES = ("LICENSE-APACHE", "LICENSE-MIT")
PACKAGE_KEYS = ("description", "license", "readme")
C_LIBRARY = "crates/picows-uring-c/src"
UNSAFE_ALLOWED = (C_LIBRARY, f"{LIBRARY}/ring", f"{LIBRARY}/testing/ring", f"{LIBRARY}/pool/system", f"{PROTO}/mask")

# Modules of each crate, the lowest first: one imports only from floors below its own. Test code and
# `lib.rs` may name all of them; product code does not name `testing`.
FLOORS = {
    LIBRARY: (
        "foreign guides patience sync systemd tls unix_url",
        "keys ring",
        "command identity",
        "mailbox",
        "admission memory",
        "config",
        "error",
        "driver",
        "health pool prepared status",
        "local remote socket stopper",
        "session task",
        "link transport",
        "frame_writer topics",
        "listener",
        "messages relay",
        "stream",
        "client upgrade",
        "connection reconnect",
        "follow worker",
        "host",
        "server runtime",
        "embedded preflight",
    ),
    PROTO: (
        "debug escape limits mask proxy_rules tick utf8",
        "misuse networks progress proxy_header",
        "close liveness wheel",
        "error frame",
        "reserve",
        "stash",
        "assembler conversation header",
        "decoder encode",
        "extension",
        "handshake endpoint",
    ),
    TLS: (
        "alert debug info provider secret text",
        "fingerprint",
        "error",
        "key_log notes pem record",
        "certificate secure verify",
        "server",
        "client",
        "handshake",
    ),
    COMMAND: (
        "driver hints signals source system units",
        "auto_ping deflate fault",
        "proxy",
        "stdio",
        "successor systemd tls",
        "client",
        "measure threshold",
        "report",
        "echo fan_out",
        "compare connect doctor load pages pubsub rtt",
    ),
}

# The actor's name, a plain verb or the usual term takes their place: readers search for those.
REFUSED_WORDS = (
    "nobody", "somebody", "whoever", "is told", "are told", "was told", "tells", "for want of",
    "with no more ado", "what arrived", "goodbye", "before its time",
)
WORDS_FOLDERS = ("crates", "examples", "benches", "fuzz", "models", "tests")

RULES = {
    "proto-deps": "picows-uring-proto calls no operating system",
    "rust-version": "no dependency asks for a newer Rust than we do",
    "package-files": "what we publish has its licences and its readme in it",
    "confined": "tokio_uring is named in host/hosted.rs only, io_uring in ring/uring, socket2 in socket, "
    "zlib_rs in extension/deflate, and in the "
    "TLS crate the providers in two modules, rustls in none of the record layer",
    "public-api": "tokio_uring, io_uring and socket2 are in no public signature",
    "unsafe": "unsafe stays in the ring module, the mask dispatch, the release of memory and the C interface",
    "ring-no-proto": "the ring module knows descriptors, bytes and tokens, not frames",
    "guarded-logs": "events of tracing are logged through log.rs, as a subscriber may panic",
    "state-cells": "what handles share is in a StateCell, not borrowed while the application's code runs",
    "error-debug": "errors show their text in Debug, too, as unwrap and main print that",
    "limited-logs": "warnings that a peer can cause are logged with a limit",
    "command-streams": "only the module stdio of the command touches the standard streams",
    "floors": "a module imports only from lower floors of its crate, so that no circle can be",
    "words": "comments name actors and use terms that can be searched for",
    "first-lines": "the first line of a file is a noun phrase",
    "walk": "the walk of a byte in docs/ARCHITECTURE.md names functions that are there, and its numbers are right",
    "file-length": f"a file has at most {LINES_MAX} lines without its tests (a warning from {LINES_TALK})",
}


class Finding(NamedTuple):
    rule: str
    where: str
    what: str
    cure: str
    warning: bool = False

    def __str__(self):
        kind = "warning" if self.warning else "error"
        return f"{kind}[{self.rule}] {self.where}: {self.what}\n  cure: {self.cure}"


# Reading Rust


def blank(text):
    return re.sub(r"[^\n]", " ", text)


TOKEN = re.compile(
    r"""(?P<line>//[^\n]*)
      | (?P<block>/\*)
      | (?P<raw>\b(?:b|c)?r(?P<hashes>\#*)"(?s:.*?)"(?P=hashes))
      | (?P<string>\b[bc]?"(?:[^"\\]|\\(?s:.))*" | "(?:[^"\\]|\\(?s:.))*")
      | (?P<char>b?'(?:[^'\\\n]|\\(?:u\{[0-9a-fA-F_]+\}|x[0-9a-fA-F]{2}|.))')
    """,
    re.VERBOSE,
)


def code_only(text):
    """The source with comments and the insides of literals blanked, every offset kept."""
    out, at = [], 0
    while match := TOKEN.search(text, at):
        out.append(text[at : match.start()])
        end = match.end()
        if match["block"]:
            end = end_of_block_comment(text, match.start())
        out.append(blank(text[match.start() : end]))
        at = end
    out.append(text[at:])
    return "".join(out)


def comments_only(text):
    """The text of comments at its offsets: their signs become blanks, and code what no phrase contains.

    Blanks between two comments stay, so that a phrase may go over the end of a line.
    """
    out, at = [], 0
    while match := TOKEN.search(text, at):
        end = match.end()
        if match["block"]:
            end = end_of_block_comment(text, match.start())
        out.append(re.sub(r"\S", "\0", text[at : match.start()]))
        inside = text[match.start() : end]
        if match["line"]:
            out.append(re.sub(r"^//[/!]?", lambda sign: " " * len(sign[0]), inside))
        elif match["block"]:
            out.append(re.sub(r"/\*+!?|\*+/|^\s*\*", lambda sign: blank(sign[0]), inside, flags=re.MULTILINE))
        else:
            out.append(re.sub(r"\S", "\0", inside))
        at = end
    out.append(re.sub(r"\S", "\0", text[at:]))
    return "".join(out)


def end_of_block_comment(text, start):
    """Block comments nest."""
    depth, at = 0, start
    for edge in re.finditer(r"/\*|\*/", text[start:]):
        depth += 1 if edge[0] == "/*" else -1
        at = start + edge.end()
        if depth == 0:
            return at
    return len(text)


def end_of_braces(code, opening):
    """The offset after the brace that closes the one at `opening`."""
    depth = 0
    for at in range(opening, len(code)):
        if code[at] == "{":
            depth += 1
        elif code[at] == "}":
            depth -= 1
            if depth == 0:
                return at + 1
    return len(code)


CFG_TEST_ITEM = re.compile(r"#\[cfg\((?:all\()?\s*test\b[^\]]*\]\s*(?:#\[[^\]]*\]\s*)*[^;{]*[;{]")


def without_tests(code):
    """`code` (comments blanked) with every `#[cfg(test)]` item blanked, and the lines they took."""
    spans = []
    at = 0
    while match := CFG_TEST_ITEM.search(code, at):
        end = match.end()
        if code[end - 1] == "{":
            end = end_of_braces(code, end - 1)
        spans.append((match.start(), end))
        at = end
    lines = 0
    for start, end in spans:
        lines += code.count("\n", start, end) + 1
        code = code[:start] + blank(code[start:end]) + code[end:]
    return code, lines


class Source:
    """One Rust file: its code without comments, literals and tests."""

    def __init__(self, root, path):
        self.path = path.relative_to(root).as_posix()
        text = path.read_text(encoding="utf-8")
        self.text = text
        self.code, test_lines = without_tests(code_only(text))
        self.lines = text.count("\n") - test_lines
        self.starts = [0] + [match.end() for match in re.finditer("\n", text)]

    def at(self, offset):
        return f"{self.path}:{bisect.bisect_right(self.starts, offset)}"

    def is_test(self):
        parts = self.path.removesuffix(".rs").split("/")
        return any(part == "tests" or part.endswith("_tests") for part in parts)

    def is_in(self, module):
        """Whether this file is `module.rs` or below `module/`."""
        return self.path == f"{module}.rs" or self.path.startswith(f"{module}/")

    def module(self):
        """Where the file stands in the module tree of its crate."""
        inner = self.path.split("/src/", 1)[1].removesuffix(".rs")
        return () if inner in ("lib", "main") else tuple(inner.split("/"))


def sources(root, *folders):
    found = []
    for folder in folders:
        for path in sorted((root / folder).rglob("*.rs")):
            if "target" not in path.relative_to(root).parts:
                found.append(Source(root, path))
    return found


# Rules on dependencies


class Packages:
    """The workspace as `cargo metadata` tells it."""

    def __init__(self, metadata):
        self.by_id = {package["id"]: package for package in metadata["packages"]}
        self.members = {self.by_id[member]["name"]: member for member in metadata["workspace_members"]}

    def direct(self, name):
        """The packages that `name` names in its Cargo.toml as normal dependencies."""
        package = self.by_id[self.members[name]]
        return {entry["name"] for entry in package["dependencies"] if entry["kind"] is None}


def check_proto_deps(_root, packages):
    for forbidden in PROTO_FORBIDDEN:
        if forbidden in packages.direct("picows-uring-proto"):
            yield Finding(
                "proto-deps",
                "crates/picows-uring-proto/Cargo.toml",
                f"depends on {forbidden}",
                "take bytes and a Tick as arguments; what calls the system belongs to picows-uring",
            )


def version_of(text):
    """`1.88` as numbers that compare; a missing part is 0."""
    return tuple(int(part) for part in (text.split(".") + ["0", "0"])[:3])


def check_rust_version(_root, packages):
    """The compiler tells users of this one by one, and cargo's resolver leaves it to chance."""
    ours = min((packages.by_id[member].get("rust_version") or "0" for member in packages.members.values()), key=version_of)
    for package in packages.by_id.values():
        theirs = package.get("rust_version")
        if theirs and version_of(theirs) > version_of(ours):
            yield Finding(
                "rust-version",
                "Cargo.lock",
                f"{package['name']} {package.get('version', '')} needs Rust {theirs}, and we say {ours}",
                f"keep an older one (cargo update -p {package['name']} --precise …), or raise rust-version for a reason",
            )


def check_package_files(root, packages):
    for name, member in sorted(packages.members.items()):
        package = packages.by_id[member]
        if package.get("publish") == []:
            continue
        folder = Path(package["manifest_path"]).parent
        place = f"{folder.name}/Cargo.toml"
        for licence in LICENCES:
            # The text itself, or a link to it: cargo packages what the link leads to.
            text = folder / licence
            if not text.is_file() or text.read_bytes() != (root / licence).read_bytes():
                yield Finding("package-files", place, f"{licence} is missing or another one", f"ln -s ../../{licence} {licence}")
        for key in PACKAGE_KEYS:
            if not package.get(key):
                yield Finding("package-files", place, f"no {key}", f"{key}.workspace = true, or one of its own")


# Rules on sources


# `::io_uring` is the crate, `ring::io_uring` and `my_io_uring` are not.
NOT_IN_A_PATH = r"(?<!\w)(?<!\w::)"


def named(source, crate):
    """The offsets where `source` names the crate."""
    return [match.start() for match in re.finditer(rf"{NOT_IN_A_PATH}{crate}\b(?!\s*:[^:])", source.code)]


def check_confined(root, _packages):
    for source in sources(root, LIBRARY, PROTO):
        if source.is_test():
            continue
        for crate, module in CONFINED_CRATES.items():
            if source.is_in(module):
                continue
            for offset in named(source, crate):
                yield Finding(
                    "confined",
                    source.at(offset),
                    f"{crate} is named outside of {module}.rs",
                    "use what that module offers, or add to it",
                )
    for source in sources(root, TLS):
        if source.is_test():
            continue
        for crate, modules in CONFINED_TLS.items():
            if any(source.is_in(f"{TLS}/{module}") for module in modules.split()):
                continue
            for offset in named(source, crate):
                yield Finding(
                    "confined",
                    source.at(offset),
                    f"{crate} is named outside of {modules}",
                    "use what those modules offer, or add to them",
                )


def imported_names(source):
    """What `use` brings from a confined crate into this file: name -> crate."""
    names = {}
    for match in re.finditer(rf"\buse\s+(?:::)?({'|'.join(CONFINED_CRATES)})\b([^;]*);", source.code):
        tree = match[2]
        for leaf in re.finditer(r"(\w+)(?:\s+as\s+(\w+))?\s*(?=[,}]|$)", tree.strip()):
            name = leaf[2] or leaf[1]
            if name not in ("self", "_"):
                names[name] = match[1]
    return names


def end_of_signature(code, at, stops):
    """The offset of the first of `stops` outside brackets."""
    depth = 0
    while at < len(code):
        char = code[at]
        if depth == 0 and char in stops:
            return at
        if code.startswith("->", at):
            at += 2
            continue
        if char in "([<{":
            depth += 1
        elif char in ")]>}":
            if depth == 0:
                return at
            depth -= 1
        at += 1
    return at


def outer_level(body):
    """A block's text without the blocks inside it: signatures without their bodies."""
    out, depth = [], 0
    for char in body:
        if char == "}":
            depth -= 1
        if depth <= 1 or char == "\n":
            out.append(char)
        if char == "{":
            depth += 1
    return "".join(out)


PUBLIC = re.compile(r"\bpub\s+(?!\()(?P<rest>(?:(?:default|const|async|unsafe|extern\s*\"?\s*\"?)\s+)*(?P<word>\w+))")


def public_signatures(source):
    """Every public signature of the file as (offset, text)."""
    code = source.code
    for match in PUBLIC.finditer(code):
        word, start = match["word"], match.start()
        if word in ("mod", "macro"):
            continue
        if word in ("enum", "union", "trait"):
            opening = code.find("{", start)
            body = code[opening : end_of_braces(code, opening)]
            yield start, code[start:opening] + (outer_level(body) if word == "trait" else body)
        elif word == "fn":
            yield start, code[start : end_of_signature(code, start, "{;")]
        elif word == "struct":
            yield start, code[start : end_of_signature(code, start, "{;(")]
        elif word in ("use", "type"):
            end = code.find(";", start)
            yield start, code[start:end]
        elif word in ("const", "static"):
            yield start, code[start : end_of_signature(code, start, "=;")]
        else:  # A field.
            yield start, code[start : end_of_signature(code, start, ",;")]


def public_types(library):
    names = set()
    for source in library:
        for match in re.finditer(r"\bpub\s+(?:struct|enum|union)\s+(\w+)", source.code):
            names.add(match[1])
    return names


def trait_impls(source, types):
    """Headers of trait implementations for public types: what they name is public as well."""
    for match in re.finditer(r"^\s*(?:unsafe\s+)?impl\b[^;{]*\bfor\b\s*&?\s*(?:[\w:]*::)?(\w+)[^;{]*(?=\{)", source.code, re.M):
        if match[1] in types:
            yield match.start() + len(match[0]) - len(match[0].lstrip()), match[0]


def check_public_api(root, _packages):
    library = [source for source in sources(root, LIBRARY) if not source.is_test()]
    types = public_types(library)
    for source in library:
        imports = imported_names(source)
        for offset, text in [*public_signatures(source), *trait_impls(source, types)]:
            crate = crate_in(text, imports)
            if crate:
                words = " ".join(text.split())
                yield Finding(
                    "public-api",
                    source.at(offset),
                    f"a public signature names {crate}: `{words[:100]}`",
                    "wrap it in a type of ours, or make it pub(crate)",
                )


def crate_in(signature, imports):
    for crate in CONFINED_CRATES:
        if re.search(rf"{NOT_IN_A_PATH}{crate}\b", signature):
            return crate
    for name, crate in imports.items():
        # A module brought in by `use` counts where a path goes through it.
        path = "" if name[0].isupper() else r"\s*::"
        if re.search(rf"{NOT_IN_A_PATH}{name}\b{path}", signature):
            return crate
    return None


def check_unsafe(root, _packages):
    folders = [path.relative_to(root).as_posix() for path in sorted(root.glob("crates/*/src"))]
    for source in sources(root, *folders, "examples"):
        if any(source.is_in(module) for module in UNSAFE_ALLOWED):
            continue
        for match in re.finditer(r"\bunsafe\b", source.code):
            yield Finding(
                "unsafe",
                source.at(match.start()),
                "unsafe outside the ring module, the mask dispatch, pool/system.rs and the C interface",
                "use rustix or std, or offer a safe function in the ring module",
            )


def check_command_streams(root, _packages):
    for source in sources(root, COMMAND):
        if source.is_in(f"{COMMAND}/stdio"):
            continue
        used = r"\b(?:println|eprintln|print|eprint)!|\b(?:stdout|stderr)\(\)(?!\s*\.\s*is_terminal\b)"
        for match in re.finditer(used, source.code):
            yield Finding(
                "command-streams",
                source.at(match.start()),
                "a standard stream is used directly, and waits for its reader",
                "use stdio::out, stdio::err or stdio::note, which do not",
            )


def check_ring_no_proto(root, _packages):
    for source in sources(root, LIBRARY):
        if not any(source.is_in(f"{LIBRARY}/{ring}") for ring in ("ring", "testing/ring")):
            continue
        for match in re.finditer(r"\bpicows_uring_proto\b", source.code):
            yield Finding(
                "ring-no-proto",
                source.at(match.start()),
                "the ring module names picows_uring_proto",
                "pass bytes and tokens; let the session or the worker translate",
            )


def check_limited_logs(root, _packages):
    for source in sources(root, LIBRARY):
        if source.is_test() or any(source.is_in(module) for module in UNLIMITED_LOGS):
            continue
        for match in re.finditer(r"\b(?:tracing|log)::(warn|error)!", source.code):
            yield Finding(
                "limited-logs",
                source.at(match.start()),
                f"a line of level {match[1].upper()} without a limit",
                "use log_limited! with a LogLine; where no peer can cause it, add the file to UNLIMITED_LOGS",
            )


def check_guarded_logs(root, _packages):
    for source in sources(root, LIBRARY):
        if source.is_test() or source.path == f"{LIBRARY}/foreign/log.rs":
            continue
        for match in re.finditer(r"\btracing::(?:event|trace|debug|info|warn|error|\$\w+)!", source.code):
            yield Finding(
                "guarded-logs",
                source.at(match.start()),
                f"{match[0]} outside of log.rs",
                "use crate::foreign::log, and its macros of the same names",
            )


def check_state_cells(root, _packages):
    for source in sources(root, LIBRARY):
        if source.is_test() or any(source.is_in(module) for module in REFCELL_ALLOWED):
            continue
        for match in re.finditer(r"\bRefCell\b", source.code):
            yield Finding(
                "state-cells",
                source.at(match.start()),
                "a RefCell",
                "use foreign::StateCell: debug builds check that it is not borrowed at the wrong time",
            )


def check_error_debug(root, _packages):
    for source in sources(root, LIBRARY, PROTO, TLS):
        if source.is_test():
            continue
        for match in re.finditer(r"#\[derive\(([^)]*)\)\]\s*(?:#\[[^\]]*\]\s*)*pub (?:enum|struct)", source.code):
            traits = {name.strip().split("::")[-1] for name in match[1].split(",")}
            if "Debug" in traits and traits & {"Error", "ThisError"}:
                yield Finding(
                    "error-debug",
                    source.at(match.start()),
                    "an error whose Debug is derived has no cure in it",
                    "use debug_with_text! instead",
                )


# `crate::name`, and each first name in `crate::{name::x, other}`.
CRATE_PATH = re.compile(r"\bcrate::(?:(\w+)|\{)")


def imported_modules(source):
    """The modules of its own crate that the file names: (offset, module)."""
    for match in CRATE_PATH.finditer(source.code):
        if match[1]:
            yield match.start(), match[1]
            continue
        body = source.code[match.end() - 1 : end_of_braces(source.code, match.end() - 1)]
        for name in re.finditer(r"[{,]\s*(\w+)", outer_level(body)):
            yield match.start(), name[1]


def check_floors(root, _packages):
    for crate, floors in FLOORS.items():
        number = {module: floor for floor, modules in enumerate(floors) for module in modules.split()}
        for source in sources(root, crate):
            module = source.module()
            if source.is_test() or not module or module[0] == "testing":
                continue
            own = module[0]
            if own not in number:
                yield Finding("floors", source.path, f"the module {own} has no floor", "add it to FLOORS in scripts/rules.py")
                continue
            for offset, other in imported_modules(source):
                if other == own or other[0].isupper() or (other not in number and other != "testing"):
                    continue
                if other == "testing":
                    what, cure = f"{own} imports testing", "move what it needs into a product module"
                elif number[other] < number[own]:
                    continue
                else:
                    what = f"{own} imports {other}, which is not on a floor below"
                    cure = "move what both need to a lower floor, or pass it in"
                yield Finding("floors", source.at(offset), what, cure)


REFUSED = re.compile(r"\b(?:" + "|".join(words.replace(" ", r"\s+") for words in REFUSED_WORDS) + r")\b", re.IGNORECASE)


def refused_words(source):
    """The offsets of refused words in the comments of a file, and the words."""
    return [(match.start(), " ".join(match[0].split())) for match in REFUSED.finditer(comments_only(source.text))]


def check_words(root, _packages):
    for source in sources(root, *WORDS_FOLDERS):
        for offset, words in refused_words(source):
            yield Finding(
                "words",
                source.at(offset),
                f"a comment says {words!r}",
                "name the actor (peer, caller, worker, …) and say what it does: report, return, notify",
            )


# A description in place of a noun phrase: no reader searches for "what comes of it".
DESCRIPTION = re.compile(r"(?:#!.*\n+)?(?://! |# |\"\"\")(What|Whether|How|When|Where|Who|Which|Why|That)\b")


def check_first_lines(root, _packages):
    scripts = (path for folder in ("scripts", "tests") for path in sorted((root / folder).rglob("*")))
    texts = {path.relative_to(root).as_posix(): path for path in scripts if path.suffix in ("", ".py", ".sh") and path.is_file()}
    first = {name: path.read_text(encoding="utf-8", errors="replace") for name, path in texts.items()}
    first |= {source.path: source.text for source in sources(root, *WORDS_FOLDERS)}
    for name, text in first.items():
        if match := DESCRIPTION.match(text):
            yield Finding(
                "first-lines",
                f"{name}:{text.count(chr(10), 0, match.start(1)) + 1}",
                f"the first line begins with {match[1]!r}",
                "name the thing that the file is about: a noun phrase that a reader searches for",
            )


def check_walk(root, _packages):
    page = root / walk.PAGE
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    listed = walk.stations(text)
    for station in listed:
        path = root / station.path()
        if not path.exists() or not re.search(rf"\bfn {station.function}\b", code_only(path.read_text(encoding="utf-8"))):
            yield Finding(
                "walk",
                walk.PAGE,
                f"the walk of a byte has a station {station.file} {station.function}, which is not there",
                "list what the byte passes now: scripts/walk records it",
            )
    if listed and walk.claimed(text) != walk.counts(listed):
        yield Finding("walk", walk.PAGE, f"the walk of a byte has {walk.numbers(listed)}, and the text says otherwise", "say so")


def check_file_length(root, _packages):
    for source in sources(root, "crates", "examples", "benches"):
        if source.is_test():
            continue
        if source.lines > LINES_TALK:
            over = source.lines > LINES_MAX
            limit = LINES_MAX if over else LINES_TALK
            yield Finding(
                "file-length",
                source.path,
                f"{source.lines} lines without tests, over {limit}",
                "one noun a file: move a part into `foo/part.rs`",
                warning=not over,
            )


CHECKS = (
    check_proto_deps,
    check_rust_version,
    check_package_files,
    check_confined,
    check_public_api,
    check_unsafe,
    check_ring_no_proto,
    check_guarded_logs,
    check_state_cells,
    check_error_debug,
    check_limited_logs,
    check_command_streams,
    check_floors,
    check_words,
    check_first_lines,
    check_walk,
    check_file_length,
)


def findings(root, metadata):
    packages = Packages(metadata)
    return [finding for check in CHECKS for finding in check(root, packages)]


# Self-test


def sample_metadata(root, extra=(), packages=None):
    """A workspace in miniature. `extra`: (package, dependency, kind) on top of the clean one; `packages`: what else
    is said of some."""
    edges = [
        ("picows-uring-proto", "bytes", None),
        ("picows-uring-proto", "rustix", "dev"),
        ("picows-uring", "picows-uring-proto", None),
        ("picows-uring", "tokio-uring", None),
        ("picows-uring", "tokio", None),
        ("picows-cli", "picows-uring", None),
        ("examples", "picows-uring", None),
        *extra,
    ]
    members = ["picows-uring-proto", "picows-uring", "picows-cli", "examples"]
    names = sorted({name for edge in edges for name in edge[:2]} | set(members))
    return {
        "packages": [
            {
                "id": name,
                "name": name,
                "dependencies": [{"name": to, "kind": kind} for of, to, kind in edges if of == name],
                "rust_version": "1.88" if name in members else "1.70.1",
                "publish": [] if name == "examples" else None,
                "manifest_path": str(root / f"crates/{name}/Cargo.toml"),
                **dict.fromkeys(PACKAGE_KEYS, "given"),
                **(packages or {}).get(name, {}),
            }
            for name in names
        ],
        "workspace_members": members,
    }


# A page with a walk: its numbers, and the name of its second station.
WALK_PAGE = walk.BEGIN + "pool/shelf.rs turn\n  ring/uring/start.rs {}\n  proto/mask.rs f\n" + walk.END + "{}.\n"
WALK_NUMBERS = "3 stations in 3 files, 2 changes of file, 0 of\nthem returns, 4 borders crossed"

CLEAN_TREE = {
    f"{LIBRARY}/lib.rs": """\
//! Not named here: tokio_uring::start, io_uring::IoUring, socket2::Socket, unsafe.
/* nor /* nested */ here: unsafe { io_uring::x() } */
mod host;
mod ring;
pub use host::Host;
/// See `socket2::Socket`.
pub fn text<'a>(quote: char) -> &'a str { if quote == '"' { "io_uring::IoUring unsafe" } else { r#"a "unsafe" b"# } }
pub(crate) fn inner(_ring: &ring::Ring) {}
#[cfg(test)]
mod tests {
    use socket2::Socket;
    fn test() { unsafe { tokio_uring::start() } }
}
""",
    walk.PAGE: WALK_PAGE.format("start", WALK_NUMBERS),
    f"{LIBRARY}/pool/shelf.rs": "fn turn() {}\n",
    f"{LIBRARY}/host/hosted.rs": "pub struct Host { inner: tokio_uring::Runtime }\npub struct Pair(tokio_uring::Runtime);\n",
    f"{LIBRARY}/ring/uring.rs": "pub(crate) struct Ring(io_uring::IoUring);\nfn f() { unsafe { g() } }\n",
    f"{LIBRARY}/ring/uring/start.rs": """\
use io_uring::{IoUring, types};
pub(crate) fn start() -> IoUring { IoUring::new(8) }
pub fn types(types: usize) -> usize { let ring: IoUring = start(); types }
impl From<io_uring::Entry> for Completion { fn from(_: io_uring::Entry) -> Self { Completion } }
""",
    f"{C_LIBRARY}/send.rs": "pub unsafe extern fn f() {}\n",
    f"{LIBRARY}/foreign/log/limit.rs": "macro_rules! l { () => { log::$level!(); log::warn!() } }",
    f"{LIBRARY}/foreign/log.rs": "macro_rules! l { () => { tracing::event!() } }",
    f"{LIBRARY}/listener.rs": "impl Listener for Rc<RefCell<L>> {}\n",
    f"{LIBRARY}/session.rs": "fn f() { log_limited!(warn, x, y); log::info!(); tracing::field::debug(x) }\n",
    f"{PROTO}/mask.rs": "#[expect(unsafe_code)]\npub fn f() { unsafe { g() } }\n",
    f"{PROTO}/frame.rs": "fn f() {}\n" * LINES_TALK,
    # None of these is a refused word in a comment.
    f"{PROTO}/close.rs": """\
/// Callers that told is_told retells(); it is
fn told() { "nobody tells // whoever"; r#"/* goodbye */"#; b' '; } // what
fn arrived() { /* before /* its */ */ } // What was sent. Was
""",
    # None of these opens with a description.
    f"{PROTO}/close/code.rs": "//! Whatever.\n//!\n//! What is not.\n",
    "scripts/run": "#!/bin/sh\n# Runs.\n# How: so.\n",
    f"{PROTO}/header.rs": "fn f() {}\n" + "#[cfg(test)]\nmod tests {\n" + "    fn t() {}\n" * LINES_MAX + "}\n",
    f"{PROTO}/header/tests.rs": "fn t() {}\n" * (LINES_MAX + 1),
    "crates/picows-uring/tests/echo.rs": "fn f() { unsafe { socket2::f() } }\n" * (LINES_MAX + 1),
    "examples/examples/echo.rs": "use picows_uring::Server;\nfn main() {}\n",
    **{
        f"{folder}{licence}": f"text of {licence}"
        for folder in ("", *(f"crates/{name}/" for name in ("picows-uring-proto", "picows-uring", "picows-cli")))
        for licence in LICENCES
    },
}

# What each broken tree adds to the clean one: the rule it breaks, files, dependencies.
BROKEN_TREES = [
    *(
        ("proto-deps", f"on {name}", {}, {"extra": [("picows-uring-proto", name, None)]})
        for name in PROTO_FORBIDDEN
    ),
    *(
        ("rust-version", f"{name} {version}", {}, {"packages": {name: {"rust_version": version}}})
        for name, version in (("bytes", "1.89"), ("tokio", "1.88.1"), ("tokio-uring", "2.0"))
    ),
    ("package-files", "another licence", {"crates/picows-cli/LICENSE-MIT": "mine"}, {}),
    *(
        ("package-files", f"no {key}", {}, {"packages": {"picows-uring": {key: None}}})
        for key in PACKAGE_KEYS
    ),
    ("confined", "tokio_uring", {f"{LIBRARY}/worker.rs": "fn f() { tokio_uring::spawn(g()) }"}, {}),
    ("confined", "tokio_uring beside hosted.rs", {f"{LIBRARY}/host.rs": "pub(crate) use tokio_uring::spawn;"}, {}),
    ("confined", "io_uring above uring.rs", {f"{LIBRARY}/ring.rs": "pub(crate) use io_uring::IoUring;"}, {}),
    ("confined", "io_uring in the test rings", {f"{LIBRARY}/testing/ring/sim.rs": "use io_uring::types;"}, {}),
    ("confined", "use {socket2}", {f"{LIBRARY}/worker.rs": "use {socket2::Socket, std::io};"}, {}),
    ("confined", "a file called socket.rs elsewhere", {f"{LIBRARY}/host/socket.rs": "use socket2::Socket;"}, {}),
    ("confined", "extern crate", {f"{LIBRARY}/worker/turn.rs": "use ::io_uring as driver;"}, {}),
    ("confined", "rustls in the record layer", {f"{TLS}/record/opener.rs": "use rustls::Error;"}, {}),
    ("confined", "a provider in settings", {f"{TLS}/server.rs": "use aws_lc_rs::aead;"}, {}),
    ("public-api", "function", {f"{LIBRARY}/host/hosted.rs": "pub fn f(\n  x: &[u8; 4],\n) -> tokio_uring::Runtime { g() }"}, {}),
    ("public-api", "async function", {f"{LIBRARY}/host/hosted.rs": "pub async fn f(x: tokio_uring::Runtime) { g() }"}, {}),
    ("public-api", "imported type", {f"{LIBRARY}/ring/uring.rs": "use io_uring::IoUring;\npub fn f() -> IoUring { g() }"}, {}),
    (
        "public-api",
        "renamed type",
        {f"{LIBRARY}/ring/uring.rs": "use io_uring::{types, IoUring as Driver};\npub fn f(x: Driver) {}"},
        {},
    ),
    (
        "public-api",
        "imported module",
        {f"{LIBRARY}/ring/uring.rs": "use io_uring::cqueue;\npub fn f(x: &cqueue::Entry) {}"},
        {},
    ),
    ("public-api", "field", {f"{LIBRARY}/host/hosted.rs": "pub struct A { pub a: u8, pub b: tokio_uring::Runtime }"}, {}),
    ("public-api", "tuple field", {f"{LIBRARY}/host/hosted.rs": "pub struct A(pub tokio_uring::Runtime);"}, {}),
    ("public-api", "variant", {f"{LIBRARY}/host/hosted.rs": "pub enum A { B, C(tokio_uring::Runtime) }"}, {}),
    ("public-api", "trait method", {f"{LIBRARY}/host/hosted.rs": "pub trait A { fn a(&self) -> tokio_uring::Runtime; }"}, {}),
    ("public-api", "alias", {f"{LIBRARY}/host/hosted.rs": "pub type A = tokio_uring::Runtime;"}, {}),
    ("public-api", "re-export", {f"{LIBRARY}/host/hosted.rs": "pub use tokio_uring::Runtime;"}, {}),
    ("public-api", "constant", {f"{LIBRARY}/host/hosted.rs": "pub const A: Option<tokio_uring::Runtime> = None;"}, {}),
    (
        "public-api",
        "bound",
        {f"{LIBRARY}/host/hosted.rs": "pub fn f<T>(x: T) where T: Into<tokio_uring::Runtime> { g() }"},
        {},
    ),
    (
        "public-api",
        "conversion",
        {f"{LIBRARY}/ring/uring.rs": "pub struct A;\nimpl From<io_uring::Entry> for A { }"},
        {},
    ),
    ("unsafe", "in the library", {f"{LIBRARY}/worker.rs": "fn f() { unsafe { g() } }"}, {}),
    ("unsafe", "a name that begins like pool/system", {f"{LIBRARY}/pool/system_b.rs": "unsafe fn f() {}"}, {}),
    ("unsafe", "after a string with a quote", {f"{PROTO}/tick.rs": "fn f() { h(\"\\\"//\", '\"'); unsafe { g() } }"}, {}),
    ("unsafe", "a crate named like the C library", {"crates/picows-uring-cpp/src/send.rs": "unsafe fn f() {}"}, {}),
    ("unsafe", "in an example", {"examples/examples/echo.rs": "fn main() { unsafe { g() } }"}, {}),
    ("unsafe", "in the command", {"crates/picows-cli/src/main.rs": "fn main() { unsafe { g() } }"}, {}),
    ("ring-no-proto", "ring.rs", {f"{LIBRARY}/ring.rs": "use picows_uring_proto::Frame;"}, {}),
    ("ring-no-proto", "below ring/", {f"{LIBRARY}/testing/ring/sim.rs": "fn f(x: picows_uring_proto::Frame) {}"}, {}),
    ("limited-logs", "warn", {f"{LIBRARY}/session.rs": "fn f() { log::warn!(x) }"}, {}),
    ("limited-logs", "error", {f"{LIBRARY}/session/queue.rs": "fn f() { log::error!(x) }"}, {}),
    ("guarded-logs", "directly", {f"{LIBRARY}/session.rs": "fn f() { tracing::info!(x) }"}, {}),
    ("guarded-logs", "by a macro", {f"{LIBRARY}/foreign/log/limit.rs": "macro_rules! l { () => { tracing::$level!() } }"}, {}),
    ("error-debug", "of TLS", {f"{TLS}/error.rs": "#[derive(Debug, thiserror::Error)]\npub enum E {}"}, {}),
    ("floors", "in TLS", {f"{TLS}/record.rs": "use crate::handshake::Step;"}, {}),
    ("unsafe", "in TLS", {f"{TLS}/record/aead.rs": "fn f() { unsafe { g() } }"}, {}),
    ("error-debug", "of thiserror", {f"{PROTO}/tick.rs": "#[derive(Debug, thiserror::Error)]\n#[non_exhaustive]\npub enum E {}"}, {}),
    ("state-cells", "in a session", {f"{LIBRARY}/session.rs": "struct S { queue: std::cell::RefCell<Q> }"}, {}),
    ("command-streams", "stdout", {f"{COMMAND}/echo.rs": "fn f() { std::io::stdout().lock(); }"}, {}),
    ("command-streams", "stderr", {f"{COMMAND}/echo/stats.rs": "fn f() { writeln!(io::stderr(), x) }"}, {}),
    ("floors", "a circle", {f"{LIBRARY}/pool.rs": "use crate::session::Session;"}, {}),
    ("floors", "in a list", {f"{LIBRARY}/pool/a.rs": "use crate::{config::{A, B}, worker::Worker};"}, {}),
    ("floors", "a path in a body", {f"{PROTO}/frame.rs": "fn f() { crate::decoder::f() }"}, {}),
    ("floors", "the same floor", {f"{LIBRARY}/runtime.rs": "use crate::server::Server;"}, {}),
    ("floors", "in the command", {f"{COMMAND}/measure.rs": "use crate::report::Report;"}, {}),
    ("floors", "a module without a floor", {f"{LIBRARY}/odds.rs": "fn f() {}"}, {}),
    ("floors", "test code in the product", {f"{LIBRARY}/worker.rs": "use crate::testing::ring;"}, {}),
    *(
        ("words", f"{words!r} in {kind}", {f"{PROTO}/tick.rs": text.format(words, *words.rpartition(" "))}, {})
        for words in REFUSED_WORDS
        for kind, text in (
            ("a comment", "fn f() {{}} // That {0}.\n"),
            ("documentation", "//! One.\n\n/// `That`, {0}: x\nfn f() {{}}\n"),
            ("two lines", "/// That {1}\n    /// {3}\nfn f() {{}}\n"),
            ("a block", "/*\n * That {1}\n * {3}\n */\n"),
        )
    ),
    ("words", "in capitals, in a test", {"crates/picows-uring/tests/a/b.rs": "// NOBODY.\n"}, {}),
    *(
        ("first-lines", name, {name: text}, {})
        for name, text in (
            (f"{PROTO}/tick.rs", "//! When it is.\n"),
            ("crates/picows-uring/tests/a.rs", "//! That it works.\n"),
            ("scripts/run", "#!/usr/bin/env python3\n\"\"\"How it runs.\"\"\"\n"),
            ("tests/foreign/case.py", "\"\"\"Whether it works.\"\"\"\n"),
            ("scripts/lib/common.sh", "#!/bin/sh\n# Which runs.\n"),
        )
    ),
    ("walk", "a function that is gone", {walk.PAGE: WALK_PAGE.format("begin", WALK_NUMBERS)}, {}),
    ("walk", "a file that is gone", {walk.PAGE: WALK_PAGE.format("start", WALK_NUMBERS).replace("mask", "veil")}, {}),
    ("walk", "other numbers", {walk.PAGE: WALK_PAGE.format("start", WALK_NUMBERS.replace("2 changes", "3 changes"))}, {}),
    ("walk", "no numbers", {walk.PAGE: WALK_PAGE.format("start", "Many")}, {}),
    ("file-length", "too long", {f"{PROTO}/frame.rs": "fn f() {}\n" * (LINES_MAX + 1)}, {}),
]


def findings_in_sample(changes=(), **dependencies):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, text in {**CLEAN_TREE, **dict(changes)}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return findings(root, sample_metadata(root, **dependencies))


def self_test():
    failures = [f"a clean tree: {finding}" for finding in findings_in_sample()]
    for rule, name, changes, dependencies in BROKEN_TREES:
        found = findings_in_sample(changes, **dependencies)
        rules = {finding.rule for finding in found if not finding.warning}
        if rules != {rule}:
            failures.append(f"{rule}, {name}: expected that rule to fail, failed: {sorted(rules) or 'none'}")
    warned = findings_in_sample({f"{PROTO}/frame.rs": "fn f() {}\n" * (LINES_TALK + 1)})
    if [finding.warning for finding in warned] != [True]:
        failures.append(f"file-length, worth a talk: expected one warning, found {warned}")
    untested = set(RULES) - {rule for rule, *_ in BROKEN_TREES}
    failures += [f"{rule}: no tree breaks it" for rule in sorted(untested)]
    for failure in failures:
        print(f"self-test: {failure}", file=sys.stderr)
    trees = len(BROKEN_TREES) + 2
    print(f"rules: self-test on {trees} trees, {len(failures)} failures")
    return not failures


def cargo_metadata(root):
    version = subprocess.run(["rustc", "-vV"], check=True, stdout=subprocess.PIPE, text=True).stdout
    host = re.search(r"^host: (\S+)$", version, re.M)[1]
    # Without the filter, cargo fetches what only other systems need.
    command = ["cargo", "metadata", "--format-version", "1", "--all-features", "--filter-platform", host]
    if os.environ.get("CI") == "true":
        command.append("--locked")
    return json.loads(subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, metavar="FOLDER")
    parser.add_argument("--self-test", action="store_true", help="check the rules themselves, on sample trees")
    parser.add_argument("--list", action="store_true", help="list the rules and end")
    options = parser.parse_args()
    if options.list:
        for name, text in RULES.items():
            print(f"{name:14} {text}")
        return 0
    if options.self_test:
        return 0 if self_test() else 1
    found = findings(options.root.resolve(), cargo_metadata(options.root))
    for finding in found:
        print(finding, file=sys.stderr)
    errors = sum(not finding.warning for finding in found)
    print(f"rules: {len(RULES)} checked, {errors} errors, {len(found) - errors} warnings")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
