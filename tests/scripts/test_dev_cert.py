"""scripts/dev-cert: what it makes belongs together, and is for the names that were asked for."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "dev-cert"
pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


def test_certificates_are_of_the_authority_and_for_the_names(tmp_path):
    made = subprocess.run(
        [SCRIPT, tmp_path / "new", "a.example", "*.b.example", "10.0.0.1", "::1"],
        check=True, capture_output=True, text=True,
    )
    names = ["ca.pem", "server.crt", "server.key", "client.crt", "client.key"]
    files = {name: str(tmp_path / "new" / name) for name in names}
    assert made.stdout.split() == list(files.values())
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(names)
    for name, purpose in (("server", "sslserver"), ("client", "sslclient")):
        openssl("verify", "-CAfile", files["ca.pem"], "-purpose", purpose, files[f"{name}.crt"])
        key = openssl("pkey", "-in", files[f"{name}.key"], "-pubout")
        assert key == openssl("x509", "-in", files[f"{name}.crt"], "-noout", "-pubkey")
        assert Path(files[f"{name}.key"]).stat().st_mode & 0o077 == 0
    text = openssl("x509", "-in", files["server.crt"], "-noout", "-ext", "subjectAltName")
    for part in ("DNS:a.example", "DNS:*.b.example", "IP Address:10.0.0.1", "IP Address:0:0:0:0:0:0:0:1"):
        assert part in text


@pytest.mark.parametrize("arguments", [[], ["x", "--days"], ["x", "--days", "soon"], ["x", "--wrong"]])
def test_wrong_arguments_make_nothing(tmp_path, arguments):
    ended = subprocess.run([SCRIPT, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2 and "dev-cert" in ended.stderr
    assert not any(tmp_path.iterdir())
