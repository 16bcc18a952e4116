"""scripts/packages: what a package lacks."""

import unittest

from bench_peers_case import program

COMPLETE = {
    "name": "one", "description": "A crate", "license": "MIT", "readme": "README.md", "keywords": ["a"],
    "documentation": "https://docs.rs/one", "categories": ["b"], "rust_version": "1.88", "dependencies": [],
}


class Packages(unittest.TestCase):
    def faults(self, package, files):
        packages = program("packages")
        return list(packages.faults(package, [name for name in packages.FILES if name not in files]))

    def test_a_complete_one_lacks_nothing(self):
        own = {"name": "two", "path": "/two", "req": "*", "kind": "dev"}
        self.assertEqual(self.faults(COMPLETE | {"dependencies": [own]}, []), [])

    def test_what_is_missing_is_named(self):
        other = {"name": "two", "path": "/two", "req": "*", "kind": None}
        package = COMPLETE | {"readme": None, "dependencies": [other]}
        self.assertEqual(self.faults(package, ["LICENSE-MIT"]), [
            "LICENSE-MIT is not in it", "it has no readme", "its dependency two has a path and no version",
        ])

    def test_files_of_a_debian_package_are_there_or_are_made(self):
        packages = program("packages")
        (command,) = [package for package in packages.published() if package["name"] == "picows-cli"]
        self.assertEqual(list(packages.deb_faults(command)), [])
        self.assertEqual(list(packages.deb_faults(COMPLETE)), [])
        assets = [["../../nothing", "usr/bin/", "755"], ["README.md", "usr/share/doc/picows/", "644"]]
        lacking = command | {"metadata": {"deb": {"assets": assets}}}
        found = list(packages.deb_faults(lacking))
        self.assertIn("../../nothing, which goes to usr/bin/, is not there", found)
        self.assertIn("its Debian package has no manual pages (usr/share/man/man1/)", found)
        self.assertIn("its Debian package has no LICENSE-MIT", found)


if __name__ == "__main__":
    unittest.main()
