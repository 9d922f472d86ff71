"""``maquette eval``."""

from __future__ import annotations

from pathlib import Path

import click

from maquette.errors import MaquetteError


@click.command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", "shards", required=True, metavar="SHARDS", help="A shard folder with held-out shapes.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write; by default RUN/evaluation.")
@click.option("--against", multiple=True, type=click.Path(path_type=Path), metavar="RUN", help="Compare; repeatable.")
@click.option("--limit", type=click.IntRange(min=2), default=200, show_default=True, help="Shapes or captions a split.")
@click.option("--seed", default=0, show_default=True, help="Of the first sample; the next have the next.")
@click.option("--captions", type=click.Path(path_type=Path), metavar="FILE", help="Ask for these, one a line.")
@click.option("--images", is_flag=True, help="Ask with the shards' pictures in the place of captions.")
@click.option(
    "--together", type=click.IntRange(min=1), default=1, show_default=True, help="Pictures asked with at once."
)
@click.option("--shapes", is_flag=True, help="Ask with the shards' shapes, as meshes, in the place of captions.")
@click.option("--split", "splits", multiple=True, metavar="NAME", help="Of the held-out splits; repeatable. [all]")
def evaluate(  # noqa: PLR0917 (click passes options by name)
    run: Path,
    shards: str,
    out: Path | None,
    against: tuple[Path, ...],
    limit: int,
    seed: int,
    captions: Path | None,
    images: bool,
    together: int,
    shapes: bool,
    splits: tuple[str, ...],
) -> None:
    """Measure RUN on held-out shapes: metrics.json, report.html and a picture of what it makes.

    A generator is measured by samples of held-out captions, one by one, all together and as meshes; an autoencoder by
    its reconstructions. Each figure stands beside what it is to be read against. The same call gives the same figures.
    """
    from maquette.report import Picture, Report, write_figures, write_report
    from maquette_models.evaluation.comparison import compared, write_comparison
    from maquette_models.evaluation.conditional import Judges
    from maquette_models.evaluation.pictures import contact_sheet
    from maquette_models.evaluation.run_evaluation import Settings, evaluate_run

    settings = Settings(limit, seed, captions, together if images else 0, shapes, splits)
    names = [path.resolve().name if len(against) == 0 else str(path) for path in (run, *against)]
    if len(set(names)) < len(names):
        raise MaquetteError("eval: a run is compared with itself; name each run once")
    judges = Judges(shards)
    found = {name: evaluate_run(path, judges, settings) for name, path in zip(names, (run, *against), strict=True)}
    own, folder = found[names[0]], out or run / "evaluation"
    write_figures(folder / "metrics.json", own.figures)
    tables, pictures = list(own.tables), []
    if own.tiles:
        pictures.append(Picture(contact_sheet(own.tiles, folder / "samples.png"), "What the run makes"))
    if against:
        figures = {name: one.figures for name, one in found.items()}
        write_comparison(folder / "comparison.json", figures)
        tables = [*compared(figures), *tables]
    summary = f"{run} on {shards}, at most {limit} a split, seed {seed}"
    report = Report(f"maquette: evaluation of {names[0]}", summary, pictures, own.figures, tables=tables)
    write_report(folder / "report.html", report)
    for group, members in own.figures.items():
        for name, figure in members.items():
            click.echo(f"{group:28} {name:36} {figure.value:10.4f}  n {figure.n}")
    click.echo(f"figures: {folder / 'metrics.json'}\nreport:  {folder / 'report.html'}")
