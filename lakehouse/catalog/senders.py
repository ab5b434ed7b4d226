"""Notes of who has sent blocks, so that listing processes and streams costs what there is to list."""

from __future__ import annotations

from typing import Final

from lakehouse.catalog.looks import continue_ids
from lakehouse.catalog.parts import CatalogPart
from lakehouse.catalog.queries import load

_SQL: Final = load("senders")
FIRST_NOTES_S_MAX: Final = 600  # of all blocks that there are; later ones are of what came since


class Senders(CatalogPart):
    """Statements over ``lakehouse_senders``."""

    async def note_senders(self) -> None:
        async with self.connection() as connection:
            await connection.execute(_SQL["add_notes"])
            for _ in range(2):
                async with connection.transaction():
                    claimed = await connection.fetchrow(_SQL["claim"])
                    if claimed is None:
                        return
                    if claimed["continuous"]:
                        await connection.execute(f"SET LOCAL statement_timeout = '{FIRST_NOTES_S_MAX}s'")
                        await connection.execute(_SQL["take_notes"], timeout=FIRST_NOTES_S_MAX)
                        return
                await continue_ids(connection)
