"""Uploads, and the files that jobs leave behind."""

from __future__ import annotations

from app.http import shapes
from app.http.descriptions.parts import (
    BINARY,
    BODY_PROBLEMS,
    NOT_CHANGED,
    QUEUE,
    Body,
    Description,
    Reply,
)

_OWN = "A key with only the scope `submit` sees its own; others are 404."
_FILE = ("ETag", "Accept-Ranges", "Content-Disposition")
_ANY_TYPE = {"*/*": BINARY}

FILES: dict[tuple[str, str], Description] = {
    ("POST", "/v1/uploads"): Description(
        "createUpload", "files", "Upload a file",
        "Any bytes under any `type/subtype`, or one field `file` of a form. Streamed to storage;"
        " kept for a time only, for jobs that will read it. No body is an empty file.",
        {201: Reply("It is stored.", shapes.Upload, headers=("Location",),
                    links=("upload", "delete_upload"))},
        parameters=("content_disposition",),
        problems=("storage-unavailable", "storage-full", "too-many-uploads", *QUEUE),
        body=Body(
            {
                "application/octet-stream": BINARY,
                "multipart/form-data": {
                    "type": "object",
                    "properties": {"file": BINARY},
                    "required": ["file"],
                    "additionalProperties": False,
                },
            },
            ("malformed-form", *BODY_PROBLEMS, "invalid-request"),
            required=False,
        ),
    ),
    ("GET", "/v1/uploads/{id}"): Description(
        "showUpload", "files", "Show an upload",
        f"What is known of it; not its bytes. {_OWN}",
        {200: Reply("What is stored.", shapes.Upload)},
        parameters=("upload",), problems=QUEUE,
    ),
    ("DELETE", "/v1/uploads/{id}"): Description(
        "deleteUpload", "files", "Delete an upload",
        "For the key that made it, or `operate`.",
        {204: Reply("It is gone.")},
        parameters=("upload",), problems=("storage-unavailable", *QUEUE),
    ),
    ("GET", "/v1/jobs/{id}/artifacts/{name}"): Description(
        "downloadArtifact", "files", "Download an artifact",
        "A file that the job made, named in its `artifacts`; whole or a range of it. Whose the"
        " job is, theirs are its artifacts.",
        {
            200: Reply("The file.", headers=_FILE, besides=_ANY_TYPE),
            206: Reply("The range.", headers=(*_FILE, "Content-Range"), besides=_ANY_TYPE),
            304: NOT_CHANGED,
        },
        parameters=("id", "artifact", "range", "if_range", "if_none_match"),
        problems=("range-not-satisfiable", "storage-unavailable", *QUEUE),
    ),
    ("GET", "/v1/results/{token}"): Description(
        "openResult", "files", "Open a result from a mail",
        "The first file of a job, by the link in the mail that its `notify` asked for. The link"
        " is signed, and works for as long as the job is kept.",
        {
            200: Reply("The file.", headers=_FILE, besides=_ANY_TYPE),
            206: Reply("The range.", headers=(*_FILE, "Content-Range"), besides=_ANY_TYPE),
            304: NOT_CHANGED,
        },
        parameters=("result_token", "range", "if_range", "if_none_match"),
        problems=("range-not-satisfiable", "storage-unavailable", *QUEUE),
    ),
}  # fmt: skip
