#!/usr/bin/env python3
"""Judge of conformance: reads reports of the Autobahn suite, and writes docs/CONFORMANCE.md from them
and from the tests of RFC 6455, 9110 and 9112.

Usage: conformance.py judge NAME INDEX.JSON   every case OK, or listed here with its reason
       conformance.py report FOLDER           write the document from the reports in FOLDER
       conformance.py tests                   write only the lists of RFC tests
       conformance.py check                   the lists of RFC tests in the document are right
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs/CONFORMANCE.md"
PROTO = ROOT / "crates/picows-uring-proto/src"
# The part of the document, the files whose tests it lists, and the RFC if their comments name none.
TABLES = {
    "rfc": ([PROTO / "testing/pair/rfc6455" / name for name in ("handshake.rs", "framing.rs", "closing.rs")], "6455"),
    "http": ([PROTO / "handshake/tests/rules.rs"], None),
}

# What may be anything but OK, and why.
INFORMATIONAL = {
    "7.1.6": "a CLOSE behind a large message may be handled before its echo is out: the RFC leaves it open",
    "7.13.1": "close code 5000: the RFC leaves it open; we answer 1002",
    "7.13.2": "close code 65535: the RFC leaves it open; we answer 1002",
}
NON_STRICT = {}

RUNS = {
    "server-frames": "`picows echo --validate-text`",
    "server-messages": "`picows echo --validate-text --messages`",
    "client": "example `autobahn_client`",
}

SECTIONS = {
    "1": "Framing: text and binary of every length form",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8",
    "7": "Close handshake",
    "9": "Limits and throughput",
    "10": "Autofragmentation",
}


def key(case):
    return [int(part) for part in case.split(".")]


def verdict(case, result):
    """Nothing if the case is as it should be, else what is wrong."""
    behavior, close = result["behavior"], result["behaviorClose"]
    allowed = {"OK"}
    if case in INFORMATIONAL:
        allowed.add("INFORMATIONAL")
    if case in NON_STRICT:
        allowed.add("NON-STRICT")
    if behavior not in allowed or close not in allowed | {"INFORMATIONAL"}:
        return f"{behavior}, close {close} (code {result.get('remoteCloseCode')})"
    return None


def read(path):
    """The results of the one agent in a report."""
    agents = json.loads(Path(path).read_text(encoding="utf-8"))
    (results,) = agents.values()
    return results


def judge(name, path):
    results = read(path)
    wrong = {case: fault for case, result in results.items() if (fault := verdict(case, result))}
    for case in sorted(wrong, key=key):
        print(f"autobahn: {name}: case {case}: {wrong[case]}", file=sys.stderr)
    print(f"autobahn: {name}: {len(results) - len(wrong)} cases passed, {len(wrong)} failed")
    return bool(results) and not wrong


def autobahn_table(folder):
    runs = {name: read(Path(folder) / name / "index.json") for name in RUNS}
    lines = [
        "| cases | what | " + " | ".join(RUNS.values()) + " |",
        "|---|---|" + "---|" * len(runs),
    ]
    for section, what in SECTIONS.items():
        cells = []
        for results in runs.values():
            mine = [results[case] for case in results if case.split(".")[0] == section]
            kinds = [result["behavior"] for result in mine]
            counts = {kind: kinds.count(kind) for kind in dict.fromkeys(sorted(kinds, key="OK".__ne__))}
            cells.append(", ".join(f"{count} {kind}" for kind, count in counts.items()))
        lines.append(f"| {section}.* | {what} | " + " | ".join(cells) + " |")
    total = [f"{sum(verdict(*it) is None for it in results.items())} of {len(results)}" for results in runs.values()]
    lines.append("| all | passed | " + " | ".join(total) + " |")
    lines += ["", "Not OK, and why:", ""]
    seen = {case for results in runs.values() for case in results if results[case]["behavior"] != "OK"}
    reasons = {**INFORMATIONAL, **NON_STRICT}
    for case in sorted(seen, key=key):
        kinds = sorted({results[case]["behavior"] for results in runs.values()} - {"OK"})
        lines.append(f"- {case} ({', '.join(kinds)}): {reasons.get(case, 'a fault of ours')}")
    return "\n".join(lines)


# A section, as the doc comment of a test begins; then its words and its name.
RFC_TEST = re.compile(
    r"(?P<doc>(?:^/// [^\n]*\n)+)(?:^#\[(?!test)[^\n]*\n)*^#\[test\]\n(?:^#\[[^\n]*\n)*^fn (?P<name>\w+)\(",
    re.MULTILINE,
)


def rfc_table(paths, rfc):
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    rows = []
    for match in RFC_TEST.finditer(text):
        doc = " ".join(line.removeprefix("/// ") for line in match["doc"].splitlines())
        section, _, words = doc.partition(": ")
        of = re.fullmatch(r"§([\d.]+)" if rfc else r"RFC (\d+) §([\d.]+)", section)
        if not of or "MUST" not in words and "SHOULD" not in words:
            form = "§5.1: … MUST …" if rfc else "RFC 9112 §5.1: … MUST …"
            sys.exit(f"conformance: {match['name']}: the comment has to read '{form}', not: {doc}")
        number, part = (rfc, of[1]) if rfc else (of[1], of[2])
        if not match["name"].endswith(f"_rfc{number}_" + part.replace(".", "_")):
            sys.exit(f"conformance: {match['name']}: the name has to end with its section, {section}")
        rows.append(f"| {section} | {words} | `{match['name']}` |")
    count = text.count("#[test]")
    if len(rows) != count:
        names = ", ".join(path.name for path in paths)
        sys.exit(f"conformance: {count} tests in {names}, but {len(rows)} with a comment")
    head = ["| section | what it asks | test |", "|---|---|---|"]
    return "\n".join(head + rows)


def replace(document, name, text):
    """The document with the part between two marks replaced."""
    begin, end = f"<!-- {name}: generated -->\n", f"<!-- {name}: end -->"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(document):
        sys.exit(f"conformance: {DOCUMENT.name} has no part '{name}'")
    return pattern.sub(lambda _: f"{begin}\n{text}\n\n{end}", document)


def with_tables(document):
    for name, (paths, rfc) in TABLES.items():
        document = replace(document, name, rfc_table(paths, rfc))
    return document


def main():
    match sys.argv[1:]:
        case ["judge", name, path]:
            return 0 if judge(name, path) else 1
        case ["report", folder]:
            document = replace(DOCUMENT.read_text(encoding="utf-8"), "autobahn", autobahn_table(folder))
            DOCUMENT.write_text(with_tables(document), encoding="utf-8")
        case ["tests"]:
            DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
        case ["check"]:
            document = DOCUMENT.read_text(encoding="utf-8")
            if with_tables(document) != document:
                print("conformance: docs/CONFORMANCE.md is behind: run scripts/conformance.py tests", file=sys.stderr)
                return 1
        case ["-h" | "--help"]:
            print(__doc__)
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
