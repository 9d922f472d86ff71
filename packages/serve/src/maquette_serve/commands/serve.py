"""``maquette serve``: trained runs in, a service out; and ``maquette keys``, who may use it."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from omegaconf import MISSING

from maquette import plugins
from maquette.assets import find_generator
from maquette.errors import MaquetteError
from maquette.progress import say
from maquette.secrets import ScrubbingFilter
from maquette_serve.engine.engine_setup import EngineSetup, Opened
from maquette_serve.service.keys import SCOPES

if TYPE_CHECKING:
    from maquette_serve.service.ray_replicas import RayReplicas

_LOGS = ("maquette.service", "maquette.engine", "uvicorn.error", "uvicorn.access")
DATA = click.option(
    "--data",
    "folder",
    default=Path("service"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="The folder of the database and the files.",
)
DATABASE = click.option(
    "--database", default="", metavar="URL", help="A PostgreSQL database instead of SQLite in --data."
)


@click.command()
@click.argument("runs", nargs=-1, metavar="[NAME=]RUN[,key=value ...] ...")
@DATA
@DATABASE
@click.option(
    "--files",
    "object_store",
    default="",
    metavar="URL",
    help="An object store for files of several servers, as fsspec names it: s3://bucket/folder.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Anything but this machine's own needs API keys.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@click.option("--device", default="", metavar="DEVICE", help="Of models: cpu or cuda:N; default: GPUs, shared out.")
@click.option("--replicas", default=1, show_default=True, type=click.IntRange(1), help="Engines, each in its process.")
@click.option(
    "--ray",
    "cluster",
    default="",
    metavar="CLUSTER[,key=value ...]",
    help="Engines as replicas of Ray Serve: 'local' or a cluster's address; keys: least, most, busy, cpus, gpus.",
)
@click.option(
    "--split", default=1, show_default=True, type=click.IntRange(1), help="Processes that share each engine's passes."
)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(0), help="Of each engine; 0: one a core.")
@click.option("--workers", default=0, type=click.IntRange(0), help="Processes for meshes and files; 0: one a core.")
@click.option("--weights", default="", metavar="KIND", help="Store weights as bf16, int8 or fp8: less memory.")
@click.option("--compile", is_flag=True, help="Compile the runs' models: a slower start, faster passes.")
@click.option("--adapters", type=click.Path(path_type=Path), help="A folder of adapters that requests may name.")
@click.option("--memory", default=0.0, type=click.FloatRange(0), help="GiB that passes may take; 0: what is free.")
@click.option("--rows", default=16, show_default=True, type=click.IntRange(1), help="The most rows of a forward pass.")
@click.option("--plugin", "plugin_files", multiple=True, help="A loose plugin file for the engines.")
@click.option("--only", multiple=True, metavar="NAME", help="Of pipelines that need no run, these; default: all.")
@click.option(
    "--role", "roles", multiple=True, metavar="ROLE=NAME", help="Who plays text, image, texture, rig, ... at /openapi."
)
def serve(  # noqa: PLR0917 - click passes by name
    runs: tuple[str, ...],
    folder: Path,
    database: str,
    object_store: str,
    host: str,
    port: int,
    device: str,
    replicas: int,
    cluster: str,
    split: int,
    threads: int,
    workers: int,
    weights: str,
    compile: bool,
    adapters: Path | None,
    memory: float,
    rows: int,
    plugin_files: tuple[str, ...],
    only: tuple[str, ...],
    roles: tuple[str, ...],
) -> None:
    """Serve trained RUNs, and all that needs none, by HTTP. A run is asked for by its folder's name or by NAME."""
    import uvicorn

    from maquette_serve.service.app import create_app
    from maquette_serve.service.connections import MOST, PatientConnection
    from maquette_serve.service.roles import read_roles
    from maquette_serve.service.service import Service, Settings
    from maquette_serve.service.tracing import export_as_configured

    export_as_configured()
    for name in _LOGS:
        logging.getLogger(name).addFilter(ScrubbingFilter())
    plugins.load_files(list(plugin_files))
    pipelines = {**without_run(plugin_files, only), **opened_runs(runs)}
    limits = {"rows": rows, "threads": threads, "workers": workers, "memory": memory, "measure": True, "split": split}
    prepared = {"device": device, "weights": weights, "compile": compile, "adapters": adapters}
    setup = EngineSetup(pipelines, plugin_files, **limits, **prepared)
    engines = on_ray(setup, cluster, replicas) if cluster else None
    alone = is_loopback(host)
    unguarded = alone and not has_keys(folder, database)
    most = replicas if engines is None else engines.cluster.most
    settings = Settings(setup, folder, database, object_store, most, roles=read_roles(roles), open=unguarded)
    service = Service(settings, engines)
    if not alone and not service.keys.all():
        where = "--database URL" if database else f"--data {folder}"  # the URL may have a password
        raise MaquetteError(f"'{host}' can be reached by others; make a key first: maquette keys create NAME {where}")
    say(f"serving {', '.join(pipelines)} at http://{host}:{port}")
    guards = {"http": PatientConnection, "limit_concurrency": MOST, "timeout_graceful_shutdown": 5}
    server = uvicorn.Server(uvicorn.Config(create_app(service), host, port, log_level="warning", **guards))
    service.stop = partial(setattr, server, "should_exit", True)
    server.run()
    if service.failure:
        raise MaquetteError(service.failure)


@click.group()
def keys() -> None:
    """API keys of a service: made, listed and revoked, also while it runs."""


@keys.command("create")
@click.argument("name")
@DATA
@DATABASE
@click.option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), help="Default: all.")
@click.option("--rate", default=20.0, show_default=True, help="Requests a second.")
@click.option("--queue", default=100, show_default=True, help="Tasks that are not over.")
def create(  # noqa: PLR0917 - click passes by name
    name: str, folder: Path, database: str, scopes: tuple[str, ...], rate: float, queue: int
) -> None:
    """Make a key and print it: it cannot be read again."""
    click.echo(opened_keys(folder, database).create(name, scopes or SCOPES, rate, queue))


@keys.command("list")
@DATA
@DATABASE
def list_keys(folder: Path, database: str) -> None:
    """Show the keys, without what they are."""
    for key in opened_keys(folder, database).all():
        state = "revoked" if key.revoked else ", ".join(key.scopes)
        click.echo(f"{key.id}  {key.name}  {state}  {key.rate:g}/s  {key.queue} queued")


@keys.command("revoke")
@click.argument("identity", metavar="ID")
@DATA
@DATABASE
def revoke(identity: str, folder: Path, database: str) -> None:
    """Make a key open nothing any more."""
    opened_keys(folder, database).revoke(identity)


def opened_keys(folder: Path, database: str):  # type: ignore[no-untyped-def]  # its module is loaded late
    """The keys of a service's database."""
    from maquette_serve.service.keys import Keys
    from maquette_serve.service.store import Store

    return Keys(Store(database or f"sqlite:///{folder / 'tasks.db'}").engine)


def has_keys(folder: Path, database: str) -> bool:
    """Whether a service's database has keys, revoked ones too."""
    return bool((database or (folder / "tasks.db").exists()) and opened_keys(folder, database).all())


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own and nobody else's to reach."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def on_ray(setup: EngineSetup, word: str, replicas: int = 1) -> RayReplicas:
    """Engines on a cluster of Ray, of "CLUSTER[,key=value ...]".

    Raises:
        MaquetteError: a key that does not exist, a value that is refused, or a number of local replicas beside it.
    """
    from maquette.config import checked, load, read_words, split_words
    from maquette_serve.service.ray_replicas import Cluster, RayReplicas

    if replicas != 1:
        raise MaquetteError("--replicas counts engines without Ray; with --ray say least= and most=")
    place, *changes = split_words(word)
    cluster: Cluster = checked(load(Cluster, read_words(changes)))
    return RayReplicas(setup, replace(cluster, address="" if place == "local" else place))


def opened_runs(words: Sequence[str]) -> dict[str, Opened]:
    """The pipelines of runs, "[NAME=]RUN[,key=value ...]" each.

    Raises:
        MaquetteError: a run is missing or cannot generate, or two have one name.
    """
    from maquette.config import read_words, split_words

    pipelines: dict[str, Opened] = {}
    for word in words:
        place, *changes = split_words(word)
        name, equals, folder = place.partition("=")
        run = find_generator(folder if equals else place)
        name = name if equals else run.name
        if name in pipelines:
            raise MaquetteError(f"two runs are called '{name}'; give one another name: NAME={run}")
        pipelines[name] = Opened(dict(read_words(changes)), run)
    return pipelines


def without_run(plugin_files: Sequence[str], only: Sequence[str] = ()) -> dict[str, Opened]:
    """The pipelines that need no run, or those of them that are named.

    To know them their modules are loaded, and models with them: by a process that ends, since the one that answers
    callers shall stay small.
    """
    if not only:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            only = pool.submit(names_without_run, tuple(plugin_files)).result()
    return {name: Opened({"name": name}) for name in only}


def names_without_run(plugin_files: Sequence[str]) -> list[str]:
    """Pipelines whose config has no `run` that must be given."""
    plugins.load_files(list(plugin_files))

    def needs_run(config: Any) -> bool:
        return any(field.name == "run" and field.default == MISSING for field in fields(config))

    return [entry.name for entry in plugins.registry("pipelines") if not needs_run(entry.config)]
