"""Versions: everything that names that of the project names the same one."""

import re
import tomllib
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def text(path):
    return (ROOT / path).read_text()


class Versions(unittest.TestCase):
    def setUp(self):
        self.workspace = tomllib.loads(text("Cargo.toml"))["workspace"]
        self.version = self.workspace["package"]["version"]

    def test_crates_depend_on_each_other_at_this_version(self):
        own = {name: it for name, it in self.workspace["dependencies"].items() if isinstance(it, dict) and "path" in it}
        self.assertEqual({it["version"] for it in own.values()}, {self.version})
        for path in (ROOT / "crates").glob("*/Cargo.toml"):
            self.assertEqual(tomllib.loads(path.read_text())["package"]["version"], {"workspace": True}, path)

    def test_lock_files_of_all_workspaces_have_it(self):
        for lock in ("Cargo.lock", "fuzz/Cargo.lock", "benches/peers/Cargo.lock", "benches/peers/programs/Cargo.lock"):
            packages = tomllib.loads(text(lock))["package"]
            local = [it for it in packages if re.fullmatch(r"picows-(uring(-proto|-tls|-c|-nats)?|cli)", it["name"])]
            self.assertTrue(local, lock)
            self.assertEqual({it["version"] for it in local}, {self.version}, lock)

    def test_the_python_package_the_manifest_and_the_changelog_have_it(self):
        self.assertEqual(text("python/picows_uring/version.py"), f'__version__ = "{self.version}"\n')
        self.assertIn(f"/picows:{self.version}\n", text("deploy/kubernetes.yaml"))
        newest = re.search(r"^## (\S+?),? ", text("CHANGELOG.md"), re.MULTILINE)
        self.assertEqual(newest[1], self.version)
        self.assertIn(f"The version is {self.version.rsplit('.', 1)[0]}:", text("README.md"))


if __name__ == "__main__":
    unittest.main()
