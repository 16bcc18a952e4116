"""A session: builds, then does every run that the record does not have, and shows how far it is."""

import sys
import time

from server import Failure

from . import machine, peers, plan
from .build import Workshop
from .measure import Meter, has_flag
from .processes import Fleet


class Session:
    def __init__(self, root, record, wanted, is_built):
        self.root = root
        self.record = record
        self.workshop = Workshop(root, is_built)
        # Names of peers to take along; None for all.
        self.wanted = wanted
        self.fleet = Fleet()
        self.progress = Progress()

    def names_of(self, section):
        return [
            name
            for name in peers.names_of(section)
            if (self.wanted is None or name in self.wanted) and not self.is_missing(section, name)
        ]

    def is_missing(self, section, name):
        known = peers.client(name) if section == "rtt" else peers.server(name)
        return known.kit in self.missing_kits or (section == "rtt" and name in self.missing_clients)

    def build(self):
        self.missing_kits, self.missing_clients = {}, set()
        everyone = (*peers.SERVER_NAMES, *peers.CLIENT_NAMES)
        for kit in peers.kits(everyone if self.wanted is None else self.wanted):
            say(f"building: {kit}")
            try:
                self.workshop.make(kit)
            except Failure as failure:
                if kit == "ours":
                    raise
                self.missing_kits[kit] = str(failure)
                say(f"skipped: {kit}: {failure}")
        for known in (*peers.SERVERS, *peers.CLIENTS):
            if known.kit in self.missing_kits:
                self.record.skip(known.name, self.missing_kits[known.kit])
        if not has_flag(self.workshop.programs["picows"], "rtt", "--dedicated"):
            self.missing_clients = {name for name in peers.CLIENT_NAMES if name.startswith("dedicated")}
        self.record.set_versions(self.workshop.versions)

    def run(self):
        settings = self.record.settings
        planned = list(filter(peers.can_run, plan.runs(settings, self.names_of)))
        left = [run for run in planned if not self.record.has(run)]
        reruns = plan.Reruns(len(left), settings.steal_percent_max)
        meter = Meter(settings, self.workshop.programs, self.fleet, self.record)
        self.progress.start(len(planned), len(planned) - len(left))
        section = None
        try:
            for run in left:
                if run.section != section:
                    # Servers of another section have no business here.
                    self.fleet.stop_all()
                    section = run.section
                self.progress.show(run)
                self.run_once(meter, reruns, run)
        finally:
            self.progress.end()
            self.fleet.stop_all()
        return [run for run in planned if run in self.record.failures]

    def run_once(self, meter, reruns, run):
        # What failed twice in a section is not tried in each of its rounds.
        failed = [known for known in self.record.failures if known[:3] == run[:3]]
        if len(failed) >= FAILURES_MAX:
            self.record.fail(run, "not tried again: " + self.record.failures[failed[0]])
            return
        try:
            figures, steal, attempts = reruns.calmest(lambda: meter.measure(run))
        except (Failure, OSError, ValueError, KeyError) as failure:
            reason = str(failure) if isinstance(failure, Failure) else repr(failure)
            self.record.fail(run, reason)
            self.progress.say(f"failed: {run}: {reason}")
        else:
            self.record.add(run, figures, steal, attempts)


class Progress:
    """A line that is written over on a terminal; elsewhere, a line for each part of the way."""

    def start(self, total, done):
        self.total, self.done, self.first = total, done, done
        self.since = time.monotonic()
        self.shown = -1
        if done:
            say(f"{done} of {total} runs are done already")

    def show(self, run):
        share = self.done / max(self.total, 1)
        text = f"{share:4.0%}  {self.left():>9}  {run}"
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
        elif int(share * 20) > self.shown:
            self.shown = int(share * 20)
            say(text)
        self.done += 1

    def left(self):
        measured = self.done - self.first
        if measured < 10:
            return ""
        seconds = (time.monotonic() - self.since) / measured * (self.total - self.done)
        return f"{int(seconds) // 60}:{int(seconds) % 60:02} left"

    def say(self, text):
        self.end()
        say(text)

    def end(self):
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def say(text):
    print(f"bench-peers: {text}", file=sys.stderr, flush=True)


def describe(root, command):
    return machine.describe(root) | {"command": command, "versions": {}}


# Rounds of the same run that may fail before it is given up.
FAILURES_MAX = 2
