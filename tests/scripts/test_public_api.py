"""scripts/public-api: signatures as they are written, and the differences of two records."""

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


if __name__ == "__main__":
    unittest.main()
