"""The bench's own arithmetic and parsers: a wrong figure looks just like a right one.

    python3 -m unittest discover -s bench"""
import unittest

import measures
import tables
from proxies import Failed

STRACE = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 61.02    0.123456           6     20000           writev
 38.98    0.078901           3     20010        10 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.202357           5     40010        10 total
"""


class Bench(unittest.TestCase):
    def test_a_summary_of_strace_is_read_with_and_without_errors(self):
        self.assertEqual(measures.parse_strace(STRACE), {"writev": 20000, "recvfrom": 20010, "total": 40010})

    def test_a_summary_that_was_not_written_is_no_zero(self):
        with self.assertRaises(Failed):
            measures.parse_strace("")

    def test_the_interval_holds_the_median_and_narrows_with_more_rounds(self):
        few = tables.median_interval([0.8, 1.0, 1.2, 0.9, 1.1])
        many = tables.median_interval([0.8, 1.0, 1.2, 0.9, 1.1] * 20)
        self.assertEqual(few[0], 1.0)
        self.assertTrue(few[1] <= 1.0 <= few[2])
        self.assertLess(many[2] - many[1], few[2] - few[1])

    def test_equal_figures_leave_no_doubt(self):
        self.assertEqual(tables.median_interval([1.5] * 30), (1.5, 1.5, 1.5))

    def test_the_ratio_is_to_the_better_peer_of_the_same_round(self):
        rows = {"nginx": [{"k": 10}, {"k": 40}], "haproxy": [{"k": 20}, {"k": 30}], "terrace": [{"k": 5}, {"k": 45}]}
        self.assertEqual(tables.ratios(rows, "k"), [0.5, 1.5])

    def test_a_section_replaces_what_stands_between_the_marks_and_nothing_else(self):
        document = f"before\n{tables.BEGIN}\nold\n{tables.END}\nafter\n"
        new = f"{tables.BEGIN}\nnew\n{tables.END}"
        self.assertEqual(tables.put_section(document, new), f"before\n{new}\nafter\n")
        with self.assertRaises(ValueError):
            tables.put_section("no marks", new)

    def test_a_peer_that_failed_leaves_a_gap_and_no_guess(self):
        result = {"instructions": {"nginx": {"per_request": 21246.4}}, "syscalls": {}}
        table = tables.count_table(result, {"nginx": "nginx", "terrace": "Terrace"})
        self.assertEqual(table[1], ["instructions in user space", "21,246", "–"])


if __name__ == "__main__":
    unittest.main()
