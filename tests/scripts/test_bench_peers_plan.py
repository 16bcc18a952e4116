"""The runs, their order, and which are done again."""

import itertools
import unittest

from bench_peers_case import ROOT  # noqa: F401  (puts the package on the path)
from bench_peers import peers, plan
from bench_peers.measure import parse_strace
from bench_peers.machine import parse_stat, steal_share
from server import Failure


class Cells(unittest.TestCase):
    def test_a_cell_is_read_and_written(self):
        self.assertEqual(plan.Cell.parse(" 64x16x256"), (64, 16, 256))
        self.assertEqual(str(plan.Cell(8, 1, 100_000)), "8x1x100000")
        for text in ("64x16", "0x1x256", "64x0x256", "axbxc", "1x1x-1"):
            with self.assertRaises(ValueError):
                plan.Cell.parse(text)

    def test_the_length_of_a_masked_frame_follows_its_payload(self):
        lengths = {0: 6, 125: 131, 126: 134, 65_535: 65_543, 65_536: 65_550}
        for payload, length in lengths.items():
            self.assertEqual(plan.Cell(1, 1, payload).request_bytes(), length, payload)


class Order(unittest.TestCase):
    def order(self, seed, peers_of=peers.names_of):
        return list(plan.runs(plan.Settings.full(seed), peers_of))

    def test_a_seed_gives_one_order(self):
        self.assertEqual(self.order(1), self.order(1))
        self.assertNotEqual(self.order(1), self.order(2))

    def test_every_peer_runs_once_in_each_round_of_each_case(self):
        runs = self.order(1)
        self.assertEqual(len(runs), len(set(runs)))
        for key, group in itertools.groupby(runs, lambda run: (run.section, run.case, run.round)):
            self.assertEqual(sorted(run.peer for run in group), sorted(peers.names_of(key[0])), key)

    def test_the_order_changes_from_round_to_round(self):
        firsts = [[run.peer for run in self.order(1) if run[:2] == ("echo", "64x1x256") and run.round == number]
                  for number in (1, 2, 3)]
        self.assertGreater(len(set(map(tuple, firsts))), 1)

    def test_peak_comes_before_what_needs_it(self):
        sections = list(dict.fromkeys(run.section for run in self.order(1)))
        self.assertLess(sections.index("peak"), sections.index("open"))

    def test_the_goals_want_eight_rounds_of_the_matrix(self):
        settings = plan.Settings.full(1)
        self.assertGreaterEqual(settings.rounds_of("echo"), 8)
        self.assertEqual(settings._replace(rounds=1).rounds_of("open"), 1)

    def test_topics_are_measured_with_the_command_that_serves_them(self):
        ours = peers.server("picows-uring")
        self.assertIn("pubsub", ours.topics)
        self.assertEqual(ours.topics_cost, ("{topics_cost}",))

    def test_what_cannot_fan_out_is_left_out_of_it(self):
        self.assertNotIn("beast", peers.names_of("fan-out"))
        self.assertNotIn(peers.FLOOR, peers.names_of("connect"))
        self.assertIn(peers.FLOOR, peers.names_of("echo"))

    def test_a_library_with_a_limit_is_left_out_of_larger_messages(self):
        runs = [plan.Run("echo", case, "ntex", 1) for case in ("64x1x256", "8x1x16384", "8x1x100000")]
        self.assertEqual([peers.can_run(run) for run in runs], [True, True, False])

    def test_sections_of_hosts_and_workers_have_servers_of_their_own(self):
        for section in plan.CELLS_OF:
            names = peers.names_of(section)
            self.assertGreater(len(names), 2, section)
            for name in names:
                self.assertTrue(peers.server(name).more[section], name)
            for case in plan.Settings.full(1).cases_of(section):
                plan.Cell.parse(case)

    def test_a_whole_session_takes_two_hours_and_a_half_at_the_most(self):
        settings = plan.Settings.full(1)
        runs = filter(peers.can_run, plan.runs(settings, peers.names_of))
        # A fifth as many again may be repetitions.
        seconds = 1.2 * sum(plan.seconds_of(settings, run) for run in runs)
        self.assertLess(seconds, 150 * 60)

    def test_restarts_are_of_servers_that_can_take_over(self):
        runs = [run for run in plan.runs(plan.Settings.full(1), peers.names_of) if run.section == "restart"]
        self.assertEqual({run.peer for run in runs}, set(peers.OURS))
        self.assertEqual({run.case for run in runs}, set(plan.RESTARTS))

    def test_what_speaks_no_tls_is_left_out_of_it(self):
        for section in ("tls", "tls-connect", "tls-idle"):
            names = peers.names_of(section)
            self.assertEqual(names, ("picows-uring", "dedicated", "fastwebsockets", "tokio-tungstenite", "beast"))

    def test_cells_over_tls_name_a_cell_and_how_it_is_packed(self):
        for case in plan.CELLS_TLS:
            cell, packing = case.split("-")
            self.assertEqual(str(plan.Cell.parse(cell)), cell)
            self.assertIn(packing, ("full", "each"))


class Steal(unittest.TestCase):
    def test_the_core_that_suffered_most_counts(self):
        before = parse_stat("cpu  1 1 1 1 1 1 1 1\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 10 0 0 90 0 0 0 0 5 0\nintr 1\n")
        after = parse_stat("cpu  9 9 9 9 9 9 9 9\ncpu0 50 0 0 48 0 0 0 2 0 0\ncpu1 60 0 0 130 0 0 0 10 9 0\n")
        self.assertAlmostEqual(steal_share(before, after), 0.10)
        self.assertEqual(steal_share(after, after), 0)

    def measured(self, *steals):
        left = list(steals)
        return lambda: ({"run": len(steals) - len(left)}, left.pop(0))

    def test_a_calm_run_is_taken_at_once(self):
        figures, steal, attempts = plan.Reruns(100, 3.0).calmest(self.measured(0.03, 0.0))
        self.assertEqual((figures, steal, attempts), ({"run": 0}, 0.03, 1))

    def test_a_disturbed_run_is_done_again_and_the_calmest_taken(self):
        reruns = plan.Reruns(100, 3.0)
        self.assertEqual(reruns.calmest(self.measured(0.2, 0.01))[1:], (0.01, 2))
        self.assertEqual(reruns.calmest(self.measured(0.2, 0.06, 0.1, 0.3))[1:], (0.06, 4))

    def test_repeating_is_bounded_altogether(self):
        reruns = plan.Reruns(10, 3.0)
        attempts = [reruns.calmest(lambda: ({}, 0.5))[2] for _ in range(10)]
        self.assertEqual(sum(attempts) - 10, 2)


class Programs(unittest.TestCase):
    def test_programs_are_filled_in(self):
        self.assertEqual(peers.fill(("{a}", "--x", "1"), {"a": "/bin/a"}), ["/bin/a", "--x", "1"])
        with self.assertRaisesRegex(Failure, "b was not built"):
            peers.fill(("{b}",), {"a": "/bin/a"})

    def test_only_what_is_asked_for_is_built(self):
        self.assertEqual(peers.kits(["beast", "floor"]), ["ours", "beast"])
        self.assertEqual(peers.kits(["picows-uring"]), ["ours", "rust"])

    def test_a_peer_is_left_out_of_cases_that_it_has_not(self):
        cases = ("context", "no-context", "fan-out")
        of = {
            name: [case for case in cases if peers.can_run(plan.Run("deflate", case, name, 1))]
            for name in ("picows-uring", "uwebsockets", "uwebsockets-libdeflate")
        }
        self.assertEqual(of, {
            "picows-uring": ["context", "no-context", "fan-out"],
            "uwebsockets": ["context", "no-context"],
            "uwebsockets-libdeflate": ["no-context"],
        })
        self.assertTrue(peers.can_run(plan.Run("echo", "1x1x256", "beast", 1)))

    def test_the_total_of_strace_is_found(self):
        text = ("% time     seconds  usecs/call     calls    errors syscall\n"
                "------ ----------- ----------- --------- --------- ----------------\n"
                "100.00    0.001000           2       500        12 total\n")
        self.assertEqual(parse_strace(text), 500)
        with self.assertRaises(Failure):
            parse_strace("strace: attached\n")


if __name__ == "__main__":
    unittest.main()
