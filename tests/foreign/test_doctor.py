"""`picows doctor`: its report, its exit status, and that it starts nothing."""

import json
import os
import subprocess

import pytest
from echo_server import limit_descriptors, run_to_end
from forbid import IO_URING_CALLS, SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD
from seccomp import locking_at_most, under
from server import START_S, binary

pytestmark = pytest.mark.driver_named

ITEMS = {
    "kernel",
    "driver",
    "io_uring_switch",
    "seccomp",
    "security_module",
    "features",
    "descriptors",
    "locked_memory",
    "ephemeral_ports",
    "backlog",
    "memory",
    "cpu",
    "container",
    "names",
    "tls_roots",
}


def doctor(*flags, **how):
    how.setdefault("env", {key: value for key, value in os.environ.items() if key != "PICOWS_DRIVER"})
    return subprocess.run(
        [binary(), "doctor", *flags], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=START_S, **how
    )


def report(ended):
    """The JSON of a run, which agrees with its exit status."""
    found = json.loads(ended.stdout)
    assert ended.returncode == (0 if found["would_start"] else 1), ended
    assert set(found["items"]) == ITEMS
    assert ("a server would not start here" in ended.stderr) != found["would_start"], ended.stderr
    return found


def levels(found, level):
    return {name for name, item in found["items"].items() if item["level"] == level}


def test_each_item_has_a_line_and_the_last_is_the_outcome():
    ended = doctor()
    assert ended.returncode == 0 and ended.stderr == "", ended
    lines = ended.stdout.splitlines()
    items = [line.split()[1] for line in lines if line.startswith(("ok ", "note ", "problem "))]
    assert set(items) == ITEMS and len(items) == len(ITEMS), lines
    assert lines[-1].startswith("A server would start: "), lines
    assert all("cure: " in line for line in lines[:-1] if line.startswith(" ")), lines


def test_json_is_one_object():
    found = report(doctor("--json"))
    assert found["would_start"] and found["driver"] in ("io-uring", "epoll")
    assert found["items"]["driver"]["values"]["asked_by"] == "default"
    assert found["workers"] == found["items"]["cpu"]["values"]["workers"] >= 1


@pytest.mark.parametrize("asked", ["io-uring", "epoll"])
def test_the_driver_that_is_asked_for_is_tried(asked):
    found = report(doctor("--json", "--driver", asked))
    values = found["items"]["driver"]["values"]
    assert (found["driver"], values["asked"], values["asked_by"]) == (asked, asked, "flag")
    found = report(doctor("--json", env={**os.environ, "PICOWS_DRIVER": asked}))
    values = found["items"]["driver"]["values"]
    assert (found["driver"], values["asked"], values["asked_by"]) == (asked, asked, "environment")


each_call_and_all = pytest.mark.parametrize(
    "calls", [*([name] for name in IO_URING_CALLS), list(IO_URING_CALLS)], ids="+".join
)


@each_call_and_all
def test_under_a_filter_epoll_is_chosen_and_the_filter_named(calls):
    found = report(doctor("--json", **under(calls)))
    assert found["would_start"] and found["driver"] == "epoll"
    assert {"driver", "seccomp"} <= levels(found, "note"), found
    assert found["items"]["driver"]["values"]["cause"] == "filter"
    assert found["items"]["seccomp"]["values"]["mode"] == 2
    assert found["items"]["seccomp"]["values"]["no_new_privs"] is True
    assert "seccomp profile" in found["items"]["driver"]["cure"]


@each_call_and_all
def test_under_a_filter_io_uring_is_a_problem_for_those_who_ask_for_it(calls):
    found = report(doctor("--json", "--driver", "io-uring", **under(calls)))
    assert not found["would_start"] and found["driver"] is None
    assert levels(found, "problem") == {"driver", "seccomp"}
    text = doctor("--driver", "io-uring", **under(calls))
    assert text.returncode == 1 and "cure: io_uring is disabled" in text.stdout, text
    assert text.stdout.splitlines()[-1].startswith("A server would not start: problems: 2"), text


@pytest.mark.parametrize("action", [SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD], ids=["process", "thread"])
def test_a_filter_that_ends_processes_ends_no_report(action):
    deadly = under(IO_URING_CALLS, action)
    for flags in ([], ["--driver", "io-uring"]):
        found = report(doctor("--json", *flags, **deadly))
        assert found["items"]["driver"]["values"]["cause"] == "kill"
        assert "--driver epoll" in found["items"]["driver"]["cure"]
    # No call is made, not even in a process of its own: both would show as a problem.
    assert report(doctor("--json", "--driver", "epoll", **deadly))["driver"] == "epoll"
    deadly["env"]["PICOWS_DRIVER"] = "epoll"
    assert report(doctor("--json", **deadly))["driver"] == "epoll"


def test_limits_of_locked_memory_are_those_of_a_start():
    found = report(doctor("--json", **locking_at_most(64 * 1024)))
    assert levels(found, "problem") == {"driver", "locked_memory"}, found
    assert found["items"]["driver"]["values"]["cause"] == "memory"
    assert found["items"]["locked_memory"]["values"]["soft"] == 64 * 1024
    found = report(doctor("--json", "--driver", "epoll", **locking_at_most(0)))
    assert found["would_start"] and found["items"]["locked_memory"]["level"] == "ok"


def test_too_few_descriptors_are_a_problem():
    ended = doctor("--json", preexec_fn=lambda: limit_descriptors(8))
    found = report(ended)
    assert levels(found, "problem") == {"driver"}
    assert found["items"]["driver"]["values"]["cause"] == "descriptors"
    assert found["items"]["descriptors"]["values"] == {"soft": 8, "hard": 8, "connections": 0}
    assert "ulimit -n" in found["items"]["driver"]["cure"]


def test_nonsense_in_the_variable_is_an_error_with_the_cure():
    ended = doctor(env={**os.environ, "PICOWS_DRIVER": "kqueue"})
    assert ended.returncode == 2 and ended.stdout == "", ended
    assert 'PICOWS_DRIVER="kqueue" is no driver: use auto, io-uring or epoll' in ended.stderr, ended.stderr


@pytest.mark.parametrize("flag", ["--driver=kqueue", "--listen=127.0.0.1:0", "--jsonl", "x"])
def test_a_wrong_command_line_is_an_error(flag):
    done = run_to_end("doctor", flag)
    assert done.returncode == 2 and done.stdout == "", done


def test_help_names_flags_and_exit_status():
    done = run_to_end("doctor", "--help")
    assert done.returncode == 0 and "Exit status" in done.stdout, done
    assert "--json" in done.stdout and "--driver" in done.stdout and "canary" not in done.stdout, done


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["text", "json"])
def test_output_to_a_closed_pipe_is_an_error(flags):
    reader, writer = os.pipe()
    os.close(reader)
    streams = {"stdin": subprocess.DEVNULL, "stdout": writer, "stderr": subprocess.PIPE}
    ended = subprocess.run([binary(), "doctor", *flags], text=True, timeout=START_S, **streams)
    os.close(writer)
    assert ended.returncode == 1 and "standard output cannot be written" in ended.stderr, ended


def test_nothing_listens():
    """A filter forbids listen(2), which would end the process."""
    deadly = under(["listen", "bind"], SECCOMP_RET_KILL_PROCESS)
    found = report(doctor("--json", **deadly))
    assert found["would_start"], found
