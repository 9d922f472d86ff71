"""Pipelines that compute each request by itself, in one piece."""

from __future__ import annotations

from collections.abc import Sequence

from maquette.errors import MaquetteError
from maquette.types import Asset, Request


class OneByOne:
    """What such a pipeline inherits; those that go step by step inherit `maquette.stepping.SteppedPipeline`."""

    def __call__(self, request: Request) -> Asset:
        """The asset of one request.

        Raises:
            MaquetteError: the request cannot be met; says why.
        """
        raise NotImplementedError

    def batch(self, requests: Sequence[Request]) -> list[Asset | MaquetteError]:
        """The assets of several requests, in order; where one fails, its error in its place."""
        return [self._tried(request) for request in requests]

    def _tried(self, request: Request) -> Asset | MaquetteError:
        try:
            return self(request)
        except MaquetteError as error:
            return error
