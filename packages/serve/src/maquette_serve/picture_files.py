"""Picture files as requests take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maquette.errors import MaquetteError
from maquette.image_loading import opened_image


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A picture as uint8 [H, W, 4], sRGB and alpha, turned as its camera says.

    Alpha tells the object from its background. A picture without any is opaque.

    Raises:
        MaquetteError: no such file, or none that can be read as a picture.
    """
    from PIL import ImageOps

    try:
        with opened_image(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGBA"))
    except FileNotFoundError:
        raise MaquetteError(f"picture '{path}' does not exist") from None
    except MaquetteError as error:
        raise MaquetteError(f"'{path}' cannot be read as a picture: {error}") from None
