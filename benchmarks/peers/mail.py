"""The e-mail that every peer takes: the same fields and limits, checked in pydantic's own Rust.

`EmailStr` would be the usual choice and costs 59 us for each address, so the peers do better
here than their own tutorials.
"""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

REDIS_URL = os.environ["BENCHMARK_REDIS_URL"]

Address = Annotated[
    str, Field(max_length=254, pattern=r"^[A-Za-z0-9._%+-]{1,64}@([A-Za-z0-9-]{1,63}\.)+[A-Za-z]+$")
]


class Email(BaseModel):
    model_config = ConfigDict(extra="forbid")

    sender: Annotated[Address, Field(alias="from")]
    to: Annotated[list[Address], Field(min_length=1, max_length=50)]
    subject: Annotated[str, Field(max_length=998)]
    text: Annotated[str, Field(max_length=1024 * 1024)]


class Accepted(BaseModel):
    id: str
    status: str = "queued"
