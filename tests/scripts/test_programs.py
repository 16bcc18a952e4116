"""The scripts in Python can be loaded: what they take from each other is there."""

import importlib.machinery
import importlib.util
import subprocess
import sys
import unittest

from bench_peers_case import ROOT


def programs():
    for path in sorted((ROOT / "scripts").iterdir()):
        if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env python3"):
            yield path


class Programs(unittest.TestCase):
    def test_each_tells_what_it_is_for(self):
        for path in programs():
            with self.subTest(path.name):
                told = subprocess.run([path, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, check=False)
                self.assertEqual(told.returncode, 0, told.stdout)
                self.assertIn("usage", told.stdout.lower())

    def test_flamegraph_finds_what_it_takes_from_bench(self):
        loader = importlib.machinery.SourceFileLoader("flamegraph", str(ROOT / "scripts/flamegraph"))
        module = importlib.util.module_from_spec(importlib.util.spec_from_loader("flamegraph", loader))
        loader.exec_module(module)
        bench = module.load_bench()
        self.addCleanup(sys.modules.pop, "bench")
        for name in ("build", "choose_servers", "running"):
            self.assertTrue(callable(getattr(bench, name, None)), name)


if __name__ == "__main__":
    unittest.main()
