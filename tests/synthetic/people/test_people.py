from dataclasses import fields, replace

import numpy as np
import pytest

from pat.synthetic.people import dress
from pat.synthetic.people.figure import figure
from pat.synthetic.people.person import Person
from pat.synthetic.people.pose import ACTIONS, Pose
from pat.synthetic.people.render import ground_shadow, render
from pat.synthetic.people.shade import PATTERNS
from pat.synthetic.people.view import Light, look_at
from pat.synthetic.people.wardrobe import COLOURS, HANDS_FREE, PARTS, WARDROBES

DIRECTION = np.array([0.5, -0.5, 0.7]) / np.linalg.norm([0.5, -0.5, 0.7])
LIGHT = Light(DIRECTION, np.full(3, 0.6, np.float32), np.full(3, 0.6, np.float32), np.full(3, 0.4, np.float32))
VIEW = look_at((0.0, -7.0, 1.8), (0.0, 0.0, 0.95), focal=440, height=128, width=64)
STANDING = Pose.walking(0.0, 0.0)
PLAIN = replace(
    Person.sample(1), top="jumper", top_pattern="plain", opened=0.0, bottom="jeans", bottom_pattern="plain",
    bag="none", hat="none", hair="short", umbrella=False, trolley=False,
)  # fmt: skip


def drawn(person, pose=STANDING, heading=0.0):
    return render([figure(person, pose, heading=heading)], VIEW, LIGHT)


def mean_colour(layer, part):
    mask = (layer.part == PARTS.index(part)) & (layer.alpha == 1)
    return layer.colour[mask].mean(0)


def test_a_person_is_the_same_in_any_order():
    once = [Person.sample(seed) for seed in (3, 1, 2)]
    again = [Person.sample(seed) for seed in (1, 2, 3)]
    assert once == [again[2], again[0], again[1]]
    first, _, second = drawn(once[0]), drawn(once[1]), drawn(once[0])
    for field in fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


def test_layers_agree_with_each_other():
    layer = drawn(PLAIN)
    covered = layer.alpha > 0
    assert 0.05 < covered.mean() < 0.6
    np.testing.assert_array_equal(covered, layer.part > 0)
    np.testing.assert_array_equal(covered, layer.owner == 1)
    np.testing.assert_array_equal(covered, np.isfinite(layer.depth))
    assert np.abs(layer.depth[covered] - 7).max() < 1
    assert (layer.colour[~covered] == 0).all()
    assert np.isfinite(layer.colour).all()


def test_feet_stand_on_the_ground():
    for phase in (0.0, 1.0, 2.5):
        assert abs(figure(PLAIN, Pose.walking(phase, 1.0)).vertices[:, 2].min()) < 0.03


@pytest.mark.parametrize(
    ("part", "field"), [("top", "top_colour"), ("bottom", "bottom_colour"), ("shoes", "shoe_colour")]
)
@pytest.mark.parametrize(("name", "strongest"), [("red", 0), ("green", 1), ("blue", 2)])
def test_colours_are_true_to_the_image(part, field, name, strongest):
    colour = mean_colour(drawn(replace(PLAIN, **{field: name})), part)
    assert colour.argmax() == strongest
    assert colour.max() > 1.5 * np.median(colour)


def test_white_is_brighter_than_black():
    white, black = (
        mean_colour(drawn(replace(PLAIN, top_colour=name)), "top").mean() for name in ("white", "black")
    )
    assert white > 8 * black


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"bag": "backpack"}, "bag"),
        ({"bag": "handbag"}, "bag"),
        ({"bag": "suitcase"}, "bag"),
        ({"bag": "bicycle"}, "vehicle"),
        ({"trolley": True}, "vehicle"),
        ({"umbrella": True}, "umbrella"),
        ({"hat": "cap"}, "hat"),
        ({"hat": "headscarf", "hair": "covered"}, "hat"),
        ({"hair": "long"}, "hair"),
    ],
)
def test_what_a_person_has_is_seen(changes, part):
    seen = (drawn(replace(PLAIN, **changes), heading=np.pi - 0.6).part == PARTS.index(part)).sum()
    without = (drawn(replace(PLAIN, hair="bald"), heading=np.pi - 0.6).part == PARTS.index(part)).sum()
    assert seen > 20
    assert without == 0


def posed(action):
    """The first pose of an action."""
    return next(p for p in (Pose.sample(np.random.default_rng(seed)) for seed in range(400)) if p.action == action)


@pytest.mark.parametrize("action", ["phone", "call", "carry"])
def test_busy_hands_hold_something_unless_a_bag_takes_one(action):
    def held(bag):
        person = replace(PLAIN, bag=bag)
        return max(
            (drawn(person, posed(action), heading=h).part == PARTS.index("accessory")).sum() for h in (0, 1.5, 4.5)
        )

    assert held("none") > (4 if action == "call" else 8)
    assert (held("handbag") > 4) == (action != "carry")  # a parcel takes both hands


def test_hands_in_pockets_are_not_seen():
    def hands(pose):
        return figure(PLAIN, pose).cloth[:, 3].max()

    assert hands(posed("pockets")) < 1.1 < hands(posed("walk"))


@pytest.mark.parametrize("height", [0.15, 0.5, 0.8])
def test_both_hands_hold_the_bar_of_a_trolley_that_stands_on_the_ground(height):
    phenotypes = tuple((dict(PLAIN.phenotypes) | {"height": height}).items())
    person = replace(PLAIN, phenotypes=phenotypes, trolley=True)
    poses = [Pose.sample(np.random.default_rng(seed)) for seed in range(120)]
    assert {pose.action for pose in poses} == set(ACTIONS)
    for pose in poses:
        pushing = figure(person, pose)
        assert not {dress.ACCESSORY, dress.PARCEL} & set(pushing.material)
        solid = pushing.vertices[np.unique(pushing.faces[pushing.material == dress.VEHICLE])]
        assert abs(solid[:, 2].min()) < 1e-3
        bar = solid[solid[:, 2] > 0.6]
        assert np.ptp(bar[:, 2]) < 0.05
        for side in (-1, 1):
            arm = np.where(pushing.cloth[:, 0] * side > 0, pushing.cloth[:, 3], -1)
            wrist = pushing.vertices[np.abs(arm - 1) < 0.02].mean(0)
            assert np.hypot(*(wrist - bar.mean(0))[1:]) < 0.13
            assert 0.55 < side * wrist[0] / bar[:, 0].max() < 0.85
            assert arm.max() > 1.1  # the hand is there


@pytest.mark.parametrize("action", ["walk", "turn"])
def test_who_pushes_a_trolley_is_otherwise_the_same(action):
    """No pixel changes but those of arms, top and trolley; under a lamp its shadow would fall on others."""
    view, overcast = replace(VIEW, samples=1), replace(LIGHT, sun=np.zeros(3, np.float32))
    for heading in (0.0, 2.0, 4.0):
        before, after = (
            render([figure(replace(PLAIN, trolley=pushed), posed(action), heading=heading)], view, overcast)
            for pushed in (False, True)
        )
        moved = [PARTS.index(part) for part in ("top", "skin", "vehicle")]
        calm = ~np.isin(before.part, moved) & ~np.isin(after.part, moved)
        assert (before.alpha[calm] > 0).sum() > 200
        for field in fields(before):
            np.testing.assert_array_equal(getattr(before, field.name)[calm], getattr(after, field.name)[calm])


def test_a_hood_hangs_or_hides_the_hair():
    tops = [
        replace(PLAIN, top="hoodie", tint=(*PLAIN.tint[:35], drawn_at, *PLAIN.tint[36:]))
        for drawn_at in (2.0, -2.0)
    ]
    assert [person.hood for person in tops] == ["down", "up"]
    hair = [(drawn(person, heading=2.5).part == PARTS.index("hair")).sum() for person in tops]
    assert hair[0] > 20
    assert hair[1] == 0
    assert replace(tops[1], hat="cap").hood == "down"
    assert replace(tops[1], top="shirt").hood == "none"


@pytest.mark.parametrize("bottom", ["leggings", "wide trousers", "knee skirt"])
def test_a_bottom_does_not_show_through_the_top(bottom):
    """Within the outline of the top, away from its border, nothing of what is worn under it."""
    for heading in (0.0, 2.0, 4.0):
        part = drawn(replace(PLAIN, bottom=bottom), Pose.walking(0.8, 1.0), heading).part
        top = part == PARTS.index("top")
        around = sum(np.roll(top, (i, j), (0, 1)).astype(int) for i in range(-2, 3) for j in range(-2, 3))
        assert ((part == PARTS.index("bottom")) & (around >= 16)).sum() <= 2


def test_a_longer_garment_covers_more():
    def bottom(**changes):
        return (drawn(replace(PLAIN, **changes)).part == PARTS.index("bottom")).sum()

    assert bottom() > 1.3 * bottom(bottom="shorts")
    assert bottom() > 1.3 * bottom(top="long coat")


def test_each_pattern_looks_different():
    person = replace(PLAIN, top_colour="white", top_second="black", inner_colour="red", top_scale=0.08)
    seen = {}
    for name in set(PATTERNS) - {"side stripe"}:  # which is for trousers
        front, back = (drawn(replace(person, top_pattern=name), heading=h).colour for h in (0.0, np.pi))
        seen[name] = np.concatenate([front, back])
    names = list(seen)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert np.abs(seen[one] - seen[other]).max() > 0.05, (one, other)


def test_look_alikes_differ_in_the_one_attribute_they_name():
    family = Person.look_alikes(5, 6)
    first = family[0]
    assert len(set(family)) == 6
    assert first.changed == ""
    for other in family[1:]:
        differ = {f.name for f in fields(Person) if getattr(first, f.name) != getattr(other, f.name)}
        assert differ == {other.changed, "changed"}
        views = [(drawn(first, heading=h), drawn(other, heading=h)) for h in (0.0, 2.5, 4.4)]
        assert max(np.abs(a.colour - b.colour).max() for a, b in views) > 0.01, other.changed


def test_all_of_a_family_push_a_trolley_or_nobody(monkeypatch):
    def families(share):
        monkeypatch.setitem(WARDROBES, "train", replace(WARDROBES["train"], trolleys=share))
        return [Person.look_alikes(seed, 4) for seed in range(60)]

    for without, family in zip(families(0.0), families(1.0), strict=True):
        first = family[0]
        assert first.trolley == (first.bag in HANDS_FREE and not first.umbrella)
        if not first.trolley:
            assert family == without
            continue
        assert replace(first, trolley=False) == without[0]
        for other in family[1:]:
            assert replace(first, **{other.changed: getattr(other, other.changed)}, changed=other.changed) == other
            assert other.bag in HANDS_FREE


def test_trolleys_are_drawn_in_the_training_domain_alone():
    free = [p for p in map(Person.sample, range(2000)) if p.bag in HANDS_FREE and not p.umbrella]
    assert np.mean([p.trolley for p in free]) == pytest.approx(WARDROBES["train"].trolleys, abs=0.01)
    assert not any(Person.sample(seed, style="test").trolley for seed in range(2000))


def test_the_two_wardrobes_share_no_pattern():
    assert not set(WARDROBES["train"].patterns) & set(WARDROBES["test"].patterns)
    for style, wardrobe in WARDROBES.items():
        people = [Person.sample(seed, style=style) for seed in range(200)]
        assert {p.top_pattern for p in people} - {"plain", "high-visibility"} <= set(wardrobe.patterns)
        assert {p.bag for p in people} <= set(wardrobe.bags)


def test_people_are_many_and_common_colours_common():
    people = [Person.sample(seed) for seed in range(400)]
    share = {name: np.mean([p.top_colour == name for p in people]) for name in COLOURS}
    assert share["black"] + share["white"] + share["grey"] + share["dark grey"] > 0.25
    tones = np.array([np.mean(p.skin) for p in people])
    assert np.histogram(np.log(tones), bins=4)[0].min() > 40
    assert 0.4 < np.mean([p.sex == "female" for p in people]) < 0.6


def test_attributes_are_flat():
    attributes = Person.sample(4).attributes()
    named = {"top", "top_colour", "top_red", "bag", "trolley", "hat", "hair", "sex", "body_age", "tone"}
    assert named <= set(attributes)
    assert all(isinstance(value, str | float | bool | int) for value in attributes.values())


def test_two_figures_know_their_owners_and_the_nearer_wins():
    near = figure(PLAIN, STANDING, position=(0.0, -1.0))
    far = figure(PLAIN, STANDING, position=(0.15, 0.5))
    layer = render([far, near], VIEW, LIGHT)
    assert set(np.unique(layer.owner)) == {0, 1, 2}
    alone = render([near], VIEW, LIGHT)
    np.testing.assert_array_equal(layer.owner[alone.alpha == 1], 2)


def test_a_shadow_falls_away_from_the_lamp():
    view = look_at((0.0, -6.0, 5.0), (0.0, 0.0, 0.5), focal=200, height=128, width=128)
    shadow = ground_shadow([figure(PLAIN, STANDING)], view, LIGHT)
    assert shadow.min() == 0
    assert shadow.max() == 1
    plane = np.linalg.inv(view.matrix[:, [0, 1, 3]])
    rows, columns = np.nonzero(shadow > 0.5)
    ground = np.stack([columns + 0.5, rows + 0.5, np.ones(len(rows))], axis=1) @ plane.T
    assert (ground[:, :2] / ground[:, 2:]).mean(0) @ LIGHT.direction[:2] < -0.2


def test_an_empty_street_is_empty():
    assert render([], VIEW, LIGHT).alpha.max() == 0
    assert ground_shadow([], VIEW, LIGHT).max() == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda: Person.sample(-1),
        lambda: Person.sample(1, style="winter"),
        lambda: Person.look_alikes(1, 0),
        lambda: look_at((0, 0, 2), (0, 0, 1), focal=1, height=1, width=1),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match=r".+"):
        call()
