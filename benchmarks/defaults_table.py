"""The records of ``benchmarks/defaults.py`` as Markdown.

Run by hand: ``python benchmarks/defaults_table.py FILE``. Intervals resample test
slides (tiles, where there are none) and know nothing of seeds.
"""

import argparse
from collections import defaultdict

import numpy as np
from defaults import OURS, read_records
from scipy.stats import rankdata
from sklearn.metrics import recall_score

N_BOOTSTRAP = 2000


def balanced_accuracy(records: list[dict]) -> float:
    """Return balanced accuracy of all runs' predictions taken together.

    A fold may hold a single tile of some class, which by itself would be a seventh of
    its score.
    """
    truth = pooled(records, "truth")
    return recall_score(
        truth, pooled(records, "predicted"), labels=np.unique(truth), average="macro"
    )


def pooled(records: list[dict], part: str) -> np.ndarray:
    """Return one column of several records."""
    return np.concatenate([record[part] for record in records])


def resampled(records: list[dict], weights: np.ndarray) -> np.ndarray:
    """Return balanced accuracies (n_bootstrap,) of one method in one cell.

    ``weights`` says how often each unit (a slide, else a tile) was drawn.
    """
    truth = pooled(records, "truth")
    one_hot = (truth[:, None] == np.unique(truth)).astype(float)
    correct = one_hot * (truth == pooled(records, "predicted"))[:, None]
    of_rows = weights[:, pooled(records, "units")]
    with np.errstate(invalid="ignore"):  # a draw may hold none of a class
        return np.nanmean(of_rows @ correct / (of_rows @ one_hot), axis=1)


def table(arguments) -> None:
    """Print scores by cell, mean ranks and paired differences as Markdown."""
    cells: dict = defaultdict(lambda: defaultdict(list))
    for record in read_records(arguments.records):
        if record["seed"] >= arguments.seeds:
            continue
        cells[record["set"], record["size"]][record["method"]].append(record)
    n_runs = max(len(runs) for cell in cells.values() for runs in cell.values())
    methods = [
        method
        for method in next(iter(cells.values()))
        if all(len(cell[method]) == len(cell[OURS]) for cell in cells.values())
    ]
    left_out = set().union(*cells.values()) - set(methods)
    print(f"left out, because they lack some runs: {sorted(left_out)}\n")
    scores, draws = [], []
    for cell in cells.values():
        n_units = 1 + max(max(r["units"]) for runs in cell.values() for r in runs)
        rng = np.random.default_rng(0)
        weights = rng.multinomial(
            n_units, np.full(n_units, 1 / n_units), size=N_BOOTSTRAP
        ).astype(float)
        scores.append([balanced_accuracy(cell[m]) for m in methods])
        draws.append([resampled(cell[m], weights) for m in methods])
    scores, draws = np.array(scores), np.array(draws)  # cells x methods (x draws)
    print_scores(list(cells), methods, scores, n_runs)
    print_differences(methods, scores, draws)
    print_worst(list(cells), methods, scores, draws)
    print_seconds(cells, methods)


def print_scores(cells, methods, scores, n_runs) -> None:
    """Print balanced accuracy by cell and the mean rank."""
    ranks = np.array([rankdata(-row) for row in scores])
    names = [f"{name}, {size or 'all'}" for name, size in cells]
    print(f"balanced accuracy of up to {n_runs} runs together\n")
    print("| | " + " | ".join([*names, "mean", "mean rank"]) + " |")
    print("|---" * (len(cells) + 3) + "|")
    for column in np.argsort(ranks.mean(axis=0)):
        row = [f"{value:.3f}" for value in scores[:, column]]
        row += [f"{scores[:, column].mean():.3f}", f"{ranks[:, column].mean():.2f}"]
        print(f"| {methods[column]} | " + " | ".join(row) + " |")


def print_differences(methods, scores, draws) -> None:
    """Print the mean difference of every rival to ours, with its interval."""
    ours = methods.index(OURS)
    print(f"\n{OURS} minus the rival, points, mean over cells (95 % interval)\n")
    print("| rival | difference | cells won |\n|---|---|---|")
    for column, method in enumerate(methods):
        if column == ours:
            continue
        gaps = 100 * (scores[:, ours] - scores[:, column])
        low, high = np.nanpercentile(
            100 * np.nanmean(draws[:, ours] - draws[:, column], axis=0), [2.5, 97.5]
        )
        won = f"{(gaps > 0).sum()} of {len(gaps)}"
        print(f"| {method} | {gaps.mean():+.1f} ({low:+.1f} to {high:+.1f}) | {won} |")


def print_worst(cells, methods, scores, draws) -> None:
    """Print every cell's difference to its best rival."""
    ours = methods.index(OURS)
    print("\nagainst the best rival of each cell, points (95 % interval)\n")
    print("| cell | best rival | difference |\n|---|---|---|")
    for index, (name, size) in enumerate(cells):
        others = [c for c in range(len(methods)) if c != ours]
        best = max(others, key=lambda c: scores[index, c])
        gap = 100 * (scores[index, ours] - scores[index, best])
        low, high = np.nanpercentile(
            100 * (draws[index, ours] - draws[index, best]), [2.5, 97.5]
        )
        cell = f"{name}, {size or 'all'}"
        print(f"| {cell} | {methods[best]} | {gap:+.1f} ({low:+.1f} to {high:+.1f}) |")


def print_seconds(cells, methods) -> None:
    """Print the median time of a fit."""
    print("\n| | median seconds of a fit |\n|---|---|")
    for method in methods:
        seconds = [r["seconds"] for cell in cells.values() for r in cell[method]]
        print(f"| {method} | {np.median(seconds):.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("records")
    parser.add_argument("--seeds", default=5, type=int)
    table(parser.parse_args())
