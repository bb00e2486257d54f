"""Which images each step of an epoch trains on: P identities with K images each.

The rule is the field's (the random identity sampler of Hermans et al., "In Defense of the Triplet Loss"): the
images of an identity are shuffled and cut into chunks of K, what remains is dropped for this epoch; each step
takes a chunk from each of P identities drawn at random among those that have one left, until fewer than P do.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import numpy as np

from pat.base.errors import UserError


def batches_of_epoch(
    labels: np.ndarray,
    cameras: np.ndarray,
    *,
    identities: int,
    images: int,
    spread_cameras: bool,
    seed: int,
    epoch: int,
    alike: np.ndarray | None = None,
) -> np.ndarray:
    """Indices of the images of every step, i64 [steps, identities * images]; `images` of one identity adjoin.

    A pure function of its arguments: the same seed and epoch give the same batches on every machine. An identity
    with fewer than `images` images repeats them, no more than it must. With `spread_cameras` an identity's
    images are taken from its cameras in turn.
    labels, cameras: i64 [N], of each image.

    With `alike` i64 [labels, identities - 1] (graph sampling) a batch is an identity with those alike; each has
    its turn, in random order, until there are as many steps as there would be without.

    Raises UserError when there are fewer identities than a batch takes.
    """
    known, counts = np.unique(labels, return_counts=True)
    if len(known) < identities:
        fits = f"--identities-per-batch {len(known)} or less fits" if len(known) > 1 else "nobody to be told from"
        raise UserError(f"the source has {len(known)} identities and a batch takes {identities}; {fits}")
    rng = np.random.default_rng([seed, epoch])
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])

    def cut(place: int) -> np.ndarray:
        return _chunks(members[place], cameras, images, spread_cameras, rng)

    chunks = [cut(place) for place in range(len(known))]
    sizes, used = np.array([len(chunk) for chunk in chunks]), np.zeros(len(chunks), dtype=np.int64)
    batches = []
    while np.count_nonzero(used < sizes) >= identities:
        chosen = rng.choice(np.flatnonzero(used < sizes), identities, replace=False)
        batches.append(np.concatenate([chunks[i][used[i]] for i in chosen]))
        used[chosen] += 1
    if alike is not None:
        groups = _groups_of_the_alike(known, alike, len(batches), rng)
        turns = [_turns(functools.partial(cut, place), first) for place, first in enumerate(chunks)]
        batches = [np.concatenate([next(turns[i]) for i in group]) for group in groups]
    return np.stack(batches)  # [steps, P * K]


def _groups_of_the_alike(known: np.ndarray, alike: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Places in `known` of the identities of each step, i64 [steps, P]."""
    rounds = -(-steps // len(known))
    first = np.concatenate([rng.permutation(len(known)) for _ in range(rounds)])[:steps]
    return np.column_stack([first, np.searchsorted(known, alike[first])])


def _turns(cut: Callable[[], np.ndarray], chunks: np.ndarray) -> Iterator[np.ndarray]:
    """The groups of an identity's images, one after the other; cut anew when they have all been taken."""
    while True:
        yield from chunks
        chunks = cut()


def _chunks(
    members: np.ndarray, cameras: np.ndarray, images: int, spread_cameras: bool, rng: np.random.Generator
) -> np.ndarray:
    """The images of an identity in random groups, i64 [groups, images]; at least one group."""
    members = rng.permutation(members)
    if spread_cameras:
        members = members[_cameras_in_turn(cameras[members], rng)]
    if len(members) < images:
        members = np.resize(members, images)  # repeats from the start
    groups = len(members) // images
    return members[: groups * images].reshape(groups, images)


def _cameras_in_turn(cameras: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Order in which each camera gives an image before any gives its next; the cameras' order is random."""
    kinds, which = np.unique(cameras, return_inverse=True)
    turn = np.empty(len(cameras), dtype=np.int64)
    for kind in range(len(kinds)):
        of_camera = np.flatnonzero(which == kind)
        turn[of_camera] = np.arange(len(of_camera))
    return np.lexsort((rng.permutation(len(kinds))[which], turn))
