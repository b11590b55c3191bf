"""What must be true of a history: what was acknowledged is delivered, in order, unchanged, and nothing else is; and what the
log has lost is said. It knows nothing of mer's code: it looks at what senders and targets saw, and at what mer says of its log.

A history is of one target. `test_checker.py` shows that each kind of fault is seen, on the histories of `histories.json`.
"""

import bisect
import dataclasses
import typing


@dataclasses.dataclass(frozen=True)
class Sent:
    """An event that was posted, acknowledged or not. `body` stands for its data."""

    type: str = "t"
    body: str = ""


@dataclasses.dataclass(frozen=True)
class Acknowledged:
    """A 2xx for an event; times in seconds, of when its post began and when it was answered."""

    sequence: int
    number: int
    id: str = ""
    epoch: str = ""
    began: float = 0.0
    at: float = 0.0


@dataclasses.dataclass(frozen=True)
class Delivery:
    """A request that the target took (it answered 2xx)."""

    sequence: int
    previous: int
    number: int
    type: str = "t"
    id: str = ""
    epoch: str = ""
    body: str = ""
    at: float = 0.0


@dataclasses.dataclass(frozen=True)
class Target:
    """What the target asked for, and when; a registration is not in force before `registered_at`."""

    types: tuple = (">",)
    from_beginning: bool = True
    asked_at: float = 0.0
    registered_at: float = 0.0
    # How many duplicates are fine, and how long an acknowledged event may take. None: any.
    duplicates_allowed: typing.Optional[int] = None
    patience: typing.Optional[float] = None

    def wants(self, type_):
        return any(matches(pattern, type_) for pattern in self.types)

    def is_owed(self, acknowledged):
        return self.from_beginning or acknowledged.began >= self.registered_at

    def must_not_get(self, acknowledged):
        return not self.from_beginning and acknowledged.at < self.asked_at


@dataclasses.dataclass(frozen=True)
class Said:
    """What mer says of its log: holes as (first, last), and epochs as (name, first sequence, since when), the oldest first."""

    holes: tuple = ()
    epochs: tuple = ()

    def is_hole(self, sequence):
        return any(first <= sequence <= last for first, last in self.holes)

    def is_of_another_log(self, epoch, sequence, at=None):
        """A later epoch begins at or before this sequence: what was there is said to be lost, or to be another event. Where no
        epoch is named, a later one is one that was declared after `at`."""
        names = [name for name, _, _ in self.epochs]
        if epoch in names:
            later = self.epochs[names.index(epoch) + 1 :]
        else:
            later = [one for one in self.epochs[1:] if at is not None and at < one[2]]
        return any(first <= sequence for _, first, _ in later)

    def is_excused(self, acknowledged):
        one = acknowledged
        return self.is_hole(one.sequence) or self.is_of_another_log(one.epoch, one.sequence, one.began)


@dataclasses.dataclass(frozen=True)
class History:
    sent: dict
    acknowledged: list
    deliveries: list
    target: Target = Target()
    said: Said = Said()
    # The id and the type of each event that is in the log at the end, by sequence. None: nobody looked.
    log: typing.Optional[dict] = None


def matches(pattern, type_):
    """Whether a pattern of NATS (`*`: one token, `>`: the rest) names this type."""
    wanted, given = pattern.split("."), type_.split(".")
    for at, token in enumerate(wanted):
        if token == ">":
            return len(given) > at
        if at >= len(given) or token not in ("*", given[at]):
            return False
    return len(wanted) == len(given)


def faults(history):
    """The faults of one target's history, in words."""
    delivered, found = in_order(history)
    found += of_acknowledgements(history.acknowledged, history.said)
    found += each_as_sent(history)
    found += all_came(history, delivered)
    found += of_log(history, delivered)
    allowed, repeated = history.target.duplicates_allowed, len(duplicates(history.deliveries))
    if allowed is not None and repeated > allowed:
        found.append(f"{repeated} duplicates came, and {allowed} are allowed")
    return found


def in_order(history):
    """What came by sequence, and the faults of its order."""
    found, came = [], {}
    last, epoch, starts = 0, None, {name: first for name, first, _ in history.said.epochs}
    for one in history.deliveries:
        if starts and one.epoch not in starts:
            found.append(f"sequence {one.sequence} names epoch {one.epoch}, which the log never had")
        if one.epoch != epoch and epoch is not None and one.epoch in starts:
            # Another log from there: the target goes back to the fork.
            last = min(last, starts[one.epoch] - 1)
        epoch = one.epoch
        before = came.get(one.sequence)
        if before and (before.id, before.number) == (one.id, one.number):
            last = max(last, one.sequence)
            continue
        if before and not history.said.is_of_another_log(before.epoch, one.sequence):
            found.append(f"sequence {one.sequence} came with {before.number} ({before.id}) and with {one.number} ({one.id})")
            continue
        if one.sequence < last:
            found.append(f"sequence {one.sequence} came first after {last}")
        if one.previous not in (last, 0) and one.previous not in came:
            found.append(f"sequence {one.sequence} names {one.previous} before it, which never came")
        elif one.previous < last < one.sequence:
            found.append(f"sequence {one.sequence} names {one.previous} before it, and {last} was")
        elif one.previous >= one.sequence:
            found.append(f"sequence {one.sequence} names {one.previous} before it, which is not before it")
        came[one.sequence] = one
        last = max(last, one.sequence)
    return came, found


def of_acknowledgements(acknowledged, said=Said()):
    """One event has one place, one place has one event, and what was posted later has a later one."""
    found, by_sequence, by_number = [], {}, {}
    kept = [one for one in acknowledged if not said.is_excused(one)]
    for one in kept:
        other = by_sequence.setdefault(one.sequence, one)
        if other.number != one.number:
            found.append(f"sequence {one.sequence} was acknowledged for {other.number} and for {one.number}")
        other = by_number.setdefault(one.number, one)
        if other.sequence != one.sequence:
            found.append(f"{one.number} was acknowledged at {other.sequence} and at {one.sequence}")
    ended = sorted(kept, key=lambda one: one.at)
    times, highest, top = [one.at for one in ended], [], 0
    for one in ended:
        top = max(top, one.sequence)
        highest.append(top)
    for one in kept:
        before = bisect.bisect_left(times, one.began)
        if before and highest[before - 1] > one.sequence:
            found.append(f"sequence {one.sequence} was given after {highest[before - 1]} had been acknowledged")
    return found


def each_as_sent(history):
    """Everything that came is what somebody sent, is wanted, and is what was acknowledged."""
    found, by_number = [], {one.number: one for one in history.acknowledged}
    places = {}
    for one in history.deliveries:
        sent, acknowledged = history.sent.get(one.number), by_number.get(one.number)
        if sent is None:
            found.append(f"sequence {one.sequence} holds {one.number}, which nobody sent")
            continue
        if one.type != sent.type:
            found.append(f"sequence {one.sequence} came as {one.type}, and was sent as {sent.type}")
        if not history.target.wants(one.type):
            found.append(f"sequence {one.sequence} is of type {one.type}, which the target did not ask for")
        if one.body != sent.body:
            found.append(f"sequence {one.sequence} came with another body than was sent")
        if acknowledged and acknowledged.id != one.id:
            found.append(f"sequence {one.sequence} came with id {one.id}, and was acknowledged with {acknowledged.id}")
        if acknowledged and history.target.must_not_get(acknowledged) and not history.said.is_excused(acknowledged):
            found.append(f"sequence {one.sequence} came, and had been acknowledged before the registration")
        other = places.setdefault(one.number, one)
        if other.sequence != one.sequence and not history.said.is_of_another_log(other.epoch, other.sequence):
            found.append(f"{one.number} came at {other.sequence} and at {one.sequence}")
    return found


def all_came(history, delivered):
    """What was acknowledged and is owed has come, unless its loss is said."""
    found = []
    for one in history.acknowledged:
        sent = history.sent[one.number]
        if not history.target.is_owed(one) or not history.target.wants(sent.type) or history.said.is_excused(one):
            continue
        came = delivered.get(one.sequence)
        if came is None:
            found.append(f"sequence {one.sequence} was acknowledged and did not come")
        elif came.number != one.number:
            found.append(f"sequence {one.sequence} was acknowledged for {one.number} and came with {came.number}")
        elif history.target.patience is not None and came.at - one.at > history.target.patience:
            found.append(f"sequence {one.sequence} came {came.at - one.at:.0f} s after it was acknowledged")
    return found


def of_log(history, delivered):
    """The log has no hole that is not said; what is in it came, and what came is in it."""
    if history.log is None:
        return []
    found, said = [], history.said
    sequences = sorted(history.log)
    for before, after in zip(sequences, sequences[1:]):
        unsaid = [one for one in range(before + 1, after) if not said.is_hole(one)]
        if unsaid:
            found.append(f"the log has no {unsaid[0]} to {unsaid[-1]}, and nobody says so")
    ids = {sequence: id_ for sequence, (id_, _) in history.log.items()}
    for one in history.acknowledged:
        if ids.get(one.sequence) != one.id and not said.is_excused(one):
            found.append(f"sequence {one.sequence} was acknowledged and is not in the log")
    for sequence, one in delivered.items():
        if ids.get(sequence) != one.id and not said.is_hole(sequence):
            if not said.is_of_another_log(one.epoch, sequence):
                found.append(f"sequence {sequence} came and is not in the log")
    if history.target.from_beginning:
        came = {one.id for one in history.deliveries}
        for sequence, (id_, type_) in sorted(history.log.items()):
            if id_ not in came and history.target.wants(type_):
                found.append(f"sequence {sequence} is in the log and did not come")
    return found


def duplicates(deliveries):
    """The deliveries of what had come before: (the one before, the one again)."""
    seen, repeated = {}, []
    for one in deliveries:
        before = seen.get((one.sequence, one.id))
        if before:
            repeated.append((before, one))
        seen[one.sequence, one.id] = one
    return repeated


def longest_silence(history):
    """The longest time in which something acknowledged and owed had not come, and nothing else came either; and its end."""
    acknowledged = {(one.sequence, one.number): one.at for one in history.acknowledged}
    longest, last, seen = (0.0, 0.0), 0.0, set()
    for one in sorted(history.deliveries, key=lambda one: one.at):
        known = acknowledged.get((one.sequence, one.number))
        if known is not None and one.sequence not in seen:
            longest = max(longest, (one.at - max(last, known, history.target.registered_at), one.at))
        seen.add(one.sequence)
        last = one.at
    return longest
