"""What callers of the Meshy-compatible front can send; fields that change nothing here are let pass."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from maquette_serve.service.service import LARGEST_SEED

Topology = Literal["quad", "triangle"]
Place = Literal["bottom", "center"]
LONGEST_PROMPT = 600
LONGEST_ADDRESS = 64 * 2**20
"""Letters of a data URI."""


class Body(BaseModel):
    """What all can say."""

    model_config = ConfigDict(extra="ignore")

    webhook: str = Field("", max_length=2000, description="An https address that is told when the task is over.")


class Delivered(Body):
    """Which files are to be made, how large, and where the origin is."""

    target_formats: list[str] = Field([], max_length=8, description="Default: all but 3mf.")
    origin_at: Place | None = None
    auto_size: bool = False


class Generated(Delivered):
    """What has to do with a seed; one is drawn where none is given."""

    seed: int | None = Field(None, ge=0, le=LARGEST_SEED)


class Shaped(Generated):
    """What the faces are to be like."""

    model_type: str = "standard"
    topology: Topology = "triangle"
    target_polycount: int | None = Field(None, ge=100, le=300_000)
    decimation_mode: int | None = Field(None, ge=1, le=4)
    should_remesh: bool = False


class Textured(Body):
    """How finely textures are painted."""

    texture_resolution: Literal["2k", "4k", "8k"] | None = None
    hd_texture: bool = False


class TextTo3D(Shaped, Textured):
    """A preview (shape) of words, or a preview refined with textures."""

    mode: Literal["preview", "refine"]
    prompt: str = Field("", max_length=LONGEST_PROMPT)
    preview_task_id: str | None = None
    should_texture: bool = Field(False, description="Paints a preview in the same task.")
    texture_prompt: str = Field("", max_length=LONGEST_PROMPT)
    texture_image_url: str | None = Field(None, max_length=LONGEST_ADDRESS)

    @model_validator(mode="after")
    def complete(self) -> TextTo3D:
        """Refuses what lacks what its mode needs."""
        if self.mode == "preview" and not self.prompt.strip():
            raise ValueError("a preview needs a prompt")
        if self.mode == "refine" and not self.preview_task_id:
            raise ValueError("refining needs preview_task_id")
        if self.texture_prompt and self.texture_image_url:
            raise ValueError("give texture_prompt or texture_image_url, not both")
        return self


class OfPictures(Shaped, Textured):
    """A shape of pictures, and its textures."""

    should_texture: bool | None = Field(None, description="Absent: where the server can paint what pictures show.")
    texture_prompt: str = Field("", max_length=LONGEST_PROMPT)
    texture_image_url: str | None = Field(None, max_length=LONGEST_ADDRESS)

    @model_validator(mode="after")
    def one_style(self) -> OfPictures:
        """Refuses two."""
        if self.texture_prompt and self.texture_image_url:
            raise ValueError("give texture_prompt or texture_image_url, not both")
        return self


class ImageTo3D(OfPictures):
    """A shape of one picture."""

    image_url: str | None = Field(None, max_length=LONGEST_ADDRESS)
    input_task_id: str | None = None

    @model_validator(mode="after")
    def complete(self) -> ImageTo3D:
        """Refuses what has no picture."""
        if self.input_task_id:
            raise ValueError("this server makes no pictures, so that no task has one; give image_url")
        if not self.image_url:
            raise ValueError("give image_url")
        return self


class MultiImageTo3D(OfPictures):
    """A shape of several pictures of one thing."""

    image_urls: list[str] = Field(min_length=1, max_length=4)


class OfModel(Body):
    """A mesh: that of a task, or one that is fetched."""

    input_task_id: str | None = None
    model_url: str | None = Field(None, max_length=2 * LONGEST_ADDRESS)

    @model_validator(mode="after")
    def one_mesh(self) -> OfModel:
        """Refuses none and two."""
        if bool(self.input_task_id) == bool(self.model_url):
            raise ValueError("give exactly one of input_task_id and model_url")
        return self


class Sized(OfModel, Delivered):
    """A size in metres."""

    resize_height: float | None = Field(None, ge=0, description="Metres; 0 leaves the size as it is.")
    resize_longest_side: float | None = Field(None, ge=0, description="Likewise.")

    @model_validator(mode="after")
    def one_size(self) -> Sized:
        """Refuses two sizes."""
        if sum(map(bool, (self.resize_height, self.resize_longest_side, self.auto_size))) > 1:
            raise ValueError("give one of resize_height, resize_longest_side and auto_size")
        return self


class Remesh(Sized):
    """New faces."""

    topology: Topology = "triangle"
    target_polycount: int = Field(30_000, ge=100, le=300_000)
    decimation_mode: int | None = Field(None, ge=1, le=4)
    convert_format_only: bool = False


class Resize(Sized):
    """A new size."""

    @model_validator(mode="after")
    def a_size(self) -> Resize:
        """Refuses none."""
        if not (self.resize_height or self.resize_longest_side or self.auto_size):
            raise ValueError("give one of resize_height, resize_longest_side and auto_size")
        return self


class Convert(OfModel):
    """Other file formats."""

    target_formats: list[str] = Field(min_length=1, max_length=8)


class Retexture(OfModel, Generated, Textured):
    """New textures."""

    text_style_prompt: str = Field("", max_length=LONGEST_PROMPT)
    image_style_url: str | None = Field(None, max_length=LONGEST_ADDRESS)
    multiview_image_urls: list[str] = Field([], max_length=4)
    enable_original_uv: bool = True

    @model_validator(mode="after")
    def a_style(self) -> Retexture:
        """Refuses what has nothing to follow."""
        if not (self.text_style_prompt.strip() or self.image_style_url or self.multiview_image_urls):
            raise ValueError("give text_style_prompt or image_style_url")
        return self


class Rigging(OfModel):
    """A skeleton."""

    height_meters: float = Field(1.7, gt=0)


class PostProcess(BaseModel):
    """What is to be done with an animation."""

    operation_type: Literal["change_fps", "fbx2usdz", "extract_armature"]
    fps: Literal[24, 25, 30, 60] = 30


class Animations(Body):
    """A clip for a rigged character."""

    rig_task_id: str
    action_id: int = Field(ge=0)
    post_process: PostProcess | None = None
