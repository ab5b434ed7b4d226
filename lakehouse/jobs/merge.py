"""The job of merging files of partitions, and what comes of it: plain values that go to where it runs and back.

As with a build (``lakehouse.jobs.build``): the job names objects by their keys, and its result is not believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lakehouse.errors import InternalError
from lakehouse.jobs.build import BuildResult, BuiltFile

KIND: Final = "merge"


@dataclass(frozen=True, slots=True)
class MergeJob:
    """Which files become fewer. Their rows come out in the order of ``keys``, or of the view where it has one."""

    view_set: str
    keys: tuple[str, ...]
    sha256: tuple[bytes | None, ...]  # of what was written; ``None``: it was not kept
    file_bytes_max: int  # of what comes out; one row group may be over it

    def to_message(self) -> dict[str, Any]:
        return {
            "kind": KIND,
            "view_set": self.view_set,
            "keys": list(self.keys),
            "sha256": list(self.sha256),
            "file_bytes_max": self.file_bytes_max,
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> MergeJob:
        return cls(message["view_set"], tuple(message["keys"]), tuple(message["sha256"]), message["file_bytes_max"])


@dataclass(frozen=True, slots=True)
class LocalMerge:
    """A job where it runs: the files, and a folder for what comes of them."""

    job: MergeJob
    paths: tuple[Path, ...]
    output: Path

    def to_message(self) -> dict[str, Any]:
        return self.job.to_message() | {"paths": list(map(str, self.paths)), "output": str(self.output)}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> LocalMerge:
        return cls(MergeJob.from_message(message), tuple(map(Path, message["paths"])), Path(message["output"]))


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What came out, in the order of its rows; or which files are not what was written, and then nothing else."""

    files: tuple[BuiltFile, ...] = ()
    damaged: tuple[str, ...] = ()  # keys
    is_sorted: bool = False  # in the order that the view declares

    def to_message(self) -> dict[str, Any]:
        built = BuildResult(self.files, (), 0).to_message()
        return {"files": built["files"], "damaged": list(self.damaged), "is_sorted": self.is_sorted}

    @classmethod
    def from_message(cls, message: Any, job: MergeJob, output: Path) -> MergeResult:
        """A result that can be acted on.

        Raises:
            InternalError: The worker sent anything else.
        """
        if not isinstance(message, dict) or not isinstance(message.get("is_sorted"), bool):
            raise InternalError("a merge sent no result")
        damaged = message.get("damaged")
        if not isinstance(damaged, list | tuple) or not set(damaged) <= set(job.keys):
            raise InternalError("a merge named a file that it was not given")
        built = BuildResult.from_message(
            {"files": message.get("files"), "quarantined": [], "repaired_events": 0}, output
        )
        return cls(built.files, tuple(damaged), message["is_sorted"])
