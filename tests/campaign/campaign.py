"""The campaigns by name. A campaign is a module with `HELP`, `arguments(parser)` and `main(options)`, which answers whether
every round passed; add its name to CAMPAIGNS."""

import argparse
import importlib
import random
import signal
import sys

import mounts

CAMPAIGNS = ["disk", "one", "power", "dispatchers", "cluster", "cluster-power", "repeats", "always-cost"]


def main():
    parser = argparse.ArgumentParser(prog="tests/campaign/run", description=__doc__.split(".")[0])
    parsers = parser.add_subparsers(dest="campaign", required=True)
    for name in CAMPAIGNS:
        module = importlib.import_module(name.replace("-", "_"))
        one = parsers.add_parser(name, help=module.HELP, description=module.HELP)
        one.add_argument("--rounds", type=int, default=6, help="how many rounds (default: %(default)s)")
        one.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="of what is random (default: any)")
        module.arguments(one)
        one.set_defaults(run=module.main)
    options = parser.parse_args()
    # Ended from outside, a campaign ends its processes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # A campaign may start itself again, elsewhere, and then with the same seed.
    sys.argv += ["--seed", str(options.seed)]
    if not mounts.is_inside():
        print(f"campaign {options.campaign}: {options.rounds} rounds, seed {options.seed}", flush=True)
    sys.exit(0 if options.run(options) else 1)


if __name__ == "__main__":
    main()
