"""From a statement to its frames, for whichever edge asks: ``query`` is the story, ``running`` knows all that run."""

from server.query.query import Query
from server.query.running import RunningStatements
from server.query.service import LakeQueryService

__all__ = ["LakeQueryService", "Query", "RunningStatements"]
