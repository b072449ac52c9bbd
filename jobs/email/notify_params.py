"""What `email.notify` is given."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class NotifyParams(BaseModel):
    """Written by the service: who asked to hear of the job, and what became of it.

    What follows `result_url` is added with the outcome.
    """

    model_config = ConfigDict(extra="forbid")

    sender: str = Field(alias="from")
    to: list[str]
    locale: str | None = None
    job_id: str
    job_type: str
    result_url: str | None = None
    outcome: Literal["finished", "failed", "canceled", "stopped"]
    ended_at: str
    artifacts: list[dict[str, Any]] = []
    error: str | None = None
    reason: str | None = None
