#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Simulation: boots that are determined by a seed. docs/simulation.md.

run      boots seeds, prints a line with the digest of each
replay   boots a seed again, and stops in gdb at the first sign of failure
mutants  counts the seeds that it takes to find each mutant of qemu/mutants/

Exit codes: 0 all good, 1 a failure, 2 set-up or usage.
"""

import pathlib
import time

import mutants
from lib import base
from lib.base import QEMU, ROOT, SetupError
from lib.scenario import Scenario
from lib.sim import replay, search
from lib.sim.boot import Booter, can_take_over
from lib.sim.case import Case
from lib.splat import Detector


def _arguments():
    parser = base.parser(__doc__)
    parser.add_argument("verb", choices=("run", "replay", "mutants"))
    parser.add_argument("--seed", type=int, action="append", default=[], metavar="N", help="repeatable")
    parser.add_argument("--from", dest="first", type=int, metavar="N",
                        help="the first of --count seeds; a new one by default")
    parser.add_argument("--count", type=int, default=1, metavar="K", help="seeds, one after the other")
    parser.add_argument("--minutes", type=float, metavar="M",
                        help="start seeds for so long, instead of --count")
    parser.add_argument("--always", action="store_true",
                        help="start with the seeds of qemu/seeds.txt for this scenario")
    parser.add_argument("--engine", choices=("rfc", "lockless"),
                        help="instead of the engine that follows from the seed")
    parser.add_argument("--long", action="store_true",
                        help="runs of millions of objects, instead of ordinary ones")
    parser.add_argument("--jobs", type=int, default=1, metavar="N",
                        help="seeds at a time, each on a CPU of the host of its own")
    parser.add_argument("--mutant", action="append", default=[], metavar="NAME",
                        help="mutants: a glob; repeatable; otherwise all. replay: the one to replay")
    parser.add_argument("--starts", type=int, default=10, metavar="N",
                        help="mutants: searches for each, with other first seeds")
    parser.add_argument("--most", type=int, default=10, metavar="N",
                        help="mutants: maximum of seeds in a search")
    parser.add_argument("--make-arg", action="append", default=[], metavar="NAME=VALUE",
                        help="argument of the make that builds the modules of mutants; repeatable")
    parser.add_argument("--strip", default="llvm-strip", metavar="PROGRAM",
                        help="removes debug information from modules")
    parser.add_argument("--batch", action="store_true", help="replay: print backtraces, without interaction")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "sim", metavar="DIR")
    args = parser.parse_args()
    if len(args.scenario) != 1:
        parser.error("--scenario: one")
    return args


def _booter(args, scenario):
    """A Booter for this tree, or for a mutant of it, that is to be replayed."""
    if not args.mutant:
        return Booter(scenario, Detector.of_tree(), args.out, args.strip)
    found = mutants.load(args.mutant)
    if len(found) != 1 or found[0].host:
        raise SetupError(f"--mutant {' '.join(args.mutant)}: {len(found)} of qemu/mutants/, and one of the modules is "
                         "wanted")
    booter, why = search.Broken(args).booter(found[0], scenario, Detector.of_tree())
    if not booter:
        raise SetupError(why)
    return booter


def _seeds(args, scenario):
    """The seeds to run, and the first of more, or None."""
    seeds = list(args.seed)
    if args.always:
        seeds += search.always(QEMU / "seeds.txt", scenario.name)
    if args.seed and args.first is None and not args.minutes:
        return seeds, None
    # New ones, which were not tried before.
    first = args.first if args.first is not None else int(time.time()) % 1_000_000_000
    return seeds, first


def _work(args):
    args.out = args.out.resolve()
    scenario = Scenario(args.scenario[-1])

    def case(seed):
        return Case(seed, args.engine, scenario.slow, args.long, can_take_over(scenario))

    if args.verb == "mutants":
        return search.run_mutants(args, scenario, Detector.of_tree(), case)
    if args.verb == "replay":
        if len(args.seed) != 1:
            raise SetupError("name the seed: make replay SEED=N")
        return replay.run(_booter(args, scenario), case(args.seed[0]), args.batch)
    booter = Booter(scenario, Detector.of_tree(), args.out, args.strip)
    seeds, first = _seeds(args, scenario)
    end = time.monotonic() + 60 * args.minutes if args.minutes else None
    if first is not None:
        seeds = search.onward(seeds, first, args.count, end)
    return search.run(booter, case, seeds, args.jobs)


if __name__ == "__main__":
    base.main(_work, _arguments())
