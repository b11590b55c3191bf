"""A round: senders post to a stage, targets take, faults happen, everything is mended, and the checker looks at what came.

A stage has `start()`, `mers` (those that take posts, the first one is asked), `faults` (functions by name: each does its fault
and mends it), `mend()` and `stop()`; it is given the `senders`.
"""

import collections
import datetime
import json
import pathlib
import random
import shutil
import tempfile
import time

import checker
import mounts
from totals import Totals, as_words
from world import Senders, Target, until

TYPES = ["campaign.a", "campaign.b", "campaign.b.c"]
# The targets, what they ask for, and when: from the start, or after the first fault, with the past or without.
TARGETS = {
    "/all": (("campaign.>",), "first"),
    "/some": (("campaign.b.*", "campaign.a"), "first"),
    "/flaky": (("campaign.b",), "first"),
    "/late": (("campaign.>",), "late, from the beginning"),
    "/now": (("campaign.>",), "late, from now"),
}

# From which silence of a URL on a round's logs are kept, in seconds.
SILENCE_TO_KEEP = 10


def arguments(parser):
    parser.add_argument("--first", type=int, help="the number of the first round (default: the seed's next one by the totals)")
    parser.add_argument("--totals", help="a file of totals, to which each round is added (default: none)")
    parser.add_argument("--faults", type=int, default=3, help="how many faults a round has (default: %(default)s)")
    parser.add_argument("--only", help="only faults with this in their name")
    parser.add_argument("--control", action="store_true", help="a positive control: it fails if no round is red")
    parser.add_argument(
        "--patience", type=float, default=120, help="seconds for everything to come, and for mer to say what is lost (default: %(default)s)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folders with mer's logs")


def run(name, make_stage, label, options):
    """All rounds of a campaign; whether each was as it should be."""
    label = ", ".join(part for part in [name, label, options.only and f"only {options.only}"] if part)
    totals = Totals(options.totals, label)
    first = totals.rounds_of(options.seed) if options.first is None else options.first
    red = 0
    for number in range(first, first + options.rounds):
        result = Round(name, make_stage, random.Random(f"{name}/{options.seed}/{number}"), options).run()
        after = totals.add(options.seed, number, result)
        red += bool(result["red"])
        print(f"round {number} of seed {options.seed}: {'; '.join(result['told'])}", flush=True)
        for fault in result["red"][:5]:
            print(f"  RED: {fault}", flush=True)
    if options.rounds:
        print(f"{totals.label}: {as_words(after)}", flush=True)
    if options.control and not red:
        print("the positive control is green: this campaign shows nothing", flush=True)
    return red > 0 if options.control else red == 0


def on_our_clock(stamp):
    """A time of mer's as one of ours."""
    at = datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    return at - time.time() + time.monotonic()


class Round:
    def __init__(self, name, make_stage, random_, options):
        self.random, self.options = random_, options
        self.work = pathlib.Path(tempfile.mkdtemp(prefix=f"mer-campaign-{name}-"))
        self.in_memory = mounts.is_inside()
        if self.in_memory:
            mounts.in_memory(self.work)
        self.stage, self.target = make_stage(self.work, random_, options), Target()
        # What was done, from when to when.
        self.done, self.registered, self.told, self.faults = [], {}, [], []
        self.senders, self.histories, self.lost = None, {}, (0, 0)

    def run(self):
        began = time.monotonic()
        try:
            self.stage.start()
            self.go()
        except Exception as problem:  # noqa: BLE001: a round that cannot be judged is a red one, and the next ones go on.
            self.faults.append(f"the round ended with {type(problem).__name__}: {problem}")
        finally:
            if self.senders:
                self.senders.stop()
            self.stage.stop()
            self.target.close()
        result = self.result(time.monotonic() - began)
        self.clear(result)
        return result

    def go(self):
        random_ = self.random
        self.until_ready()
        for path, (_, when) in TARGETS.items():
            if when == "first":
                self.register(path)
        size = random_.choice([20, 20, 1_000, 10_000])
        self.senders = Senders(self.stage.mers, 6, 0.003, size, TYPES)
        self.stage.senders = self.senders
        time.sleep(random_.uniform(0.3, 1))
        names = [name for name in self.stage.faults if not self.options.only or self.options.only in name]
        for turn in range(self.options.faults):
            name = random_.choice(names)
            began = time.monotonic()
            self.done.append((began, name, float("inf")))
            self.stage.faults[name]()
            self.done[-1] = (began, name, time.monotonic())
            time.sleep(random_.uniform(0.2, 1.5))
            if turn == 0:
                for path, (_, when) in TARGETS.items():
                    if when != "first":
                        self.register(path)
        self.stage.mend()
        mended = time.monotonic()
        self.until_ready()
        until(lambda: self.senders.accepted_since(mended), 60)
        time.sleep(0.5)
        self.senders.stop()
        self.judge()

    def until_ready(self):
        for mer in self.stage.mers:
            if mer.until_ready(90) is None:
                answer = mer.ask("GET", "/readyz")
                raise RuntimeError(f"mer was not ready within 90 s: {answer and answer[2]}")

    def register(self, path):
        types, when = TARGETS[path]
        attributes = {"url": self.target.url(path)}
        if when != "late, from now":
            attributes["datetime_start"] = "20200101000000.0"
        body = {"events_to_register": [{"event": type_, "urls_to_register": [attributes]} for type_ in types]}
        asked, answer = time.monotonic(), None

        def is_registered():
            nonlocal answer
            answer = self.stage.mers[0].ask("POST", "/register_for_events/", body, timeout=20)
            return answer and answer[0] == 200

        if until(is_registered, 90, 0.2) is None:
            raise RuntimeError(f"the registration of {path} was answered {answer}")
        self.registered[path] = checker.Target(types, when != "late, from now", asked, time.monotonic())

    def judge(self):
        """Looks again until nothing is wrong, as what came late has come, and what is lost may be said a minute later."""
        acknowledged = {one.number for one in self.senders.acknowledged}
        until(lambda: acknowledged <= {one.number for one in self.target.of("/all")}, 20, 0.1)

        def is_right():
            self.faults = self.look()
            return not self.faults

        until(is_right, self.options.patience, 1)

    def look(self):
        said, log = self.said(), self.log()
        if said is None or log is None:
            return ["mer did not answer what its log has"]
        self.histories = {
            path: checker.History(self.senders.sent, self.senders.acknowledged, self.target.of(path), target, said, log)
            for path, target in self.registered.items()
        }
        found = [f"{path}: {fault}" for path, history in self.histories.items() for fault in checker.faults(history)]
        ids = {id_ for id_, _ in log.values()}
        lost = [one for one in self.senders.acknowledged if one.id not in ids]
        self.lost = sum(said.is_excused(one) for one in lost), sum(not said.is_excused(one) for one in lost)
        return found

    def said(self):
        answer = self.stage.mers[0].ask("GET", "/v1/log")
        if not answer or answer[0] != 200:
            return None
        log = json.loads(answer[2])
        holes = tuple((one["from_sequence"], one["to_sequence"]) for one in log["holes"])
        return checker.Said(holes, tuple((one["epoch"], one["from_sequence"], on_our_clock(one["at"])) for one in log["epochs"]))

    def log(self):
        answer = self.stage.mers[0].ask("GET", "/v1/events", timeout=60, headers={"accept": "application/x-ndjson"})
        if not answer or answer[0] != 200:
            return None
        events = [json.loads(line) for line in answer[2].splitlines()]
        return {one["sequence"]: (one["id"], one["type"]) for one in events if one["type"] in TYPES}

    def cause(self, at):
        """What was done last."""
        return next((name for began, name, _ in reversed(self.done) if began <= at), "nothing")

    def cause_of_duplicate(self, before, again):
        """What was done first after it had come, or while it came; or what was done last, and had its effect later."""
        between = (name for began, name, ended in self.done if ended >= before.at and began <= again.at)
        return next(between, self.cause(again.at))

    def result(self, seconds):
        repeated, silence = collections.Counter(), (0.0, "")
        for path, history in self.histories.items():
            repeated.update(self.cause_of_duplicate(*both) for both in checker.duplicates(history.deliveries))
            longest, until_ = checker.longest_silence(history)
            silence = max(silence, (longest, f"{path}, {self.cause(until_)}"))
        senders, (said, unsaid) = self.senders, self.lost
        refusal = senders.longest_refusal() if senders else (0.0, 0.0)
        red = ([f"{said} acknowledged events are lost, and mer says so"] if said else []) + self.faults
        self.told += [
            ", ".join(name for _, name, _ in self.done),
            f"{len(senders.acknowledged) if senders else 0} acknowledged, {sum(repeated.values())} duplicates, "
            f"silence {silence[0]:.1f} s, no post accepted for {refusal[0]:.1f} s",
        ]
        return {
            "rounds": 1,
            "green": int(not red),
            "events": len(senders.sent) if senders else 0,
            "acknowledged": len(senders.acknowledged) if senders else 0,
            "lost_and_said": said,
            "lost_and_not_said": unsaid,
            "deliveries": sum(len(history.deliveries) for history in self.histories.values()),
            "faults": len(self.faults),
            "seconds": seconds,
            "what_was_done": collections.Counter(name for _, name, _ in self.done),
            "duplicates": repeated,
            "longest_silence": silence,
            "longest_refusal": (refusal[0], self.cause(refusal[1])),
            "red": red,
            "told": self.told,
        }

    def clear(self, result):
        kept = None
        if result["faults"] or self.options.keep or result["longest_silence"][0] >= SILENCE_TO_KEEP:
            kept = pathlib.Path(tempfile.mkdtemp(prefix="mer-campaign-logs-"))
            for log in self.work.rglob("*.log"):
                shutil.copy(log, kept)
            histories = {path: [one.__dict__ for one in history.deliveries] for path, history in self.histories.items()}
            acknowledged = [one.__dict__ for one in self.senders.acknowledged] if self.senders else []
            story = {"done": self.done, "acknowledged": acknowledged, "deliveries": histories, "faults": self.faults[:1000]}
            (kept / "history.json").write_text(json.dumps(story))
            result["told"].append(f"see {kept}")
        if self.in_memory:
            mounts.unmount(self.work)
        shutil.rmtree(self.work, ignore_errors=True)
