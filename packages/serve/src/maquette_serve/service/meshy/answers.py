"""What callers of the Meshy-compatible front get; a key that is absent was not produced."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Made(BaseModel):
    """A task was taken in; `result` is its id."""

    result: str


class Balance(BaseModel):
    """Credits."""

    balance: int


class TaskError(BaseModel):
    """Why a task failed; "" where it did not."""

    message: str


class Printability(BaseModel):
    """What a printer would stumble over."""

    status: Literal["healthy", "warning", "error"]
    issue_count: int
    error_count: int
    warning_count: int
    issues: list[str]
    metrics: dict[str, Any]


class TaskObject(BaseModel):
    """A task, beside what was sent for it; times are milliseconds since 1970, 0 for not yet."""

    model_config = ConfigDict(extra="allow")

    id: str
    type: str
    status: Literal["PENDING", "IN_PROGRESS", "SUCCEEDED", "FAILED", "CANCELED"]
    progress: int = Field(ge=0, le=100)
    created_at: int
    started_at: int
    finished_at: int
    expires_at: int
    task_error: TaskError
    seed: int = 0
    preceding_tasks: int = 0
    consumed_credits: int = 0
    face_count: int | None = None
    thumbnail_url: str = ""
    model_urls: dict[str, str] = {}
    texture_urls: list[dict[str, str]] = []
    result: dict[str, str] = {}
    printability: Printability | None = None
