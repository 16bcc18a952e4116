"""The machine, from /proc: what it is, what was stolen from it, what a process uses."""

import os
import platform
import re
import subprocess
import time
from pathlib import Path

from server import cpu_ns


def parse_stat(text):
    """Ticks of each core: (all, stolen)."""
    cores = []
    for line in text.splitlines():
        if re.match(r"cpu\d", line):
            # The guests behind the first eight are part of user and nice (proc_stat(5)).
            ticks = [int(field) for field in line.split()[1:9]]
            cores.append((sum(ticks), ticks[7] if len(ticks) > 7 else 0))
    return cores


def steal_share(before, after):
    """What was stolen of the core that suffered most, 0 to 1."""
    shares = (
        (new[1] - old[1]) / max(new[0] - old[0], 1) for old, new in zip(before, after)
    )
    return max(shares, default=0.0)


def read_stat():
    return parse_stat(Path("/proc/stat").read_text(encoding="ascii"))


def settle(pid, patience_s=3.0):
    """Waits until a process rests, as after thousands of connections were reset."""
    deadline = time.monotonic() + patience_s
    used = cpu_ns(pid)
    while time.monotonic() < deadline:
        time.sleep(0.01)
        before, used = used, cpu_ns(pid)
        if used - before < 500_000:
            return


def processor():
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def output_of(*command, cwd=None):
    """What a command prints, or None if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cwd)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def describe(root):
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"))
    changed = output_of("git", "status", "--porcelain", "--untracked-files=no", cwd=root)
    commit = output_of("git", "rev-parse", "--short=12", "HEAD", cwd=root)
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory[1]) / (1 << 20)),
        "virtual": "hypervisor" in Path("/proc/cpuinfo").read_text(encoding="utf-8"),
        "kernel": re.match(r"[\d.]+|.*", platform.release())[0],
        "distribution": platform.freedesktop_os_release().get("PRETTY_NAME", "Linux"),
        "commit": f"{commit or 'unknown'}{' with changes' if changed else ''}",
    }
