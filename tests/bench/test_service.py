"""bench.service: many clients, none of them refused; what they expect of an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.service import Options, Outcome, Phase, main, run


def test_what_is_told_of_phases():
    outcome = Outcome(times={"people": [0.010, 0.020], "photo": [0.5]})
    outcome.phases = [
        Phase(False, 10.0, 100, 4.0, 0.0, 0.5, 1.0, 300.0), Phase(True, 10.0, 90, 6.0, 1.0, 0.4, 2.0, 310.0),
        Phase(False, 10.0, 80, 4.0, 0.0, 0.5, 3.0, 310.0), Phase(True, 5.0, 38, 6.0, 1.0, 0.4, 2.0, 312.0),
    ]  # fmt: skip
    told = "\n".join(outcome.lines())
    assert "all            3   p50   20.0 ms" in told
    assert "round by round: 0.90 0.95" in told
    assert "without clients: 9.00 frames/s" in told
    assert "errors: 0" in told
    assert outcome.growth == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 0.0}, "error: --rate 0.0: expected a number above 0"),
        ({"requests": 5, "rounds": 10}, "each round needs a request"),
        ({"clients": 600}, "each client two --people"),
        ({"streets": [Path("no/street")]}, "no/street: no videos (*.mp4)"),
    ],
)
def test_what_cannot_be_measured_is_one_line(change, message, tmp_path, capsys):
    assert main(Options(**{"out": tmp_path, **change})) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_clients_beside_cameras_get_what_they_ask_for(colour_bundle, street, tmp_path):
    options = Options(
        [street], requests=200, clients=10, rate=20.0, rounds=2, people=60, bundle=colour_bundle, threshold="0.8",
        out=tmp_path, flags=("--detect.detector", "hog:720"),
    )  # fmt: skip
    outcome = run(options)
    print(*outcome.lines(), sep="\n")
    assert outcome.errors == []
    assert sum(len(times) for times in outcome.times.values()) >= 200
    assert outcome.growth < 32
    assert all(phase.frames > 0 for phase in outcome.phases)
