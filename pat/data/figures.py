"""The published sizes of the data sets, to tell a whole copy from half a one."""

from __future__ import annotations

from dataclasses import dataclass

from pat.data.sample import DISTRACTOR, JUNK

Size = tuple[int, int]
"""Identities (without junk and distractors) and images (with them)."""


@dataclass(frozen=True)
class Figures:
    """What a data set holds as its authors, or the makers of its protocol, count it."""

    whole: Size
    """Of every image that any part or any split uses."""
    cameras: int | None
    """None where none are told, or where the names do not tell all that the authors count."""
    train: Size | None = None
    query: Size | None = None
    gallery: Size | None = None
    """Of the first split, where there are several; None for a part that is not there or not published."""
    nobody: frozenset[int] = frozenset({JUNK})
    """Identities that are no person."""
    counted_apart: bool = False
    """True where the same number is one person in train and another in query and gallery."""


_WITH_DISTRACTORS = frozenset({JUNK, DISTRACTOR})

FIGURES: dict[str, Figures] = {
    # Zheng et al., ICCV 2015, and the readme of v15.09.15: 19,732 images to test, 3,819 of them junk.
    "market1501": Figures((1501, 36036), 6, (751, 12936), (750, 3368), (750, 19732), _WITH_DISTRACTORS),
    # Wei et al., CVPR 2018; training is list_train (30,248) and list_val (2,373).
    "msmt17": Figures((4101, 126441), 15, (1041, 32621), (3060, 11659), (3060, 82161), counted_apart=True),
    # Zheng et al., ICCV 2017: 702 people to train on, 702 to search for, 408 more in the gallery.
    "dukemtmc": Figures((1812, 36411), 8, (702, 16522), (702, 2228), (1110, 17661)),
    # Zhong et al., CVPR 2017, and the readme of the protocol.
    "cuhk03": Figures((1467, 14097), 2, (767, 7365), (700, 1400), (700, 5332)),
    "cuhk03-labeled": Figures((1467, 14096), 2, (767, 7368), (700, 1400), (700, 5328)),
    # Li and Wang, CVPR 2013: 971, 306, 107, 193 and 239 people in five pairs of cameras, four images each.
    "cuhk02": Figures((1816, 7264), 10, (1816, 7264)),
    # As Song et al., CVPR 2019, cut and count it.
    "cuhk-sysu": Figures((11934, 34574), None, (11934, 34574)),
    # Gray et al., PETS 2007.
    "viper": Figures((632, 1264), 2, (316, 632), (316, 316), (316, 316)),
    # Hirzer et al., SCIA 2011: 385 people in cam_a, of whom 200 count, and 749 in cam_b.
    "prid": Figures((749, 949), 2, (100, 200), (100, 100), (649, 649)),
    # Loy et al., CVPR 2009, and the readme of the release: 250 pairs and 775 images of nobody in particular.
    "grid": Figures((250, 1275), None, (125, 250), (125, 125), (125, 900), _WITH_DISTRACTORS),
    # Zheng et al., BMVC 2009; how many images train depends on who does.
    "ilids": Figures((119, 476), None, None, (60, 60), (60, 60)),
    # Wang et al., ACM Multimedia 2020: the subset that the paper trains on.
    "randperson": Figures((8000, 132145), 19, (8000, 132145)),
}
"""By layout. The sources are those that the layouts' own files name in full."""
