"""scripts/dev-cert: what it makes belongs together, and is for the names that were asked for."""

import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "dev-cert"


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


@unittest.skipIf(shutil.which("openssl") is None, "openssl is not installed")
class DevCert(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def test_certificates_are_of_the_authority_and_for_the_names(self):
        new = self.folder / "new"
        made = subprocess.run(
            [SCRIPT, new, "a.example", "*.b.example", "10.0.0.1", "::1"],
            check=True, capture_output=True, text=True,
        )
        names = ["ca.pem", "server.crt", "server.key", "client.crt", "client.key"]
        files = {name: str(new / name) for name in names}
        self.assertEqual(made.stdout.split(), list(files.values()))
        self.assertEqual(sorted(path.name for path in new.iterdir()), sorted(names))
        for name, purpose in (("server", "sslserver"), ("client", "sslclient")):
            certificate, key = files[f"{name}.crt"], files[f"{name}.key"]
            openssl("verify", "-CAfile", files["ca.pem"], "-purpose", purpose, certificate)
            public = openssl("pkey", "-in", key, "-pubout")
            self.assertEqual(public, openssl("x509", "-in", certificate, "-noout", "-pubkey"))
            self.assertEqual(Path(key).stat().st_mode & 0o077, 0)
        text = openssl("x509", "-in", files["server.crt"], "-noout", "-ext", "subjectAltName")
        for part in ("DNS:a.example", "DNS:*.b.example", "IP Address:10.0.0.1", "IP Address:0:0:0:0:0:0:0:1"):
            self.assertIn(part, text)

    def test_wrong_arguments_make_nothing(self):
        for arguments in ([], ["x", "--days"], ["x", "--days", "soon"], ["x", "--wrong"]):
            with self.subTest(arguments=arguments):
                ended = subprocess.run([SCRIPT, *arguments], cwd=self.folder, capture_output=True, text=True)
                self.assertEqual(ended.returncode, 2)
                self.assertIn("dev-cert", ended.stderr)
                self.assertFalse(any(self.folder.iterdir()))


if __name__ == "__main__":
    unittest.main()
