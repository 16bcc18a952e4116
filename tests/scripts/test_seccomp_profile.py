"""scripts/seccomp-profile on small profiles: the three calls are allowed, and nothing else changes."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts/seccomp-profile"
CALLS = ["io_uring_setup", "io_uring_enter", "io_uring_register"]
ALLOWED = {"names": CALLS, "action": "SCMP_ACT_ALLOW"}
READ = {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}}


def profile(*entries):
    return {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "archMap": [], "syscalls": list(entries)}


class Profiles(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_script(self, *arguments):
        command = [sys.executable, SCRIPT, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=self.folder)

    def made(self, text, output="-"):
        source = self.folder / "default.json"
        source.write_text(text, encoding="utf-8")
        return self.run_script("--input", source, "--output", output)

    def entries(self, *entries):
        done = self.made(json.dumps(profile(*entries)))
        self.assertEqual(done.returncode, 0, done.stderr)
        found = json.loads(done.stdout)
        self.assertEqual({**found, "syscalls": []}, profile())
        return found["syscalls"]

    def test_the_calls_are_added_and_the_rest_stays(self):
        chroot = {"names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_CHROOT"]}}
        self.assertEqual(self.entries(READ, chroot), [READ, chroot, ALLOWED])
        self.assertEqual(self.entries(), [ALLOWED])

    def test_what_forbids_or_limits_the_calls_is_taken_out(self):
        refused = {"names": ["bpf", *CALLS], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}
        for_admins = {"names": CALLS[:1], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}}
        old = {"name": "io_uring_enter", "action": "SCMP_ACT_KILL"}
        expected = [{**refused, "names": ["bpf"]}, READ, ALLOWED]
        self.assertEqual(self.entries(refused, for_admins, READ, old), expected)

    def test_a_second_time_changes_nothing(self):
        once = self.made(json.dumps(profile(READ))).stdout
        self.assertEqual(self.made(once).stdout, once)

    def test_the_result_replaces_a_file(self):
        output = self.folder / "made.json"
        output.write_text("old", encoding="utf-8")
        done = self.made(json.dumps(profile(READ)), output)
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        self.assertEqual(json.loads(output.read_text(encoding="utf-8"))["syscalls"], [READ, ALLOWED])
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["default.json", "made.json"])

    def test_what_is_no_profile_is_refused_with_the_cure(self):
        nameless, actionless = {"action": "SCMP_ACT_ALLOW"}, {"names": ["read"]}
        texts = ["", "{", "[]", "{}", '{"defaultAction": "X", "syscalls": 3}']
        for text in [*texts, *(json.dumps(profile(READ, entry)) for entry in (nameless, actionless))]:
            output = self.folder / "made.json"
            done = self.made(text, output)
            self.assertEqual(done.returncode, 1, text)
            self.assertIn("is no seccomp profile", done.stderr)
            self.assertIn("--input FILE", done.stderr)
            self.assertFalse(output.exists())

    def test_a_missing_file_names_the_package(self):
        done = self.run_script("--input", self.folder / "nowhere.json", "--output", "-")
        self.assertEqual(done.returncode, 1)
        self.assertIn("golang-github-containers-common", done.stderr)
        self.assertEqual(self.run_script("--input", "x", "--download").returncode, 2)

    def test_an_output_that_cannot_be_written_is_an_error(self):
        done = self.made(json.dumps(profile(READ)), self.folder / "nowhere" / "made.json")
        self.assertEqual(done.returncode, 1)
        self.assertIn("choose another --output", done.stderr)

    def test_the_guide_and_the_help_have_the_line_that_uses_it(self):
        guide = (REPOSITORY / "docs/guides/containers.md").read_text(encoding="utf-8")
        help_text = self.run_script("--help").stdout
        for text in (guide, help_text):
            self.assertIn("--security-opt seccomp=deploy/seccomp.json", text)
            self.assertIn("localhostProfile: picows.json", text)


if __name__ == "__main__":
    unittest.main()
