"""A record survives being cut short, and what is left to do follows from it."""

import unittest

from bench_peers_case import RecordCase, cpu
from bench_peers import plan
from bench_peers.measure import highest_rate
from bench_peers.record import Record
from bench_peers.session import Session
from server import Failure


class Resuming(RecordCase):
    def test_what_was_measured_is_read_again(self):
        record = self.record(rounds=3)
        self.add(record, "echo", "1x1x256", "epoll", *cpu(4.0, 3.0))
        record.fail(plan.Run("echo", "1x1x256", "beast", 1), "it fell over")
        record.skip("ws", "no Node")
        record.set_versions({"tokio": "2"})
        again = Record.load(self.path)
        self.assertEqual(again.settings, record.settings)
        self.assertEqual(again.values("echo", "1x1x256", "epoll", "server_cpu_us_per_message"), [4.0, 3.0])
        self.assertEqual(list(again.failures.values()), ["it fell over"])
        self.assertEqual(again.skipped, {"ws": "no Node"})
        self.assertEqual(again.about["versions"], {"tokio": "2"})

    def test_a_line_that_was_cut_off_is_done_again(self):
        record = self.record()
        self.add(record, "echo", "1x1x256", "epoll", *cpu(4.0, 3.0))
        whole = self.path.read_text()
        self.path.write_text(whole[:-20])
        again = Record.load(self.path)
        self.assertTrue(again.has(plan.Run("echo", "1x1x256", "epoll", 1)))
        self.assertFalse(again.has(plan.Run("echo", "1x1x256", "epoll", 2)))
        self.add(again, "echo", "1x1x256", "tokio", *cpu(5.0))
        self.assertEqual(len(Record.load(self.path).results), 2)

    def test_nothing_is_left_but_what_is_not_recorded(self):
        names = ["epoll", "tokio"]
        record = self.record(rounds=2, sections=["echo"], cells=["1x1x256", "64x1x32"])
        planned = list(plan.runs(record.settings, lambda _section: names))
        for run in planned[:5]:
            record.add(run, *cpu(1.0), 0.0, 1)
        left = [run for run in plan.runs(Record.load(self.path).settings, lambda _section: names)
                if not Record.load(self.path).has(run)]
        self.assertEqual(left, planned[5:])

    def test_a_new_record_keeps_the_old_one_aside(self):
        self.add(self.record(), "echo", "1x1x256", "epoll", *cpu(4.0))
        self.assertEqual(len(self.record().results), 0)
        self.assertEqual(len(Record.load(self.path.with_suffix(".jsonl.old")).results), 1)

    def test_a_skipped_peer_is_told_once(self):
        record = self.record()
        record.skip("ws", "no Node")
        record.skip("ws", "no Node")
        self.assertEqual(self.path.read_text().count("no Node"), 1)

    def test_what_failed_is_tried_again_when_it_is_forgotten(self):
        run = plan.Run("echo", "1x1x256", "epoll", 1)
        record = self.record()
        record.fail(run, "it fell over")
        self.assertTrue(Record.load(self.path).has(run))
        again = Record.load(self.path)
        again.forget_failures()
        self.assertFalse(again.has(run))
        again.add(run, *cpu(4.0), 0.0, 1)
        self.assertEqual(Record.load(self.path).failures, {})

    def test_another_file_is_refused(self):
        self.path.write_text('{"something": "else"}\n')
        with self.assertRaisesRegex(ValueError, "not a record"):
            Record.load(self.path)

    def test_the_highest_rate_is_the_best_median(self):
        record = self.record()
        self.assertIsNone(highest_rate(record))
        rates = {"epoll": (90, 100, 500), "tokio": (120, 110, 130)}
        for name, found in rates.items():
            self.add(record, "peak", "64x1x256", name, *({"messages_per_s": rate} for rate in found))
        self.assertEqual(highest_rate(record), 120)


class Failing(RecordCase):
    def test_a_run_that_fails_twice_is_not_tried_in_further_rounds(self):
        record = self.record()
        session = Session(self.path.parent, record, None, True)
        session.progress.say = lambda _text: None
        reruns = plan.Reruns(100, 3.0)
        runs = [plan.Run("echo", "1x1x256", "beast", number) for number in range(1, 5)]
        meter = Broken()
        for run in runs:
            session.run_once(meter, reruns, run)
        session.run_once(meter, reruns, plan.Run("echo", "64x1x32", "beast", 1))
        self.assertEqual([run.case for run in meter.asked], ["1x1x256", "1x1x256", "64x1x32"])
        self.assertEqual([record.failures[run] for run in runs],
                         ["no luck", "no luck", *["not tried again: no luck"] * 2])


class Broken:
    def __init__(self):
        self.asked = []

    def measure(self, run):
        self.asked.append(run)
        raise Failure("no luck")


if __name__ == "__main__":
    unittest.main()
