"""The walk of a received byte: the list of its stations in docs/ARCHITECTURE.md, and what is counted of it.

The list is a tree of calls, one `FILE FUNCTION` to a line, indented by two blanks a call. Going down to a station and
back up to its caller are a change of file each, where the files differ; ways back up are returns.
"""

import re
from typing import NamedTuple

PAGE = "docs/ARCHITECTURE.md"
BEGIN, END = "<!-- walk -->\n\n```text\n", "```\n"
FOLDERS = {"": "crates/picows-uring/src/", "proto/": "crates/picows-uring-proto/src/"}
COUNTS = re.compile(r"(\d+) stations in (\d+) files, (\d+) changes of file, (\d+) of\s+them returns")


class Station(NamedTuple):
    depth: int
    file: str
    function: str

    def path(self):
        prefix = "proto/" if self.file.startswith("proto/") else ""
        return FOLDERS[prefix] + self.file.removeprefix(prefix)


def stations(page):
    """The list of a page, or nothing if it has none."""
    if BEGIN not in page:
        return []
    lines = page.split(BEGIN, 1)[1].split(END, 1)[0].splitlines()
    return [Station((len(line) - len(line.lstrip())) // 2, *line.split()) for line in lines]


def counts(walk):
    """Stations, files, changes of file, and how many of these are returns."""
    path, changes, returns = [], 0, 0
    for station in walk:
        while len(path) > station.depth:
            left = path.pop()
            if path and path[-1].file != left.file:
                changes, returns = changes + 1, returns + 1
        changes += bool(path) and path[-1].file != station.file
        path.append(station)
    while len(path) > 1:
        left = path.pop()
        if path[-1].file != left.file:
            changes, returns = changes + 1, returns + 1
    return len(walk), len({station.file for station in walk}), changes, returns


def claimed(page):
    """What the page says of its list."""
    found = COUNTS.search(page)
    return tuple(int(number) for number in found.groups()) if found else None


def text(walk):
    return "".join(f"{'  ' * station.depth}{station.file} {station.function}\n" for station in walk)
