"""A training of seconds."""

import pytest

from pat.base.mapping import from_mapping
from pat.config import TrainConfig


@pytest.fixture
def config(market, tmp_path, tiny):
    """A run on the small market, changed by nested values."""

    def made(out="run", **changes) -> TrainConfig:
        data = {"source": [str(market)], "cache": str(tmp_path / "cache")}
        values = {**tiny, "out": str(tmp_path / out), "data": data}
        for key, value in changes.items():
            section, _, name = key.partition("__")
            if name:
                values[section] = {**values[section], name: value}
            else:
                values[key] = value
        return from_mapping(TrainConfig, values)

    return made
