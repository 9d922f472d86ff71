"""What callers of the service's own addresses send, and what they get."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from maquette import plugins
from maquette_serve.service.task import Task

LARGEST_SEED = 2**31 - 1
Status = Literal["PENDING", "IN_PROGRESS", "SUCCEEDED", "FAILED", "CANCELED"]


class Work(BaseModel):
    """One piece of work."""

    model_config = ConfigDict(extra="forbid")

    pipeline: str = Field(description="One of GET /v1/pipelines.", max_length=128)
    class_name: str | None = Field(None, max_length=100)
    guidance: float | None = Field(None, ge=0, le=100)
    steps: int | None = Field(None, ge=1, le=1000)
    images: list[str] = Field([], max_length=8, description="Ids of uploaded pictures.")
    options: dict[str, Any] = Field({}, description="What only some pipelines know.")
    finish: list[str | dict[str, Any]] = Field([], max_length=16, description="Finishing steps, by name or as blocks.")


class Following(Work):
    """A piece of work on the mesh that the one before it made."""

    prompt: str | None = Field(None, max_length=1000, description="Absent: that of the task.")
    seed: int | None = Field(None, ge=0, le=LARGEST_SEED, description="Absent: that of the task.")


class TaskRequest(Work):
    """What is to be made."""

    prompt: str = Field("", max_length=1000)
    seed: int | None = Field(
        None, ge=0, le=LARGEST_SEED, description="The same seed gives the same mesh; drawn if absent."
    )
    mesh: str | None = Field(
        None, max_length=100, description="Id of an uploaded mesh, or of a task whose mesh is meant."
    )
    then: list[Following] = Field([], max_length=8, description="What is done with the mesh then, one after the other.")
    formats: list[str] = Field(["glb"], min_length=1, max_length=8, description="File formats to write.")
    priority: int = Field(0, ge=-1, le=1)
    deadline: float | None = Field(None, gt=0, le=1e6, description="Seconds after which nobody wants it any more.")
    webhook: str = Field("", max_length=2000, description="An https address that is told when the task is over.")

    @field_validator("formats")
    @classmethod
    def known_formats(cls, formats: list[str]) -> list[str]:
        """Refuses formats that nobody can write."""
        for name in formats:
            if name not in written_formats():
                raise ValueError(f"format '{name}' is not one of {', '.join(written_formats())}")
        return list(dict.fromkeys(formats))


class StageAnswer(BaseModel):
    """A piece of a task's work that is done."""

    pipeline: str
    metadata: dict[str, Any]
    faces: int
    files: dict[str, str] = Field(description="Addresses by names.")


class TaskAnswer(BaseModel):
    """A task; times are milliseconds since 1970."""

    id: str
    pipeline: str
    status: Status
    progress: int = Field(ge=0, le=100)
    seed: int | None
    request: dict[str, Any] = Field(description="What was sent.")
    error: str | None
    metadata: dict[str, Any] | None = Field(description="Of what was made, once the task SUCCEEDED.")
    faces: int | None
    files: dict[str, str] = Field(description="Addresses by names.")
    stages: list[StageAnswer] = Field(description="The pieces of its work that are done.")
    created_at: int
    started_at: int | None
    finished_at: int | None
    expires_at: int | None


class PipelineAnswer(BaseModel):
    """What can be asked for."""

    name: str
    run: str | None = Field(description="The folder of its run, if it has one.")
    about: str = Field(description="What kind of pipeline it is.")
    roles: list[str] = Field(description="Which parts it plays for those who ask for work and not for a pipeline.")
    needs_mesh: bool = Field(description="Whether it changes a mesh, and makes none of its own.")


class FormatsAnswer(BaseModel):
    """Which files can be written and read, by suffixes."""

    meshes_written: list[str]
    meshes_read: list[str]
    pictures_read: list[str]


class UploadAnswer(BaseModel):
    """What was sent in."""

    id: str
    kind: Literal["image", "mesh"]
    bytes: int


class SecretAnswer(BaseModel):
    """What notices are signed with."""

    secret: str


class Refusal(BaseModel):
    """Why something was not done, in one line."""

    message: str


def shown(task: Task) -> TaskAnswer:
    """A task as callers see it."""

    def addresses(names: dict[str, str]) -> dict[str, str]:
        return {name: f"/v1/tasks/{task.id}/files/{name}" for name in names}

    stages = [StageAnswer(**{**stage, "files": addresses(stage["files"])}) for stage in task.stages]
    return TaskAnswer(
        id=task.id,
        pipeline=task.pipeline,
        status=task.status,  # type: ignore[arg-type]  # one of the five
        progress=task.progress,
        seed=task.inputs.get("seed"),
        request=dict(task.body),
        error=task.error or None,
        metadata=task.made.get("metadata"),
        faces=task.made.get("faces"),
        files=addresses(task.files),
        stages=stages,
        created_at=task.created,
        started_at=task.started,
        finished_at=task.finished,
        expires_at=task.expires,
    )


def written_formats() -> list[str]:
    """Suffixes of files that can be written, without their points."""
    return [entry.name.removeprefix(".") for entry in plugins.registry("exporters")]
