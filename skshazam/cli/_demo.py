"""skshazam demo: the whole job offline on synthetic tiles."""

from pathlib import Path
from statistics import mean, stdev

import click

__all__ = ["demo"]


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("skshazam-demo"),
    show_default=True,
    help="Folder for pictures and records.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of tiles, folds and students.",
)
def demo(out: Path, seed: int):
    """Run the whole job offline on SYNTHETIC tiles: no data, weights or network."""
    from tqdm import tqdm

    from skshazam.benchmark import run_demo
    from skshazam.benchmark._demo import count_steps
    from skshazam.exceptions import SkshazamError

    click.echo(
        "Synthetic H&E-like tiles, three handcrafted teachers, folds by patient.\n"
        "The numbers say that everything works, and nothing about real tissue."
    )
    try:
        with tqdm(total=count_steps(), unit="step") as bar:

            def on_step(step: str) -> None:
                bar.set_description(step)
                bar.update()

            result = run_demo(out, random_state=seed, on_step=on_step)
    except (SkshazamError, OSError) as error:
        raise click.ClickException(str(error)) from error
    click.echo(format_comparison(result))
    click.echo("\nWritten:")
    for file in result.files:
        click.echo(f"  {file}")


def format_comparison(result) -> str:
    """Return the table of a demo's methods.

    Parameters
    ----------
    result : DemoResult
        What the demo found.

    Returns
    -------
    text : str
        Mean, spread over folds and interval over patients of each method.
    """
    comparison, tiles = result.comparison, result.tiles
    scores = comparison.scores()
    n_folds = len(next(iter(scores.values())))
    lines = [
        "",
        f"SYNTHETIC data: {len(tiles.target)} tiles, {len(tiles.target_names)} "
        f"classes, {len(set(tiles.groups))} patients, {n_folds} folds; no patient in "
        "two folds.",
        "",
        f"{'balanced accuracy':<38}{'mean':>6}{'sd':>7}{'pooled':>9}   95 %",
    ]
    for method, values in scores.items():
        low, high = comparison.intervals[method]
        lines.append(
            f"{method:<38}{mean(values):>6.3f}{stdev(values):>7.3f}"
            f"{comparison.pooled[method]:>9.3f}   {low:.3f} to {high:.3f}"
        )
    lines += [
        "",
        "mean, sd: over folds. pooled: all out-of-fold predictions together, with its",
        "95 % bootstrap interval over patients.",
    ]
    return "\n".join(lines)
