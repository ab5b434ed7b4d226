"""A store in S3 where s3fs, which is an extra, is not installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lakehouse.storage import open_store
from server.data_folder import DataFolder
from server.settings import Settings
from server.surroundings import Problem, store_errors


def test_what_to_install_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lakehouse.storage.s3", None)
    settings = Settings(data_dir=tmp_path, store_url="s3://bucket/lake")

    with pytest.raises(Problem) as refused, store_errors(settings, DataFolder(tmp_path)):
        open_store("s3://bucket/lake", cache=tmp_path, s3=settings.s3)

    assert str(refused.value) == (
        "the store s3://bucket/lake cannot be used: stores in S3 need s3fs: pip install 'lakeflight-server[s3]'"
    )
