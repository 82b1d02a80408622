#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Simulation: boots that are a function of their seed. docs/simulation.md.

run      boots seeds, prints a line with the digest of each
replay   boots a seed that failed again, and stops in gdb at its first bad sign
mutants  how many seeds it takes to find each of the faults of qemu/mutants/

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
                        help="the first of --count seeds; otherwise a fresh one")
    parser.add_argument("--count", type=int, default=1, metavar="K", help="seeds, one after the other")
    parser.add_argument("--minutes", type=float, metavar="M",
                        help="seeds until so much time is over, instead of --count")
    parser.add_argument("--always", action="store_true",
                        help="before all others the seeds of qemu/seeds.txt for this scenario")
    parser.add_argument("--engine", choices=("rfc", "lockless"),
                        help="instead of what follows from the seed")
    parser.add_argument("--long", action="store_true",
                        help="runs of millions of objects, instead of the usual ones")
    parser.add_argument("--jobs", type=int, default=1, metavar="N",
                        help="seeds side by side, each on a CPU of the host's of its own")
    parser.add_argument("--mutant", action="append", default=[], metavar="NAME",
                        help="mutants: a glob; repeatable; otherwise all. replay: the one to replay")
    parser.add_argument("--starts", type=int, default=10, metavar="N",
                        help="mutants: searches for each, which start at other seeds")
    parser.add_argument("--most", type=int, default=10, metavar="N",
                        help="mutants: seeds of a search that finds nothing")
    parser.add_argument("--make-arg", action="append", default=[], metavar="NAME=VALUE",
                        help="for the make that builds the modules of mutants; repeatable")
    parser.add_argument("--strip", default="llvm-strip", metavar="PROGRAM",
                        help="takes what only debuggers read out of modules")
    parser.add_argument("--batch", action="store_true", help="replay: print, and ask for nothing")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "out" / "sim", metavar="DIR")
    args = parser.parse_args()
    if len(args.scenario) != 1:
        parser.error("--scenario: one")
    return args


def _booter(args, scenario):
    """For what is to be replayed: this tree, or a mutant of it."""
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
    """Those to run, and the first of more, or None."""
    seeds = list(args.seed)
    if args.always:
        seeds += search.always(QEMU / "seeds.txt", scenario.name)
    if args.seed and args.first is None and not args.minutes:
        return seeds, None
    # Fresh ones, not tried before.
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
