"""Has tests that import `picows` run against `picows_uring`: `-p alias_plugin`.

Expected failures and skips come from a list, and are strict: a test that is on it and passes fails
the run. `PICOWS_TEST_ENGINE` forces an engine.
"""

import importlib
import os
import re
import sys
from pathlib import Path

import pytest

MODULES = ("picows", "api", "url", "proxy", "common")
LIST = Path(__file__).with_name("expected.txt")


def _alias() -> None:
    package = importlib.import_module("picows_uring")
    sys.modules["picows"] = package
    for name in MODULES:
        sys.modules[f"picows.{name}"] = importlib.import_module(f"picows_uring.{name}")


def _force_engine(engine: str) -> None:
    """Has both functions use one engine where the test leaves the choice."""
    package = sys.modules["picows"]
    api = sys.modules["picows.api"]
    for name in ("ws_connect", "ws_create_server"):
        function = getattr(api, name)

        def forced(*args, _function=function, **kwargs):
            kwargs.setdefault("engine", engine)
            return _function(*args, **kwargs)

        setattr(api, name, forced)
        setattr(package, name, forced)


_alias()
if os.environ.get("PICOWS_TEST_ENGINE"):
    _force_engine(os.environ["PICOWS_TEST_ENGINE"])


def read_list():
    """Lines of `kind pattern: reason`; the pattern is a regular expression for the test's name."""
    rules = []
    for line in LIST.read_text().splitlines():
        if line.strip() and not line.startswith("#"):
            head, reason = line.split(": ", 1)
            kind, pattern = head.split(" ", 1)
            rules.append((kind, re.compile(pattern), reason))
    return rules


@pytest.hookimpl(tryfirst=True)
def pytest_ignore_collect(collection_path):
    """`picows.websockets` is an API of its own, and not part of this package."""
    return True if collection_path.name.startswith("test_websockets_") else None


def pytest_collection_modifyitems(config, items):
    rules = read_list()
    used, kept, dropped = set(), [], []
    for item in items:
        name = item.nodeid.split("tests/", 1)[-1]
        for index, (kind, pattern, reason) in enumerate(rules):
            if not pattern.fullmatch(name):
                continue
            used.add(index)
            if kind == "fails":
                item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
            elif kind == "deselected":
                dropped.append(item)
            else:
                raise pytest.UsageError(f"{LIST}: unknown kind {kind}")
            break
        if item not in dropped:
            kept.append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = kept
    if os.environ.get("PICOWS_TEST_WHOLE"):
        unused = [rule for index, rule in enumerate(rules) if index not in used]
        if unused:
            names = ", ".join(pattern.pattern for _, pattern, _ in unused)
            raise pytest.UsageError(f"{LIST}: no test is named {names}")
