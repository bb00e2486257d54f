"""How the person detector in the box is made: its loss, its patches, its graph, what it is scored by."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from bench.deadline import Deadline
from bench.detector import make
from bench.detector.card import card
from bench.detector.data import BOXES, Labelled, read_frames
from bench.detector.graph import MODEL, export_detector
from bench.detector.loss import answering, detection_loss, ious
from bench.detector.network import MEAN, SCALES, STD, PersonDetector, fused, grid
from bench.detector.patches import Frame, cut_patch
from bench.detector.scores import look
from bench.stages import Options, all_done, run
from deploy.detect import open_detector
from deploy.frames import Detections
from pat.base.errors import Failure, UserError
from pat.synthetic.randomness import stream

NOBODY = np.zeros((0, 4), np.float32)
SIDE = 96


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 4)


def test_cells_near_the_middle_answer_on_the_level_of_the_height_and_for_the_smaller_person():
    cells = grid(SIDE, SIDE)
    assert len(cells) == 12 * 12 + 6 * 6 + 3 * 3
    small, large = [40.0, 40, 52, 70], [10.0, 0, 80, 96]
    cell, person = answering(cells, boxes(large, small))
    middles = boxes(large, small)[person]
    away = (cells[cell, :2] - (middles[:, :2] + middles[:, 2:]) / 2).abs().amax(dim=1) / cells[cell, 2]
    assert (away < 1.25).all()
    assert set(cells[cell[person == 1], 2].tolist()) == {8.0}
    assert set(cells[cell[person == 0], 2].tolist()) == {16.0}
    assert len(cell) == len(set(cell.tolist()))


def test_the_loss_falls_to_nothing_where_everything_is_right_and_hidden_people_count_neither_way():
    cells, person = grid(SIDE, SIDE), boxes([40.0, 40, 52, 70])
    cell, _ = answering(cells, person)
    found = torch.zeros(1, len(cells), 4)
    found[0, cell] = person
    scores = torch.full((1, len(cells)), -12.0)
    scores[0, cell] = 12.0
    right = detection_loss(scores, found, cells, [person], [boxes()])
    assert sum(map(float, right)) < 1e-3
    score, box = detection_loss(-scores, found, cells, [person], [boxes()])
    assert float(score) > 10
    assert float(box) == 0
    alarm = torch.full((1, len(cells)), -12.0)
    alarm[0, cell] = 12.0
    assert float(detection_loss(alarm, found, cells, [boxes()], [boxes()])[0]) > 10
    assert float(detection_loss(alarm, found, cells, [boxes()], [boxes([0.0, 0, 96, 96])])[0]) < 1e-3


def test_generalised_iou_of_boxes_apart_falls_with_their_distance():
    first = boxes([0.0, 0, 2, 2], [0.0, 0, 2, 2], [0.0, 0, 2, 2])
    overlap, generalised = ious(first, boxes([0.0, 0, 2, 2], [1.0, 0, 3, 2], [4.0, 0, 6, 2]))
    assert overlap.tolist() == pytest.approx([1, 1 / 3, 0])
    assert generalised.tolist() == pytest.approx([1, 1 / 3, -1 / 3])


def test_gradients_reach_every_weight():
    torch.manual_seed(0)
    detector = PersonDetector()
    scores, found = detector(torch.randn(2, 3, SIDE, SIDE))
    people = [boxes([40.0, 40, 52, 70]), boxes([10.0, 0, 80, 96])]
    sum(detection_loss(scores, found, grid(SIDE, SIDE), people, [boxes(), boxes()])).backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in detector.parameters())
    assert sum(weight.numel() for weight in detector.parameters()) < 450_000


def test_boxes_follow_their_people_into_patches():
    """A bright person on black: in every patch the bright pixels fill the box."""
    pixels = np.zeros((300, 400, 3), np.uint8)
    pixels[100:180, 150:180] = 255
    frame = Frame(pixels, Labelled(None, np.array([[150, 100, 180, 180]], np.float32), NOBODY))
    empty = Frame(np.zeros_like(pixels), Labelled(None, NOBODY, NOBODY))
    seen = 0
    for number in range(40):
        patch = cut_patch(frame, empty, SIDE, stream("patch", number))
        for left, top, right, bottom in patch.boxes:
            seen += 1
            grey = patch.pixels.astype(float).mean(axis=2)
            inside = grey[round(top) : round(bottom), round(left) : round(right)].mean()
            outside = np.ones(grey.shape, bool)
            outside[max(int(top) - 3, 0) : int(bottom) + 4, max(int(left) - 3, 0) : int(right) + 4] = False
            assert patch.boxes.min() >= 0
            assert patch.boxes.max() <= SIDE
            if outside.any():
                assert inside > np.median(grey[outside])
    assert seen > 20


def test_the_graph_says_in_the_camera_process_what_the_network_says(tmp_path):
    torch.manual_seed(1)
    detector = PersonDetector().eval()
    with torch.no_grad():
        detector.head[-1].bias[0] = 0
        detector.head[-1].weight.mul_(30)
    side = 32 * SCALES[-1]
    export_detector(detector, tmp_path, size=(side, side))
    assert (tmp_path / MODEL).stat().st_size < 1_000_000
    pixels = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    found = open_detector(str(tmp_path), threshold=0.5).detect(pixels)
    surest = []
    for scale in SCALES:
        smaller = pixels.reshape(side // scale, scale, side // scale, scale, 3).mean(axis=(1, 3))  # [h, w, 3]
        image = (torch.from_numpy(smaller).permute(2, 0, 1)[None].float() / 255 - MEAN) / STD
        with torch.no_grad():
            scores, expected = fused(detector)(image)
        best = int(scores[0].argmax())
        surest.append((float(scores[0, best].sigmoid()), (expected[0, best] * scale).clamp(0, side).tolist()))
    score, box = max(surest)
    assert found.scores[0] == pytest.approx(score, abs=1e-4)
    assert found.boxes[0] == pytest.approx(box, abs=0.1)


@pytest.fixture
def frame(tmp_path):
    folder = tmp_path / "frames" / "00000"
    folder.mkdir(parents=True)
    Image.fromarray(np.zeros((60, 80, 3), np.uint8)).save(folder / "00.jpg")
    rows = [[10, 10, 20, 40, 1.0], [50, 10, 60, 40, 0.9], [30, 10, 40, 40, 0.1]]
    (folder / BOXES).write_text(json.dumps({"00.jpg": rows}))
    return read_frames(tmp_path / "frames")[0]


def test_a_detector_is_scored_by_whom_it_finds_once(frame):
    assert len(frame.boxes) == 2
    assert len(frame.unclear) == 1

    def find(pixels):
        assert pixels.shape == (60, 80, 3)
        there = [[10, 11, 20, 40], [11, 10, 20, 40], [30, 10, 40, 40], [0, 50, 9, 60]]
        return Detections(np.array(there, np.float32), np.array([0.9, 0.8, 0.7, 0.6], np.float32))

    found = look(find, [frame])
    assert found.right.tolist() == [True, False, False]  # twice the same, the hidden one left out, nobody there
    assert found.at(0.85) == (0.5, 0.0)
    assert found.at(0.1) == (0.5, 2.0)
    assert found.average_precision() == pytest.approx(0.5)
    text = card({"this detector": found}, 700, 900, 882_000)
    assert "| this detector | 0.500 | 50 %, 2.00 | 50 %, 2.00 | 50 %, 2.00 |" in text
    assert "0.88 MB" in text


def test_a_broken_frame_is_named(frame):
    frame.path.write_bytes(b"no image")
    with pytest.raises(Failure, match=r"00\.jpg is no image"):
        Frame.read(frame)


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on"),
        (UserError("no such folder"), 2, "error: no such folder"),
        (Failure("the disk is full"), 1, "error: the disk is full"),
    ],
)
def test_what_ends_the_making_of_a_model_is_one_line(tmp_path, capsys, error, status, told):
    def fail(*_):
        raise error

    assert run(fail, Options(tmp_path, 1.0)) == status
    assert capsys.readouterr().err == f"{told}\n"


@pytest.mark.parametrize(("stages", "done"), [(["last"], True), (["long", "last"], False)])
def test_a_last_stage_that_was_still_begun_in_time_is_the_end(stages, done):
    deadline, ran = Deadline(60), []

    def stage(name):
        ran.append(name)
        deadline.moment = 0.0  # time runs out meanwhile

    assert all_done([lambda name=name: stage(name) for name in stages], deadline) == done
    assert ran == stages[:1]


def test_a_model_is_not_made_where_nothing_can_be_written(tmp_path, capsys):
    (tmp_path / "file").touch()
    assert make.main(Options(tmp_path / "file" / "out", 1.0)) == 2
    assert capsys.readouterr().err.startswith("error: cannot write to the run folder")


@pytest.mark.slow
def test_a_small_detector_is_made_from_nothing_and_the_same_command_goes_on(tmp_path):
    options = Options(tmp_path, 69.0, small=True)
    assert make.main(replace(options, minutes=0.01)) == 75  # left in time
    assert make.main(options) == 0
    assert "| HOG |" in (tmp_path / "detector" / "README.md").read_text()
