"""The checker sees nothing wrong in good histories, and each fault in doctored ones: a campaign that cannot fail shows nothing.

`histories.json` has the good ones, and for each doctored one what is changed in a good one, and the words of what must be seen.
"""

import copy
import json
import pathlib
import unittest

import checker

HISTORIES = json.loads((pathlib.Path(__file__).parent / "histories.json").read_text())


def history(data):
    said = checker.Said(
        holes=tuple(tuple(one) for one in data["said"]["holes"]), epochs=tuple(tuple(one) for one in data["said"]["epochs"])
    )
    return checker.History(
        sent={int(number): checker.Sent(*one) for number, one in data["sent"].items()},
        acknowledged=[checker.Acknowledged(**one) for one in data["acknowledged"]],
        deliveries=[checker.Delivery(**one) for one in data["deliveries"]],
        target=checker.Target(**data["target"]),
        said=said,
        # There, an id begins with the type.
        log={int(sequence): (id_, id_.split(":")[0]) for sequence, id_ in data["log"].items()},
    )


def place(data, path):
    """What holds the thing at this path, and its key there."""
    *way, key = path.strip("/").split("/")
    for step in way:
        data = data[int(step)] if isinstance(data, list) else data[step]
    return data, int(key) if isinstance(data, list) else key


def doctor(data, changes):
    data = copy.deepcopy(data)
    for what, path, *value in changes:
        holder, key = place(data, path)
        if what == "remove":
            del holder[key]
        elif what == "set":
            holder[key] = value[0]
        elif what == "add":
            added = value[0]
            if isinstance(added, str):
                other, there = place(data, added)
                added = copy.deepcopy(other[there])
            holder[key].append(added)
        elif what == "insert":
            holder.insert(key, value[0])
        elif what == "swap":
            other, there = place(data, value[0])
            holder[key], other[there] = other[there], holder[key]
        else:
            raise ValueError(what)
    return data


class Checker(unittest.TestCase):
    def test_it_sees_nothing_wrong_in_good_histories(self):
        for name, data in HISTORIES["good"].items():
            with self.subTest(name):
                self.assertEqual(checker.faults(history(data)), [])

    def test_it_sees_each_fault_of_the_doctored_histories(self):
        self.assertGreaterEqual(len(HISTORIES["doctored"]), 15)
        for one in HISTORIES["doctored"]:
            with self.subTest(one["name"]):
                found = checker.faults(history(doctor(HISTORIES["good"][one["of"]], one["do"])))
                self.assertTrue(any(one["seen"] in fault for fault in found), found)

    def test_patterns_match_as_those_of_nats_do(self):
        for pattern, type_, expected in [
            ("a", "a", True), ("a", "b", False), ("a", "a.b", False), ("a.*", "a.b", True), ("a.*", "a", False),
            ("a.*", "a.b.c", False), ("a.>", "a.b.c", True), ("a.>", "a", False), (">", "a.b", True), ("*.b", "a.b", True),
        ]:
            self.assertEqual(checker.matches(pattern, type_), expected, (pattern, type_))

    def test_a_silence_counts_only_while_something_is_owed(self):
        data = copy.deepcopy(HISTORIES["good"]["two types, one duplicate"])
        data["deliveries"][-1]["at"] = 9.7
        self.assertAlmostEqual(checker.longest_silence(history(data))[0], 8.0)
        data["acknowledged"][-1]["at"] = 9.5
        self.assertAlmostEqual(checker.longest_silence(history(data))[0], 0.2)


if __name__ == "__main__":
    unittest.main()
