"""What must be true of a history: what was acknowledged is delivered, once in order, and nothing else is."""


def faults(acknowledged, sent, deliveries):
    """The faults of one target's history, in words.

    acknowledged: the number in the event's data by its sequence. sent: the numbers of all events that were sent.
    deliveries: (sequence, previous sequence, number) in the order of arrival, only of those that the target took.
    """
    found = []
    first, last, numbers = [], 0, {}
    for sequence, previous, number in deliveries:
        if number not in sent:
            found.append(f"sequence {sequence} holds {number}, which nobody sent")
        if sequence in numbers:
            if numbers[sequence] != number:
                found.append(f"sequence {sequence} came with {numbers[sequence]} and with {number}")
            continue
        numbers[sequence] = number
        if sequence < last:
            found.append(f"sequence {sequence} came first after {last}")
        if previous not in (last, 0) and previous not in numbers:
            found.append(f"sequence {sequence} names {previous} before it, which never came")
        elif previous < last < sequence:
            found.append(f"sequence {sequence} names {previous} before it, and {last} was")
        first.append(sequence)
        last = max(last, sequence)
    for sequence, number in acknowledged.items():
        if sequence not in numbers:
            found.append(f"sequence {sequence} was acknowledged and did not come")
        elif numbers[sequence] != number:
            found.append(f"sequence {sequence} was acknowledged for {number} and came with {numbers[sequence]}")
    return found


def of_acknowledgements(pairs):
    """The acknowledged number by sequence, and the faults of the acknowledgements themselves."""
    by_sequence, found = {}, []
    for sequence, number in pairs:
        if by_sequence.setdefault(sequence, number) != number:
            found.append(f"sequence {sequence} was acknowledged for {by_sequence[sequence]} and for {number}")
    return by_sequence, found


def duplicates(deliveries):
    """How many deliveries were of what had come before."""
    return len(deliveries) - len({sequence for sequence, _, _ in deliveries})


def _looks_at_itself():
    """The checker is red on doctored histories: a campaign that cannot fail shows nothing."""
    good = ({1: 10, 2: 11, 3: 12}, {10, 11, 12}, [(1, 0, 10), (2, 1, 11), (2, 1, 11), (3, 2, 12)])
    assert not faults(*good), faults(*good)
    acknowledged, sent, came = good
    doctored = {
        "lost": (acknowledged, sent, [(1, 0, 10), (2, 1, 11)]),
        "swapped": (acknowledged, sent, [(1, 0, 10), (3, 1, 12), (2, 1, 11)]),
        "phantom": (acknowledged, sent, [*came, (4, 3, 99)]),
        "another in its place": (acknowledged, sent, [(1, 0, 10), (2, 1, 12), (3, 2, 12)]),
        "two in one place": (acknowledged, sent, [*came, (3, 2, 11)]),
        "a previous one that never came": ({1: 10, 3: 12}, sent, [(1, 0, 10), (3, 2, 12)]),
        "a previous one that leaves one out": (acknowledged, sent, [(1, 0, 10), (2, 1, 11), (3, 1, 12)]),
    }
    for name, history in doctored.items():
        assert faults(*history), f"the checker does not see: {name}"
    assert of_acknowledgements([(1, 10), (1, 11)])[1], "the checker does not see two acknowledgements of one sequence"


_looks_at_itself()
