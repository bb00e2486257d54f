"""The decoder from files to dataclasses says in one line what does not fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from pat.base.errors import UserError
from pat.base.mapping import Within, from_mapping, read_mapping, to_mapping
from pat.config import TrainConfig


@dataclass(frozen=True)
class Inner:
    size: Annotated[int, Within(1, 9)]
    shares: tuple[Annotated[float, Within(above=0, most=1)], ...] = ()


@dataclass(frozen=True)
class Outer:
    kind: Literal["a", "b"]
    inner: Inner
    named: Mapping[str, Inner] = field(default_factory=dict)
    free: Mapping[str, Any] = field(default_factory=dict)


def test_there_and_back():
    outer = Outer("a", Inner(3, (0.5, 1.0)), {"x": Inner(1)}, {"deep": {"er": [1, None]}})
    assert from_mapping(Outer, to_mapping(outer)) == outer


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner": {"size": 10}}, "f: inner.size = 10 is not a whole number of at least 1 and at most 9; mend it"),
        ({"inner": {"size": 1, "shares": [0.5, float("nan")]}}, "inner.shares = nan is not a number above 0"),
        ({"inner": {}}, "inner.size is missing"),
        ({"named": {"x": {"size": "1"}}}, "named.x.size = '1' is not a whole number"),
        ({"kind": True}, "kind = True is not one of a, b"),
        ({"knid": "a"}, "unknown key knid; did you mean kind?"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    with pytest.raises(UserError) as caught:
        from_mapping(Outer, {"kind": "a", "inner": {"size": 1}, **change}, "f", remedy="mend it")
    assert message in str(caught.value)


def test_an_empty_path_is_not_the_working_folder():
    with pytest.raises(UserError, match="out = '' is not a path"):
        from_mapping(TrainConfig, {"out": ""})


@pytest.mark.parametrize("depth", [100, 100_000])
@pytest.mark.parametrize("ending", ["json", "toml"])
def test_a_file_nested_without_end_is_one_line(tmp_path, depth, ending):
    path = tmp_path / f"deep.{ending}"
    lists = "[" * depth + "]" * depth
    path.write_text(f'{{"a": {lists}}}' if ending == "json" else f"a = {lists}")
    with pytest.raises(UserError, match="nested") as caught:
        read_mapping(path)
    assert "\n" not in str(caught.value)
