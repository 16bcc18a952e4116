"""The files of deploy/: as far as they can be checked without a container engine and a cluster.

The static binary runs in a root that holds nothing but itself, as in the image from scratch.
"""

import contextlib
import http.client
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import foreign_module, missing
from server import REPOSITORY, START_S, Failure, Server, binary
from wire import BINARY, TEXT, Peer

pytestmark = pytest.mark.driver_named

DEPLOY = REPOSITORY / "deploy"
# More than an end within the drain timeout takes.
MARGIN_S = 5
PT_INTERP = 3
BUILD = (
    "RUSTFLAGS='-C target-feature=+crt-static' cargo build --target x86_64-unknown-linux-gnu -p picows-cli, "
    "or PICOWS_STATIC_BIN"
)


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


def drain_timeout(arguments):
    return seconds(arguments[arguments.index("--drain-timeout") + 1])


def check_serves(arguments):
    """These arguments start a server, on a free port, that is healthy and ends well."""
    command = [binary(), *arguments]
    if "--listen" in arguments:
        place = command.index("--listen") + 1
        assert command[place].endswith(":9001"), arguments
        command[place] = "127.0.0.1:0"
    else:
        # As systemd does: the socket is descriptor 3.
        listen = """import os, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])"""
        command = [sys.executable, "-c", listen, *command]
    if "--admin" in command:
        command[command.index("--admin") + 1] = "127.0.0.1:0"
    server = Server(command, name="picows echo")
    try:
        with contextlib.closing(http.client.HTTPConnection(server.endpoint.authority, timeout=START_S)) as asking:
            asking.request("GET", "/healthz")
            assert asking.getresponse().status == 200
        server.process.terminate()
        assert server.wait() == 0, server.stderr
    finally:
        server.kill()


# The images


def stages():
    """The instructions of each stage of the Containerfile, by its name, in order."""
    text = (DEPLOY / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = [("FROM", base)]
        else:
            found[name].append((word, rest.strip()))
    return found


def test_the_last_image_holds_the_static_binary_alone():
    assert list(stages()) == ["build", "slim", "static"]
    words = stages()["static"]
    assert words[0] == ("FROM", "scratch")
    assert not any(word in ("RUN", "SHELL") for word, _ in words), "there is no shell"
    assert [rest for word, rest in words if word == "COPY"] == ["--from=build /out/static/picows /picows"]
    build = dict(stages()["build"])
    assert stages()["build"][0][1].startswith("docker.io/library/rust:1.88"), "the oldest Rust that builds it"
    assert "--locked" in build["RUN"]


@pytest.mark.parametrize("name", ["slim", "static"])
def test_images_run_as_a_user_without_rights_and_stop_in_time(name):
    words = dict(stages()[name])
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", words["USER"]), "a number: there may be no /etc/passwd"
    assert words["STOPSIGNAL"] == "SIGTERM"
    # The form without a shell, which process 1 could not pass signals on from.
    program, arguments = (json.loads(words[word]) for word in ("ENTRYPOINT", "CMD"))
    (copied,) = [rest for word, rest in stages()[name] if word == "COPY"]
    assert program == [copied.split()[-1]]
    # Engines wait for 10 s.
    assert drain_timeout(arguments) < 10
    check_serves(arguments)


# The static binary


def is_static(path):
    """Whether an ELF file of 64 bits names no interpreter."""
    data = Path(path).read_bytes()
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    return all(struct.unpack_from("<I", data, offset + index * size)[0] != PT_INTERP for index in range(count))


@pytest.fixture(scope="module")
def static_root(tmp_path_factory):
    """A folder that holds the static binary and nothing else."""
    named = os.environ.get("PICOWS_STATIC_BIN")
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    built = [path for path in target.glob("*-linux-gnu/*/picows") if is_static(path)]
    found = [Path(named)] if named else sorted(built, key=lambda path: path.stat().st_mtime)
    if not found:
        missing("the static binary", BUILD)
    assert is_static(found[-1]), f"{found[-1]} needs an interpreter"
    root = tmp_path_factory.mktemp("root")
    shutil.copy2(found[-1], root / "picows")
    root.chmod(0o755)
    return root


@pytest.fixture(scope="module")
def inside(static_root):
    """The beginning of commands that run in that root, as its root user or as one in a user namespace."""
    commands = [["chroot", str(static_root)], ["unshare", "-r", f"--root={static_root}"]]
    for command in commands:
        with contextlib.suppress(OSError):
            tried = subprocess.run([*command, "/picows", "--version"], capture_output=True, timeout=START_S)
            if tried.returncode == 0:
                return command
    pytest.skip("a root of its own is forbidden here: neither chroot(2) nor user namespaces are allowed")


def run_inside(inside, *arguments):
    clean = {"RUST_LOG": "warn", "NO_COLOR": "1", "PATH": os.environ["PATH"]}
    command = [*inside, "/picows", *arguments]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_S, env=clean
    )


@pytest.mark.parametrize("driver", ["io-uring", "epoll"])
def test_the_static_binary_alone_serves_and_calls_addresses(inside, driver):
    command = [*inside, "/picows", "echo", "--listen", "127.0.0.1:0", "--workers", "2", "--driver", driver]
    server = Server(command, name="picows echo")
    try:
        with Peer(server.endpoint) as peer:
            peer.upgrade()
            peer.echo(b"text", TEXT)
            peer.echo(bytes(100_000), BINARY)
        done = run_inside(inside, "connect", "--driver", driver, server.url)
        # Also no warning: masks are made without /dev/urandom.
        assert (done.returncode, done.stderr) == (0, ""), done
        server.process.terminate()
        assert server.wait() == 0, server.stderr
        assert "WARN" not in server.stderr and "ERROR" not in server.stderr, server.stderr
    finally:
        server.kill()


def test_the_static_binary_alone_explains_where_it_looks_names_up(inside):
    for arguments in (["connect", "ws://no-such-host.invalid/"], ["echo", "--listen", "no-such-host.invalid:0"]):
        done = run_inside(inside, *arguments)
        assert done.returncode != 0 and done.stdout == "", done
        assert "this static binary knows the names in /etc/hosts" in done.stderr, done.stderr
        assert "use an address" in done.stderr, done.stderr


def test_the_doctor_works_without_any_file(inside):
    done = run_inside(inside, "doctor")
    assert done.returncode == 0, done
    assert "as the binary is static: /etc/hosts missing, /etc/resolv.conf missing" in done.stdout, done.stdout


def test_the_dynamic_binary_is_not_taken_for_a_static_one():
    with contextlib.suppress(Failure):
        assert not is_static(sys.executable)
        assert not is_static(binary())


# The unit


def unit():
    """The settings of the unit; all values of a name that comes more than once."""
    return settings("picows.service")


def settings(unit):
    found = {}
    for line in (DEPLOY / unit).read_text(encoding="utf-8").splitlines():
        name, sign, value = line.partition("=")
        if sign and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def test_the_unit_is_valid(tmp_path):
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is missing: install the package systemd")
    text = (DEPLOY / "picows.service").read_text(encoding="utf-8")
    own = tmp_path / "picows.service"
    own.write_text(text.replace("/usr/bin/picows", binary()), encoding="utf-8")
    units = [own, shutil.copy2(DEPLOY / "picows.socket", tmp_path)]
    done = subprocess.run([program, "verify", "--man=no", *units], capture_output=True, text=True, timeout=START_S)
    complaints = [line for line in done.stderr.splitlines() if "picows." in line]
    assert done.returncode == 0 and not complaints, done


def test_the_unit_starts_a_server_and_waits_for_its_drain():
    settings = unit()
    program, *arguments = shlex.split(settings["ExecStart"])
    assert program == "/usr/bin/picows"
    check_serves(arguments)
    assert settings["Type"] == "notify" and seconds(settings["WatchdogSec"]) >= 10
    assert settings["KillSignal"] == "SIGTERM"
    assert seconds(settings["TimeoutStopSec"]) >= drain_timeout(arguments) + MARGIN_S
    assert int(settings["LimitNOFILE"]) >= 65536
    # For more than 200 workers.
    assert settings["LimitMEMLOCK"] == "64M"
    assert settings["DynamicUser"] == "yes"


def test_systemd_listens_for_the_unit():
    service, listens = unit(), settings("picows.socket")
    assert service["Requires"] == service["After"] == service["Also"] == "picows.socket"
    assert "--listen" not in service["ExecStart"] and listens["ListenStream"] == "0.0.0.0:9001"
    assert listens["WantedBy"] == "sockets.target"


def test_the_unit_allows_io_uring():
    assert unit()["SystemCallFilter"] == "@system-service"
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is missing: install the package systemd")
    sets = subprocess.run(
        [program, "syscall-filter", "@system-service", "@aio"], capture_output=True, text=True, timeout=START_S
    ).stdout
    assert "@aio" in sets.split()
    assert {"io_uring_setup", "io_uring_enter", "io_uring_register"} <= set(sets.split())


# The manifest


@pytest.fixture(scope="module")
def manifest():
    """The objects of the manifest by their kind."""
    text = (DEPLOY / "kubernetes.yaml").read_text(encoding="utf-8")
    objects = list(foreign_module("yaml").safe_load_all(text))
    return {found["kind"]: found for found in objects}


def test_the_pod_is_drained_before_it_is_killed(manifest):
    pod = manifest["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert drain_timeout(container["args"]) + container["lifecycle"]["preStop"]["sleep"]["seconds"] + MARGIN_S <= (
        pod["terminationGracePeriodSeconds"]
    )
    assert "command" not in container, "the image has the program"
    check_serves(container["args"])


def test_probes_ask_the_admin_address_and_clients_do_not_reach_it(manifest):
    (container,) = manifest["Deployment"]["spec"]["template"]["spec"]["containers"]
    listens, admin = container["ports"]
    for flag, port in (("--listen", listens), ("--admin", admin)):
        assert container["args"][container["args"].index(flag) + 1] == f"0.0.0.0:{port['containerPort']}"
    for probe, path in (("readinessProbe", "/readyz"), ("livenessProbe", "/healthz")):
        assert container[probe]["httpGet"] == {"path": path, "port": admin["name"]}
    (served,) = manifest["Service"]["spec"]["ports"]
    assert served["targetPort"] == listens["name"]


def test_the_pod_has_no_rights_and_a_profile(manifest):
    deployment = manifest["Deployment"]
    assert (deployment["apiVersion"], manifest["Service"]["apiVersion"]) == ("apps/v1", "v1")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"] == labels == manifest["Service"]["spec"]["selector"]
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True and pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "Localhost", "localhostProfile": "picows.json"}
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    resources = container["resources"]
    assert resources["limits"] == resources["requests"], "a pod that is not the first to be evicted"
