"""Run mutants, and write what became of each into results.json as it is known, and docs/mutants.md in the end.

    python -m tests.mutants                    # all of them, some 10 minutes on two cores
    python -m tests.mutants --missing          # those that have no result yet: goes on after an interrupt
    python -m tests.mutants --only 'gelu-*'    # some, by name
    python -m tests.mutants --sample           # a few, as the tests do; nothing is written

Exit status 1 where a mutant survives, or where its tests fail without it.
"""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from . import page
from .listing import RESULTS, ROOT, Mutant, is_known, load, load_results, sample, save_results
from .trial import LIMIT_SECONDS, NOTICED, Verdict, judge, not_green, running


def result_of(mutant: Mutant, verdict: Verdict) -> dict[str, object]:
    """A mutant's entry of the results."""
    return {
        "digest": mutant.digest,
        **asdict(verdict),
        "date": datetime.date.today().isoformat(),
        "version": library_version(),
        "python": platform.python_version(),
        "numba": version("numba"),
    }


def library_version() -> str:
    """That of the checkout, which need not be the installed one."""
    import tomllib

    with (ROOT / "pyproject.toml").open("rb") as file:
        return str(tomllib.load(file)["project"]["version"])


def chosen(arguments: argparse.Namespace, mutants: list[Mutant]) -> list[Mutant]:
    """The mutants that are asked for."""
    results = load_results(arguments.results)
    if arguments.sample:
        return sample(mutants, results, datetime.date.today().toordinal())
    if arguments.only:
        for pattern in arguments.only:
            if not fnmatch.filter([mutant.name for mutant in mutants], pattern):
                sys.exit(f"no mutant is named {pattern!r}; --list shows all")
        mutants = [m for m in mutants if any(fnmatch.fnmatch(m.name, pattern) for pattern in arguments.only)]
    return [m for m in mutants if not (arguments.missing and is_known(m, results))]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="those of these names; * stands for anything")
    parser.add_argument("--missing", action="store_true", help="those that have no result as they stand")
    parser.add_argument("--sample", action="store_true", help="a few, other ones each day; writes no results")
    parser.add_argument("--list", action="store_true", help="print the names and run nothing")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at a time (default: all cores)")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds for each (default: %(default)g)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where results are kept")
    arguments = parser.parse_args()
    everybody = load()
    mutants = chosen(arguments, everybody)
    if arguments.list:
        print(*(f"{mutant.name}: {mutant.says}" for mutant in mutants), sep="\n")
        return 0
    if not mutants:
        print("nothing to run")
        return 0

    print(f"{len(mutants)} mutants; first their tests, with nothing broken ...", flush=True)
    bad = not_green(test for mutant in mutants for test in mutant.tests)
    for test, why in bad.items():
        print(red(f"not green without any mutant: {test}: {why}"))
    mutants = [mutant for mutant in mutants if not set(mutant.tests) & set(bad)]
    results, began, lost = load_results(arguments.results), time.monotonic(), len(bad)
    with ThreadPoolExecutor(max(1, arguments.jobs)) as pool:
        trials = {pool.submit(judge, mutant, limit=arguments.limit): mutant for mutant in mutants}
        try:
            for done, trial in enumerate(as_completed(trials), 1):
                mutant, verdict = trials[trial], trial.result()
                results[mutant.name] = result_of(mutant, verdict)
                if not arguments.sample:
                    save_results(results, everybody, arguments.results)
                lost += verdict.outcome not in NOTICED
                left = (time.monotonic() - began) / done * (len(mutants) - done)
                print(line(mutant, verdict, f"{done}/{len(mutants)}", left), flush=True)
        except KeyboardInterrupt:
            running.end_all()
            pool.shutdown(cancel_futures=True)
            raise
    if not arguments.sample and arguments.results == RESULTS:
        page.write()
    print(red(f"{lost} not noticed") if lost else f"all {len(mutants)} noticed")
    return int(lost > 0)


def line(mutant: Mutant, verdict: Verdict, place: str, left: float) -> str:
    """What is printed of a mutant."""
    noticed = verdict.outcome in NOTICED
    text = f"[{place}] {mutant.name}: {verdict.outcome}, {verdict.seconds:.1f} s"
    by = f"  {verdict.test or ', '.join(mutant.tests)}: {verdict.error}"
    ending = f"  ({left / 60:.0f} min left)" if left > 90 else f"  ({left:.0f} s left)" if left else ""
    return (text if noticed else red(text)) + ending + "\n" + by


def red(text: str) -> str:
    return f"\033[31m{text}\033[0m" if sys.stdout.isatty() else text


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted; --missing goes on from here")
        sys.exit(130)
