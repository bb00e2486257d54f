"""bench.street: what is counted, on runs small enough to count by hand."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from bench.street import Options, main, measure
from bundles import make_bundle
from deploy import assembly
from deploy.detect import RENDERED
from deploy.runtime.choice import Choice
from deploy.shipped import shipped_bundle
from export.check_set import read_check_set
from export.manifest import MODEL, Decision, Manifest
from pat.base.errors import UserError
from pat.commands.street import read_street
from pat.evaluation.street import Box, Run, Scores, score
from pat.synthetic.people.street import film_people

SECONDS = {(camera, frame): frame / 10 for camera in "ab" for frame in range(310)}
LEFT, RIGHT = (0.0, 0.0, 10.0, 20.0), (50.0, 0.0, 60.0, 20.0)


def frames(camera, begin, end, **who):
    """Boxes of those at the left and at the right, from one frame to before another."""
    edges = {"left": LEFT, "right": RIGHT}
    return {(camera, i): [Box(each, edges[side]) for side, each in who.items()] for i in range(begin, end)}


def together(*parts):
    joined: dict = {}
    for part in parts:
        for place, boxes in part.items():
            joined.setdefault(place, []).extend(boxes)
    return joined


def test_two_people_told_apart_and_known_again_by_another_camera():
    truth = together(
        frames("a", 0, 10, left=1, right=2), frames("b", 200, 210, left=2), frames("b", 300, 310, left=1)
    )
    boxes = together(
        frames("a", 0, 10, left=7, right=8), frames("b", 200, 210, left=9), frames("b", 300, 310, left=10)
    )
    said = {
        7: [("new", "x")],
        8: [("new", "y")],
        9: [("recognised", "y")],
        10: [("unknown", None), ("recognised", "x")],
    }
    found = score(truth, Run(boxes, said, [7, 8, 9, 10]), SECONDS, 2)
    assert (found.recognised, found.right, found.new, found.new_right, found.identities) == (2, 2, 2, 2, 2)
    assert (found.tracks, found.nobody, found.unknown, found.switches) == (4, 0, 0, 0)
    assert found.idf1_tracks == found.idf1_identities == 1
    assert found.recalled == found.gaps == {("other camera", 5.0): 2}  # after 19 and 29 s


def test_a_person_with_two_identities_and_a_wrong_recognition():
    truth = together(frames("a", 0, 10, left=1), frames("a", 100, 110, left=1), frames("a", 200, 210, left=2))
    boxes = together(frames("a", 0, 10, left=7), frames("a", 100, 110, left=8), frames("a", 200, 210, left=9))
    said = {7: [("new", "x")], 8: [("new", "y")], 9: [("recognised", "x")]}
    found = score(truth, Run(boxes, said, [7, 8, 9]), SECONDS, 2)
    assert (found.new, found.new_right, found.recognised, found.right) == (2, 1, 1, 0)
    assert found.identities == 2
    assert found.seen == 2
    # Person 1 as x in ten frames, or as y; whoever is x for person 2 is lost: 20 of 30 boxes both ways.
    assert found.idf1_identities == pytest.approx(2 * 20 / 60)
    assert found.gaps == {("same camera", 5.0): 1}
    assert found.recalled[("same camera", 5.0)] == 0


def test_a_track_that_jumps_is_a_switch_and_belongs_to_nobody():
    truth = together(frames("a", 0, 10, left=1), frames("a", 0, 10, right=2))
    boxes = together(
        frames("a", 0, 5, left=7, right=8), frames("a", 5, 9, left=8, right=7), frames("a", 9, 10, left=9)
    )
    found = score(truth, Run(boxes, {7: [("new", "x")]}, [7]), SECONDS, 2)
    assert found.switches == 3  # both change, then person 1 once more
    assert found.nobody == 0  # five of nine are more than half
    assert found.found == 19
    assert found.unknown == 2
    assert found.idf1_tracks == pytest.approx(2 * 10 / (20 + 19))


def test_a_false_alarm_is_a_track_of_nobody_and_a_wrong_identity():
    truth = frames("a", 0, 10, left=1)
    boxes = together(frames("a", 0, 10, left=7), frames("a", 0, 10, right=8))
    found = score(truth, Run(boxes, {7: [("new", "x")], 8: [("new", "y")]}, [8, 7]), SECONDS, 1)
    assert (found.nobody, found.new, found.new_right, found.identities, found.seen) == (1, 2, 1, 2, 1)


def test_a_revision_counts_and_what_was_said_before_does_not():
    truth = together(frames("a", 0, 10, left=1), frames("b", 0, 10, left=1))
    boxes = together(frames("a", 0, 10, left=7), frames("b", 0, 10, left=8))
    said = {7: [("new", "x")], 8: [("new", "y"), ("revised", "x")]}
    found = score(truth, Run(boxes, said, [7, 8]), SECONDS, 1)
    assert (found.new, found.recognised, found.right, found.identities) == (1, 1, 1, 1)


def test_nobody_there_and_nobody_found():
    found = score({}, Run({}, {}, []), {}, 0)
    assert (found.tracks, found.boxes, found.identities) == (0, 0, 0)
    assert found.rows()  # without a division by zero
    total = Scores()
    total += found
    assert total == found


def test_the_process_on_a_street(colour_bundle, street, capsys, tmp_path):
    """Three people who walk past twice, by their true boxes: most is right, and the table says so."""
    assert main(Options(colour_bundle, [street], "truth", "0.8", tmp_path / "table.json")) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["people filmed, with a track"] == "3, 3"
    assert float(table["IDF1 of tracks, of identities"].split(",")[0]) > 0.8
    shown = capsys.readouterr()
    assert "true boxes found" in shown.out
    assert re.search(r"[1-9]\d* pairs of people seen at once, 0 of them alike by the threshold", shown.err)


def test_a_street_is_watched_by_the_bundle_that_was_chosen_and_its_threshold(
    colour_bundle, street, tmp_path, monkeypatch, capsys
):
    manifest = Manifest.load(colour_bundle)
    assert manifest.decision is None
    assert main(Options(colour_bundle, [street], "truth", "", None)) == 2
    assert "has none: give a cosine" in capsys.readouterr().err
    decided = dataclasses.replace(manifest, decision=Decision(0.8, 0.001, "a test"))
    content = manifest.file(MODEL).read_bytes()
    make_bundle(tmp_path / "chosen", decided, content, *read_check_set(manifest))
    chosen = Choice(tmp_path / "chosen", "onnxruntime", {}, "it is fast", "here", "")
    monkeypatch.setattr(assembly, "read_choice", lambda bundle: chosen)
    assert main(Options(colour_bundle, [street], "truth", "", None)) == 0


@pytest.mark.parametrize("content", [None, "", "{", '{"camera": "a"}'])
def test_what_is_no_street_is_refused(tmp_path, content, colour_bundle, capsys):
    if content is not None:
        (tmp_path / "truth.jsonl").write_text(content)
    with pytest.raises(UserError):
        read_street(tmp_path)
    assert main(Options(colour_bundle, [tmp_path], "hog", "0.8", None)) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_the_models_in_the_box_recognise_people_in_a_street(tmp_path):
    """Who ships with the project sees nearly everybody who walks past, and names them rightly."""
    film_people(tmp_path / "street", cameras=2, people=5, rate=5, seed=4)
    options = Options(shipped_bundle(), [tmp_path / "street"], RENDERED, "", None)
    found = measure(options)
    assert found.seen == found.people == 5
    assert found.found > 0.5 * found.boxes
    assert found.right >= 0.8 * found.recognised > 0
