"""One request in the engine: what was ordered, how far it is, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError
from maquette.finishing import Step
from maquette.stepping import Call, Course, Flow
from maquette.types import Asset, Request

WORKING_SHARE = 0.9
"""Of the progress that is shown, what is over before files are written."""


@dataclass(frozen=True)
class Order:
    """What is to be made, and where it goes.

    Args:
        pipeline: the name under which the engine has it.
        request: what it is asked for.
        images: files of pictures, read for the request where it holds none.
        mesh: a file of a mesh, likewise; it is put into the unit cube.
        finish: steps of finishing, by name.
        files: names of the files that are written, by their suffixes; none means that the asset itself is handed over.
        folder: where they are written.
        picture: pixels a side of pictures among the files.
        client: who orders; clients share the device evenly.
        priority: a job of one more goes before.
        deadline: seconds from its arrival after which nobody wants it any more, or None.
    """

    pipeline: str
    request: Request
    images: tuple[Path, ...] = ()
    mesh: Path | None = None
    finish: tuple[Step, ...] = ()
    files: tuple[str, ...] = ()
    folder: Path | None = None
    picture: int = 512
    client: str = ""
    priority: int = 0
    deadline: float | None = None


@dataclass(frozen=True)
class Delivered:
    """What came of an order.

    Args:
        metadata: of the asset.
        faces: of its mesh.
        files: those that were written, in the order's folder.
        asset: itself, where no files were ordered.
    """

    metadata: Mapping[str, Any]
    faces: int
    files: tuple[str, ...] = ()
    asset: Asset | None = None


@dataclass(frozen=True)
class Event:
    """What happened to a job. The last of a job is "succeeded", "failed" or "cancelled"."""

    number: int
    kind: str
    progress: float = 0.0
    error: str = ""
    delivered: Delivered | None = None


ENDS = ("succeeded", "failed", "cancelled")
Report = Callable[[Event], None]


@dataclass(eq=False)
class Job:
    """An order on its way; a `Turn` for the scheduler.

    Args:
        number: its place in the order of arrival.
        order: what was ordered.
        arrived: seconds, on the engine's clock.
        report: told what happens.
        flows: how many flows it is likely to go through.
        most_rows: of a pass with its next step in it.
    """

    number: int
    order: Order
    arrived: float
    report: Report
    flows: int = 1
    served: float = 0.0
    course: Course[Delivered] | None = None
    wish: Flow | Call | None = None
    called: Future[Any] | None = None
    flows_done: int = 0
    most_rows: int = 2**31
    cancelled: bool = False
    ended: bool = field(default=False)

    @property
    def priority(self) -> int:
        """Of its order."""
        return self.order.priority

    @property
    def client(self) -> str:
        """Of its order."""
        return self.order.client

    @property
    def key(self) -> Hashable | None:
        """Of the flow that it waits for; None where it waits for a piece of work of its own."""
        return self.wish.key if self.flow is not None else None  # type: ignore[union-attr]

    @property
    def rows(self) -> int:
        """Of a forward pass, that its next step takes."""
        return 1 if self.flow is None else self.flow.rows

    @property
    def flow(self) -> Flow | None:
        """The sampling under way."""
        return None if self.wish is None or isinstance(self.wish, Call) else self.wish

    @property
    def ready(self) -> bool:
        """Whether it waits for the device."""
        return self.course is not None and self.called is None

    @property
    def progress(self) -> float:
        """From 0 to 1, never falling."""
        within = 0.0 if self.flow is None else self.flow.done / self.flow.steps
        return WORKING_SHARE * min((self.flows_done + within) / max(self.flows, self.flows_done + within, 1), 1.0)

    def expired(self, now: float) -> bool:
        """Whether nobody wants it any more."""
        return self.order.deadline is not None and now - self.arrived > self.order.deadline

    def end(self, kind: str, error: str = "", delivered: Delivered | None = None) -> None:
        """It is over; what its course holds is let go."""
        self.ended = True
        if self.course is not None:
            self.course.close()
        self.course = self.wish = None
        self.report(Event(self.number, kind, 1.0 if kind == "succeeded" else 0.0, error, delivered))


def reason_of(error: Exception) -> str:
    """What a caller is told: the words of a MaquetteError, and no insides of anything else."""
    return str(error) if isinstance(error, MaquetteError) else f"internal error ({type(error).__name__}); it is logged"
