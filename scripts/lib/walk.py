"""The walk of a received byte: the list of its stations in docs/ARCHITECTURE.md, and what is counted of it.

The list is a tree of calls, one `FILE FUNCTION` to a line, indented by two blanks a call. It is counted twice. As it is
read, from the top to the bottom: a change of file is a station in another file than the station above it, and a return
one in a file that the walk has been in. And as it is called: going down to a station and back up to its caller cross a
border each, where the files differ.
"""

import re
from typing import NamedTuple

PAGE = "docs/ARCHITECTURE.md"
BEGIN, END = "<!-- walk -->\n\n```text\n", "```\n"
FOLDERS = {"": "crates/picows-uring/src/", "proto/": "crates/picows-uring-proto/src/"}
COUNTS = re.compile(
    r"(\d+)\s+stations\s+in\s+(\d+)\s+files,\s+(\d+)\s+changes\s+of\s+file,\s+(\d+)\s+of\s+them\s+returns,"
    r"\s+(\d+)\s+borders\s+crossed"
)


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
    """Stations, files, changes of file, how many of these are returns, and borders crossed by calls."""
    path, last, seen = [], None, set()
    changes, returns, crossed = 0, 0, 0
    for station in walk:
        if last not in (None, station.file):
            changes, returns = changes + 1, returns + (station.file in seen)
        last = station.file
        seen.add(last)
        del path[station.depth :]
        # There and back.
        crossed += 2 * (bool(path) and path[-1].file != station.file)
        path.append(station)
    return len(walk), len(seen), changes, returns, crossed


def numbers(walk):
    """What is counted, as the page has to say it."""
    return "{} stations in {} files, {} changes of file, {} of them returns, {} borders crossed".format(*counts(walk))


def claimed(page):
    """What the page says of its list."""
    found = COUNTS.search(page)
    return tuple(int(number) for number in found.groups()) if found else None


def text(walk):
    return "".join(f"{'  ' * station.depth}{station.file} {station.function}\n" for station in walk)
