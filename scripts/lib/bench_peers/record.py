"""Record of measurements, one JSON object to a line: a run that is cut short loses nothing.

The first line says what was asked for and of which machine; the others are runs, in the order in
which they were done, and peers that could not be had.
"""

import json

from .plan import Run, Settings


class Record:
    def __init__(self, path, about, settings):
        self.path = path
        self.about = about
        self.settings = settings
        self.results = {}
        self.failures = {}
        self.skipped = {}

    @classmethod
    def create(cls, path, about, settings):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            # Whoever forgot --resume loses nothing.
            path.replace(path.with_suffix(".jsonl.old"))
        record = cls(path, about, settings)
        path.write_text(json.dumps({"about": about, "settings": settings._asdict()}) + "\n", encoding="utf-8")
        return record

    @classmethod
    def load(cls, path):
        """Reads a record. A last line that was cut off is dropped, also from the file."""
        text = path.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        lines = [json.loads(line) for line in whole.splitlines()]
        if not lines or "settings" not in lines[0]:
            raise ValueError(f"{path} is not a record of scripts/bench-peers")
        if whole != text:
            path.write_text(whole, encoding="utf-8")
        record = cls(path, lines[0]["about"], Settings(**lines[0]["settings"]))
        for line in lines[1:]:
            record._take(line)
        return record

    def _take(self, line):
        if "versions" in line:
            self.about["versions"] = line["versions"]
            return
        if "skipped" in line:
            self.skipped[line["peer"]] = line["skipped"]
            return
        run = Run(line["section"], line["case"], line["peer"], line["round"])
        if "failed" in line:
            self.failures[run] = line["failed"]
        else:
            self.results[run] = line
            self.failures.pop(run, None)

    def _append(self, line):
        self._take(line)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def add(self, run, figures, steal, attempts):
        self._append(run._asdict() | {"steal_share": round(steal, 4), "attempts": attempts, "figures": figures})

    def fail(self, run, reason):
        self._append(run._asdict() | {"failed": reason})

    def skip(self, peer, reason):
        if self.skipped.get(peer) != reason:
            self._append({"peer": peer, "skipped": reason})

    def forget_failures(self):
        """Lets them be tried again, as by somebody who has seen to the cause."""
        self.failures.clear()

    def has(self, run):
        """A failure counts as well: within a session, it would fail again."""
        return run in self.results or run in self.failures

    def figures(self, section, case, peer):
        """Of all rounds."""
        return [
            line["figures"]
            for run, line in self.results.items()
            if (run.section, run.case, run.peer) == (section, str(case), peer)
        ]

    def values(self, section, case, peer, name):
        return [figures[name] for figures in self.figures(section, case, peer) if figures.get(name) is not None]

    def peers(self, section):
        """Those with a result, in the order of the first round's names."""
        return sorted({run.peer for run in self.results if run.section == section})

    def set_versions(self, versions):
        """Known once everything is built; the last line of its kind counts."""
        if self.about["versions"] != versions:
            self._append({"versions": versions})
