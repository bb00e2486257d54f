"""How the tokens are cut into tiles, and how large the tiles of each kernel are."""

from dataclasses import dataclass
from functools import cache
from itertools import product

from kernels.tuning import tiles_for


@dataclass(frozen=True)
class Cut:
    """N tokens as one small head tile and full body tiles."""

    head: int  # tokens in the head: cls, parts, registers, and patches that fill no body tile
    rows: int  # rows of the head tile: the power of two, 16 or more, that holds them
    body: int  # tokens in the body, all patches
    multiple: int  # the body is a whole number of these

    @property
    def whole(self) -> bool:
        """Whether one program may hold all tokens of an image and attention head: at most 144."""
        return self.rows == 16 and self.body in (32, 64, 128)

    @property
    def padded(self) -> int:
        """Rows and columns of scores that are computed."""
        return self.rows + self.body

    @property
    def waste(self) -> float:
        """Share of the multiply-adds between tokens that are spent on padding, when all tokens ask."""
        return 1 - ((self.head + self.body) / self.padded) ** 2


@dataclass(frozen=True)
class Tiles:
    """Rows that a program owns, rows of one step of its walk over the body, and two options of Triton.

    With `whole` a program owns all tokens of an image and attention head (`triton_whole`): the block is the body.
    """

    block: int
    step: int
    warps: int
    stages: int
    whole: bool = False


MOST_SPECIAL = 17
"""Tokens (cls, parts, registers) that a head tile has room for beside the rest of the grid."""

ROWS = {128: (16, 32), 64: (16, 32), 32: (16, 32), 16: (32,)}
"""Multiple -> head tiles. Larger ones spill: in the backward pass 784 bytes a thread with 64 rows, 3 to 4 KB with
128. Bodies of a multiple of 16 are for the few grids that leave more than 32 rows otherwise."""


@cache
def cut(tokens: int, special: int) -> Cut:
    """The cut for `tokens` tokens of which the first `special` (cls, parts, registers) must lie in the head.

    Large tiles are reused more, so smaller ones have to save a tenth of the rows to be taken.
    132 tokens are 4 + 128, 200 are 8 + 3 * 64, 229 (15 x 15 + 4) are 5 + 7 * 32, 260 are 4 + 2 * 128.
    Raises ValueError for more than MOST_SPECIAL.
    """
    if special > MOST_SPECIAL:
        raise ValueError(f"{special} tokens are cls, parts and registers; expected at most {MOST_SPECIAL}")
    best = None
    for multiple, rows in ROWS.items():
        head = special + (tokens - special) % multiple
        this = Cut(head, max(16, power_of_two(head)), tokens - head, multiple)
        if this.rows in rows and (best is None or this.padded < 0.9 * best.padded):
            best = this
    assert best is not None, "a head of at most 17 + 15 tokens fits 32 rows"
    return best


WHOLE_BACKWARD = ("sm_90", "sm_100", "sm_110", "cpu")
"""Where the backward kernel that holds a whole head fits the registers: matrix units that read shared memory.

Elsewhere it spills 40 bytes a thread and more, whatever the step and the warps. "cpu" is Triton's interpreter.
"""


def forward_tiles(dim: int, bits: int, where: Cut, arch: str | None = None) -> Tiles:
    """Tiles of the forward kernel: as measured for this architecture, else the default."""
    return tiles_for("part_attention_forward", arch, key(dim, bits, where), forward_candidates(dim, bits, where))


def backward_tiles(dim: int, bits: int, where: Cut, arch: str | None = None) -> Tiles:
    """As `forward_tiles`."""
    candidates = backward_candidates(dim, bits, where, arch)
    return tiles_for("part_attention_backward", arch, key(dim, bits, where), candidates)


def key(dim: int, bits: int, where: Cut) -> str:
    """What the choice of tiles depends on, besides the architecture."""
    return f"{bits}-bit d{dim} " + (
        f"whole{where.body}" if where.whole else f"tile{where.multiple} head{where.rows}"
    )


def forward_candidates(dim: int, bits: int, where: Cut) -> tuple[Tiles, ...]:
    """What may be launched, the default first. The body is a whole number of every block and step.

    The default is chosen from the resource report: no spills on any architecture, at most 99 KiB of shared
    memory. Up to D = 64 two steps of keys and values are in flight while a third is multiplied; in tiles of 64
    rows one, for with two Triton 3.9 spills 8 bytes on sm_86, 87 and 89. Beyond, a tile
    of 128 needs its eight warps to hold the sums; one of 64 spills a few registers on sm_80 whatever the rest.
    Where D is no power of two its bounds take registers too, so steps are shorter, on sm_120 for want of them: at
    D = 96 those of 32 spill in tiles of 128; beside a head of 32 rows those of 64 at D = 48, of 32 at D = 80.
    fp32 is multiplied without matrix instructions: small tiles, for checking more than for speed.

    The others give a warp 16 or 32 rows: what one or two matrix instructions span.
    """
    return _forward_candidates(dim, bits, where.multiple, where.rows, where.body if where.whole else 0)


def backward_candidates(dim: int, bits: int, where: Cut, arch: str | None = None) -> tuple[Tiles, ...]:
    """As `forward_candidates`, for an architecture. Two sums and five operands are alive, so tiles are smaller.

    With three stages the D = 64 kernel takes 168 registers on sm_90, so that three programs fit at a time;
    with two it takes 172, and only two fit. Blocks of 128 read 15 instead of 20 tensors from L2.
    """
    whole = where.body if where.whole and arch in WHOLE_BACKWARD else 0
    return _backward_candidates(dim, bits, where.multiple, where.rows, whole)


def candidates(backward: bool, dim: int, bits: int, where: Cut, arch: str) -> tuple[Tiles, ...]:
    """Those of one of the two kernels."""
    return backward_candidates(dim, bits, where, arch) if backward else forward_candidates(dim, bits, where)


@cache
def _forward_candidates(dim: int, bits: int, multiple: int, rows: int, whole: int) -> tuple[Tiles, ...]:
    small = min(multiple, 32)
    if bits == 32:
        return (Tiles(small, small, 4 if dim <= 64 else 8, 1),)
    bounded = dim != power_of_two(dim)
    tight = bounded and rows == 32
    if multiple == 128:
        default = Tiles(128, 64, 8, 3) if dim <= 64 else Tiles(128, 16 if bounded else 32, 8, 2)
    elif multiple == 64 and dim <= 64:
        default = Tiles(64, 32 if tight else 64, 4, 2)
    else:
        default = Tiles(small, 16 if tight and dim > 64 else small, 4, 2)
    found = _with_default_first(default, _grid(((128, 8), (128, 4), (64, 4)), (32, 64, 128), multiple))
    choices: tuple[tuple[int, int], ...] = ((64, 4), (32, 4), (128, 8))
    if dim == whole == 32:  # with four warps Triton 3.9 spills 16 bytes on sm_120
        choices = ((32, 8), (32, 4))
    return _whole_tiles(whole, choices, dim) + found


@cache
def _backward_candidates(dim: int, bits: int, multiple: int, rows: int, whole: int) -> tuple[Tiles, ...]:
    small = min(multiple, 32)
    if bits == 32:
        return (Tiles(small, small, 8, 1),)
    if dim <= 64:
        default = Tiles(min(multiple, 64), small, 4, 3 if multiple > 32 else 2)
    elif rows == 32:  # with tiles of 32 rows 8 bytes spill on sm_80 and sm_87
        default = Tiles(16, 16, 8, 1)
    else:
        default = Tiles(small, small, 8, 1)
    found = _with_default_first(default, _grid(((128, 8), (64, 4), (64, 8)), (32, 64), multiple))
    return _whole_tiles(whole, ((32, 8), (64, 8)), dim) + found


def _whole_tiles(body: int, choices: tuple[tuple[int, int], ...], dim: int) -> tuple[Tiles, ...]:
    """(rows of a step, warps) of the kernels that hold a whole head; none where D > 64, for want of registers.

    Where the body is smaller than a step it is one step.
    """
    if not body or dim > 64:
        return ()
    return tuple(dict.fromkeys(Tiles(body, min(step, body), warps, 1, whole=True) for step, warps in choices))


def _grid(blocks: tuple[tuple[int, int], ...], steps: tuple[int, ...], multiple: int) -> list[Tiles]:
    """All combinations of (block, warps), step and 2 or 3 stages that cut `multiple` rows evenly."""
    return [
        Tiles(block, step, warps, stages)
        for (block, warps), step, stages in product(blocks, steps, (2, 3))
        if multiple % block == multiple % step == 0
    ]


def _with_default_first(default: Tiles, others: list[Tiles]) -> tuple[Tiles, ...]:
    return default, *(tiles for tiles in others if tiles != default)


def power_of_two(number: int) -> int:
    """The smallest power of two that is at least `number`."""
    return 1 << (number - 1).bit_length()
