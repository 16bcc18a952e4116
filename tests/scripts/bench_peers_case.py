"""Common part of the tests of scripts/bench-peers: a record made by hand."""

import importlib.machinery
import importlib.util
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "scripts" / "lib"))

from bench_peers.plan import Run, Settings  # noqa: E402
from bench_peers.record import Record  # noqa: E402


def program(name):
    """A script, loaded as a module."""
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(ROOT / "scripts" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


ABOUT = {
    "date": "2026-01-02", "processor": "Some CPU", "cores": 2, "memory_gib": 8, "virtual": True,
    "kernel": "6.18", "distribution": "Debian", "commit": "abc", "command": "scripts/bench-peers",
    "versions": {"tokio": "1.2.3"},
}


class RecordCase(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "record.jsonl"

    def record(self, **changes):
        settings = Settings.full(7)._replace(**changes)
        return Record.create(self.path, dict(ABOUT), settings)

    def add(self, record, section, case, peer, *rounds, steal=0.0, attempts=1):
        """One round for each of the figures."""
        for number, figures in enumerate(rounds, 1):
            record.add(Run(section, case, peer, number), figures, steal, attempts)


def cpu(*values):
    return [{"server_cpu_us_per_message": value, "messages_per_s": 1e6 / value} for value in values]
