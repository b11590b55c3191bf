"""What many rounds came to, in a file: a campaign goes on from there, also after it was ended in the middle."""

import collections
import json
import os
import pathlib
import sys

SUMS = ["rounds", "green", "events", "acknowledged", "lost_and_said", "lost_and_not_said", "deliveries", "faults", "seconds"]
COUNTS = ["what_was_done", "duplicates"]
LONGEST = ["longest_silence", "longest_refusal"]


class Totals:
    """By label (a campaign with its settings). Written as a whole after each round, so that half a file is never there."""

    def __init__(self, path, label):
        self.path, self.label = path and pathlib.Path(path), label

    def _read(self):
        if self.path and self.path.exists():
            return json.loads(self.path.read_text())
        return {}

    def rounds_of(self, seed):
        """How many rounds of this seed there have been: the next ones are others."""
        return self._read().get(self.label, {}).get("seeds", {}).get(str(seed), 0)

    def add(self, seed, number, result):
        everything = self._read()
        mine = everything.setdefault(self.label, {})
        for name in SUMS:
            mine[name] = round(mine.get(name, 0) + result[name], 1)
        for name in COUNTS:
            mine[name] = dict(sorted((collections.Counter(mine.get(name, {})) + collections.Counter(result[name])).items()))
        for name in LONGEST:
            before = mine.get(name, [0, ""])
            mine[name] = before if before[0] >= result[name][0] else [round(result[name][0], 1), result[name][1]]
        seeds = mine.setdefault("seeds", {})
        seeds[str(seed)] = max(seeds.get(str(seed), 0), number + 1)
        if result["red"]:
            mine.setdefault("red", []).append({"seed": seed, "round": number, "faults": result["red"][:5]})
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            written = self.path.with_name(f"{self.path.name}.{os.getpid()}")
            written.write_text(json.dumps(everything, indent=1) + "\n")
            os.replace(written, self.path)
        return mine


def as_words(totals):
    """One line of what they came to."""
    lost = f", {totals['lost_and_said']} of them lost and said, {totals['lost_and_not_said']} lost and not said"
    bound = f" (at 95 %, fewer than {3 / totals['rounds']:.3f} are red)" if totals["green"] == totals["rounds"] else ""
    return (
        f"{totals['green']} of {totals['rounds']} rounds green{bound}; {totals['acknowledged']} events acknowledged{lost}; "
        f"{totals['deliveries']} deliveries, {sum(totals['duplicates'].values())} of them duplicates {totals['duplicates']}; "
        f"longest silence {totals['longest_silence'][0]} s ({totals['longest_silence'][1]}), "
        f"no post accepted for {totals['longest_refusal'][0]} s ({totals['longest_refusal'][1]}); {totals['what_was_done']}"
    )


def as_table(path):
    """The totals of a file as a table in Markdown."""
    head = ["campaign", "rounds", "green", "events acknowledged", "lost: said, not said", "deliveries", "longest silence of a URL", "longest time without an accepted post", "3/N"]
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for label, one in json.loads(pathlib.Path(path).read_text()).items():
        bound = f"{100 * 3 / one['rounds']:.0f} %" if one["green"] == one["rounds"] else "-"
        cells = [label, one["rounds"], one["green"], f"{one['acknowledged']:,}", f"{one['lost_and_said']}, {one['lost_and_not_said']}"]
        cells += [f"{one['deliveries']:,}", "{} s ({})".format(*one["longest_silence"]), "{} s ({})".format(*one["longest_refusal"]), bound]
        yield "| " + " | ".join(str(cell) for cell in cells) + " |"
    yield ""
    yield "| campaign | what was done (how often) | duplicates by what was done |"
    yield "|---|---|---|"
    for label, one in json.loads(pathlib.Path(path).read_text()).items():
        done = ", ".join(f"{name} ({count})" for name, count in one["what_was_done"].items())
        repeated = ", ".join(f"{name}: {count}" for name, count in one["duplicates"].items()) or "none"
        yield f"| {label} | {done} | {repeated} |"


if __name__ == "__main__":
    print("\n".join(as_table(sys.argv[1])))
