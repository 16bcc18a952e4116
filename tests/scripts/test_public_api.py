"""scripts/public-api: signatures as they are written, and the differences of two records."""

import re
import unittest

from bench_peers_case import program

api = program("public-api")


def resolved(number, name, *args):
    """A type with a path, and its arguments."""
    inner = {"args": [{"type": arg} for arg in args], "constraints": []}
    return {"resolved_path": {"id": number, "path": name, "args": {"angle_bracketed": inner} if args else None}}


def item(number, name, inner, **more):
    return {"id": number, "name": name, "visibility": "public", "attrs": [], "deprecation": None, "inner": inner, **more}


NO_GENERICS = {"params": [], "where_predicates": []}
HEADER = {"is_const": False, "is_async": False, "is_unsafe": False, "abi": "Rust"}


def function(inputs, output, header=HEADER):
    sig = {"inputs": inputs, "output": output, "is_c_variadic": False}
    return {"function": {"sig": sig, "generics": NO_GENERICS, "header": header, "has_body": True}}


def crate():
    borrowed = {"borrowed_ref": {"lifetime": None, "is_mutable": False, "type": {"generic": "Self"}}}
    bytes_ = resolved(20, "Bytes")
    method = function([["self", borrowed], ["payload", bytes_]], resolved(21, "Option", {"primitive": "u8"}))
    inherent = {"trait": None, "items": [4], "blanket_impl": None, "is_synthetic": False}
    struct = {"kind": {"plain": {"fields": [5, 6], "has_stripped_fields": False}}, "generics": NO_GENERICS, "impls": [3]}
    items = [
        item(0, "one", {"module": {"items": [1, 7, 8]}}),
        item(1, "Handle", {"struct": struct}, attrs=["non_exhaustive"]),
        item(3, None, {"impl": inherent}, visibility="default"),
        item(4, "send", method),
        item(5, "shown", {"struct_field": {"primitive": "bool"}}),
        item(6, "hidden", {"struct_field": {"primitive": "bool"}}, visibility="crate"),
        item(7, "other", {"use": {"source": "two::Other", "name": "Other", "id": 99, "is_glob": False}}),
        item(8, "run", function([], None, {**HEADER, "is_async": True}), deprecation={"note": None}),
    ]
    paths = {"20": {"path": ["bytes", "bytes", "Bytes"]}, "21": {"path": ["core", "option", "Option"]}}
    return {"root": 0, "index": {str(it["id"]): it for it in items}, "paths": paths}


class PublicApi(unittest.TestCase):
    def test_each_public_item_is_a_line(self):
        self.assertEqual(
            api.Api(crate()).render().splitlines(),
            [
                "#[non_exhaustive] pub struct one::Handle",
                "pub fn one::Handle::send(&self, payload: bytes::Bytes) -> Option<u8>",
                "pub one::Handle::shown: bool",
                "pub use one::Other = two::Other",
                "#[deprecated] pub async fn one::run()",
            ],
        )

    def test_a_change_is_seen(self):
        self.assertEqual(api.compare("one", "a\nb\n", "a\nb\n"), [])
        lines = api.compare("one", "a\nb\n", "a\nc\n")
        self.assertEqual(lines, ["--- docs/api/one.txt", "+++ the sources", "-b", "+c"])

    def test_every_crate_has_its_record(self):
        for name in api.CRATES:
            self.assertTrue((api.FOLDER / f"{name}.txt").is_file(), name)


# Types of the library that may not get another variant or public field, and why.
CLOSED = {
    "Assembled": "a message or a control frame, and there is no third",
    "Message": "text or binary (RFC 6455 5.6); what is neither is no message",
    "MsgType": "the opcodes of RFC 6455 11.8; extensions define no frame of their own here",
    "Position": "written and read as two numbers, which clients keep",
    "TopicName": "a namespace without values",
    "Turned": "a loop of its own has to act on each",
}


def may_not_grow(names):
    """The types of the library, or re-exported by it, that a variant or a public field would break."""
    for crate in api.CRATES:
        text = (api.FOLDER / f"{crate}.txt").read_text(encoding="utf-8")
        for mark, kind, path in re.findall(r"^(#\[non_exhaustive\] )?pub (enum|struct) ([\w:]+)", text, re.MULTILINE):
            is_open = kind == "struct" and not re.search(rf"^pub {path}::\w+: ", text, re.MULTILINE)
            is_ours = crate == "picows-uring" or path.rpartition("::")[2] in names
            if is_ours and not mark and not is_open:
                yield path.rpartition("::")[2]


class Growth(unittest.TestCase):
    def test_types_of_the_library_may_grow_unless_they_are_closed(self):
        text = (api.FOLDER / "picows-uring.txt").read_text(encoding="utf-8")
        names = set(re.findall(r"^pub use picows_uring::(\w+) = ", text, re.MULTILINE))
        self.assertEqual(set(may_not_grow(names)), set(CLOSED))


# Traits and types of the language and of `std`, as signatures name them.
OF_STD = set(
    "AddAssign AsFd AsRef AsyncFnOnce BorrowedFd Box Clone Copy Debug Default Display Drop Duration Eq Error ErrorKind "
    "ExactSizeIterator Fn FnMut FnOnce From FromStr Future Hash Into IntoIterator IpAddr Iterator None Option Ord OwnedFd "
    "PartialEq PartialOrd PathBuf RawFd Rc RefCell Result Self Send SocketAddr Some String StructuralPartialEq Sync "
    "SystemTime Vec Arc Cow".split()
)
# Crates whose types may be in signatures: re-exported, or traits that a caller imports from them.
CRATES_OF_SIGNATURES = {"bytes", "http", "futures_core", "futures_sink"}


class Signatures(unittest.TestCase):
    def test_every_type_in_a_signature_is_exported(self):
        text = (api.FOLDER / "picows-uring.txt").read_text(encoding="utf-8")
        exported = set(re.findall(r"pub (?:struct|enum|trait|type|use) picows_uring::(?:\w+::)*(\w+)", text))
        unknown = set()
        for line in text.splitlines():
            # The name of the item itself, and what a re-export is of.
            signature = re.sub(r"\bpicows_uring::[\w:]+", "", line.partition(" = ")[0])
            for path, name in re.findall(r"(?<![\w:])((?:\w+::)*)([A-Z]\w+)", signature):
                is_known = name in exported or name in OF_STD or path.partition("::")[0] in CRATES_OF_SIGNATURES
                # `IntoUpgrade` is sealed by a trait that is not to be named.
                if not is_known and name != "Sealed":
                    unknown.add(f"{path}{name}")
        self.assertEqual(unknown, set())


if __name__ == "__main__":
    unittest.main()
