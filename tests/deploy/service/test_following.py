"""Who reads the journal along hears of each event when it comes."""

from __future__ import annotations

import asyncio

from deploy.service.streams import Streams


class Journal:
    """One that holds nothing yet when it is looked at first."""

    def __init__(self) -> None:
        self.looked = 0

    def after(self, seq: int) -> list:
        self.looked += 1
        return []


def test_what_comes_while_the_last_look_is_handed_on_wakes_as_well() -> None:
    async def follow() -> None:
        streams, journal = Streams(), Journal()
        streams.begin()
        followed = streams.follow(journal, 0, every=60)  # type: ignore[arg-type]
        await followed.__anext__()
        streams.wake()  # an event was written after the look, and before anybody waits for news
        await asyncio.sleep(0.01)
        await asyncio.wait_for(followed.__anext__(), 5)
        assert journal.looked == 2

    asyncio.run(follow())
