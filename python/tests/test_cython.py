"""The examples in Cython, built as their setup.py says and run."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import picows_uring

PACKAGE = Path(picows_uring.__file__).resolve().parent.parent
EXAMPLES = PACKAGE.parent / "examples" / "cython"
PATIENCE_S = 120


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cython") / "examples"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("build", "*.c", "*.so"))
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def environment():
    return {"PYTHONPATH": str(PACKAGE), "PATH": "/usr/local/bin:/usr/bin:/bin"}


def test_client_and_server_echo(built):
    server = subprocess.Popen(
        [sys.executable, "run_server.py", "0"],
        cwd=built,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        url = re.search(r"ws://\S+", server.stdout.readline()).group()
        done = subprocess.run(
            [sys.executable, "run_client.py", url, "300", "0.2"],
            cwd=built,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
    assert done.returncode == 0, done.stderr
    assert int(re.match(r"(\d+) round trips", done.stdout).group(1)) > 0
