"""What Redis says of itself: whether it can take anything now, and in words why not."""

from __future__ import annotations

from collections.abc import Mapping

from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
)

# The rest is for what keeps accepted jobs alive: claims, outcomes, results.
MEMORY_SHARE = 0.9
# Each `INFO` section that `faults` reads.
SECTIONS = ("memory", "replication", "persistence")

SILENT = "Redis does not answer"
FULL = "Redis is full"
_READ_ONLY = "Redis is a read-only replica: nothing can be written here"
_SIGN_IN = "Redis refuses our user or password"
_RIGHT = "Redis denies our user a right that is needed (ACL LOG names it)"
_UNTRUSTED = "Redis' certificate is not trusted (?ssl_cert_reqs=none takes any)"
_DISK = "Redis cannot write to its disk"
_CROWDED = "Redis takes no more connections (maxclients)"
_IN_PIPELINE = " of pipeline caused error: "
# redis-py 8.1 has no class for these; it leaves the word in the message.
_BY_WORD = {"MISCONF": _DISK, "NOREPLICAS": "Redis has too few replicas to take anything"}


def words(error: BaseException) -> str:
    """What the server said. Of an answer in a pipeline redis-py 8.1 has the command in front."""
    return str(error).rpartition(_IN_PIPELINE)[2].lstrip("('\"\\")


def lacks_right(error: BaseException) -> bool:
    """An ACL forbids the command, or one within a script."""
    return isinstance(error, NoPermissionError) or words(error).startswith("ACL failure in script")


def refusal(error: BaseException) -> str | None:
    """Why the server takes nothing, when that is what its answer says: waiting a moment or
    asking once more changes nothing.
    """
    if isinstance(error, ReadOnlyError):
        return _READ_ONLY
    if isinstance(error, OutOfMemoryError):
        return FULL
    if isinstance(error, AuthenticationError):
        return _SIGN_IN
    text = words(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return _UNTRUSTED
    if lacks_right(error):
        return _RIGHT
    return next((why for word, why in _BY_WORD.items() if text.startswith(word)), None)


def explain(error: BaseException) -> str:
    """The same for a client, of any error after which there is no answer."""
    if isinstance(error, BusyLoadingError):
        return "Redis has just started, and is still loading its data"
    if words(error).startswith("max number of clients reached"):
        # No refusal: others leave from moment to moment.
        return _CROWDED
    return refusal(error) or SILENT


def facts_of(info: bytes) -> dict[str, str]:
    """The answer to `INFO` by name."""
    lines = (line.partition(":") for line in info.decode("utf-8", "replace").splitlines())
    return {name: value for name, separator, value in lines if separator}


def memory_fault(facts: Mapping[str, str]) -> str | None:
    """Whether there is no room for new jobs, by `INFO memory`."""
    used, most = int(facts.get("used_memory", 0)), int(facts.get("maxmemory", 0))
    if most == 0 or used <= most * MEMORY_SHARE:
        return None
    return FULL if used >= most else "Redis is nearly full"


def faults(facts: Mapping[str, str]) -> list[str]:
    """Why new jobs are not taken, by `INFO` of all SECTIONS; empty when they are."""
    found = []
    if facts.get("role") == "slave" and facts.get("slave_read_only", "1") == "1":
        found.append(_READ_ONLY)
    short = memory_fault(facts)
    if short is not None:
        found.append(f"{short}: no new jobs are taken")
    if facts.get("aof_last_write_status", "ok") != "ok":
        found.append(_DISK)
    return found
