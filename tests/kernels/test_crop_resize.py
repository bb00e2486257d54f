"""Crop-resize: the reference against Pillow; the kernel (interpreted without a GPU) against the reference."""

from itertools import product

import numpy as np
import pytest
import torch
from PIL import Image

from kernels.crop_resize import crop_resize
from kernels.crop_resize.reference import resampling_weights, to_rgb

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

HEIGHT, WIDTH = 46, 60
LEVELS = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}  # crops in levels, 0 .. 255
BOXES = torch.tensor(
    [
        [3.3, 5.7, 28.2, 40.4],  # fractions everywhere
        [0.0, 0.0, 60.0, 46.0],  # the whole frame
        [-10.0, -5.0, 15.0, 20.0],  # over the top left corner
        [40.5, 30.25, 400.0, 500.0],  # over the bottom right corner
        [10.0, 10.0, 12.0, 13.5],  # a few pixels, strongly enlarged
        [20.0, 10.0, 36.0, 42.0],  # as many pixels as the 32 x 16 crop: copied
        [59.0, 45.0, 60.0, 46.0],  # the last pixel
        [7.1, 8.2, 7.3, 40.0],  # narrower than a pixel
    ]
)
# In levels: 0.5 for the rounding at the end, and 0.5 * sum |w| for the one between the passes.
TOLERANCE = {"bilinear": 1.001, "bicubic": 1.2}


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def extremes(*shape: int, seed: int = 0) -> torch.Tensor:
    """Only 0 and 255: bicubic overshoots as far as it can."""
    return (noise(*shape, seed=seed) > 127).to(torch.uint8) * 255


def in_frame(boxes: torch.Tensor) -> torch.Tensor:
    return torch.minimum(boxes.clamp(min=0), torch.tensor([WIDTH, HEIGHT, WIDTH, HEIGHT]))


@pytest.mark.parametrize("make", [noise, extremes])
@pytest.mark.parametrize("size", [(32, 16), (64, 47), (256, 128)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_reference_is_within_the_stated_error_of_pillow(interpolation, size, make):
    frame = make(HEIGHT, WIDTH, 3)
    crops = crop_resize(
        frame, BOXES, size=size, **LEVELS, interpolation=interpolation, dtype=torch.float64, impl="reference"
    )
    resample = Image.Resampling[interpolation.upper()]
    for crop, box in zip(crops, in_frame(BOXES).tolist(), strict=True):
        pillow = Image.fromarray(frame.numpy()).resize(size[::-1], resample, box=tuple(box))
        error = np.abs(np.asarray(pillow, dtype=np.float64).transpose(2, 0, 1) - crop.numpy())
        assert error.max() <= TOLERANCE[interpolation]
        assert error.mean() <= 0.4  # rounding alone gives 0.25 to 0.35


@pytest.mark.parametrize("make", [noise, extremes])
def test_pixels_are_within_a_level_of_pillow(make):
    frame = make(HEIGHT, WIDTH, 3)
    crops = crop_resize(frame, BOXES, size=(48, 24), dtype=torch.uint8, impl="reference")
    assert crops.shape == (len(BOXES), 48, 24, 3)
    assert crops.is_contiguous()
    for crop, box in zip(crops, in_frame(BOXES).tolist(), strict=True):
        pillow = np.asarray(Image.fromarray(frame.numpy()).resize((24, 48), Image.Resampling.BICUBIC, box=box))
        error = np.abs(pillow.astype(int) - crop.numpy().astype(int))
        assert error.max() <= 1
        assert error.mean() <= 0.25  # unrounded values between Pillow's two roundings: about 0.1 to 0.2


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_bound_between_reference_and_pillow_holds_for_the_weights(interpolation):
    worst = 0.0
    for start, length, size in product((0.0, 0.37, 3.9), (0.2, 1.0, 17.3, 60.0, 85.9), (1, 16, 47, 128)):
        weights = resampling_weights(start, min(start + length, 90.0), 90, size, interpolation)[1]
        torch.testing.assert_close(weights.sum(1), torch.ones(size, dtype=torch.float64))
        worst = max(worst, float(weights.abs().sum(1).max()))
    assert 0.5 + 0.5 * worst <= TOLERANCE[interpolation]


def check_kernel(frame: torch.Tensor, boxes: torch.Tensor, dtype: torch.dtype = torch.float32, **options):
    """The kernel is within 1/500 of a level, and the output dtype's own step, of the float64 reference."""
    options = LEVELS | options
    frame, boxes = frame.to(DEVICE), boxes.to(DEVICE)
    expected = crop_resize(frame, boxes, dtype=torch.float64, impl="reference", **options)
    actual = crop_resize(frame, boxes, dtype=dtype, impl="triton", **options)
    assert actual.dtype == dtype
    rtol = torch.finfo(dtype).eps / 2
    torch.testing.assert_close(actual.double(), expected, rtol=rtol, atol=0.002 / 255 / min(options["std"]))


@pytest.fixture
def poisoned_memory():
    """Fresh tensors hold NaN, so that an output nobody wrote shows."""
    torch.use_deterministic_algorithms(True)
    previous = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.utils.deterministic.fill_uninitialized_memory = previous
    torch.use_deterministic_algorithms(False)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize(
    ("size", "boxes", "interpolation"),
    [
        ((32, 16), BOXES, "bicubic"),
        ((21, 37), BOXES[::2], "bilinear"),
        ((2, 3), BOXES[2:4], "bicubic"),
        ((2, 3), BOXES[2:4], "bilinear"),
    ],
)
def test_kernel_matches_reference(size, boxes, interpolation):
    check_kernel(extremes(HEIGHT, WIDTH, 3), boxes, size=size, interpolation=interpolation)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize(
    ("layout", "size", "count"), [("rgb", (32, 16), 3), ("nv12", (21, 17), 1), ("bgr", (2, 3), 1)]
)
def test_kernel_rounds_pixels_of_the_reference(layout, size, count):
    frame = extremes(HEIGHT * 3 // 2, WIDTH) if layout == "nv12" else extremes(HEIGHT, WIDTH, 3)
    frame, boxes = frame.to(DEVICE), BOXES[:count].to(DEVICE)
    options = {"size": size, "layout": layout}
    exact = crop_resize(frame, boxes, dtype=torch.float64, impl="reference", **LEVELS, **options)
    for impl in ("reference", "triton"):
        pixels = crop_resize(frame, boxes, dtype=torch.uint8, impl=impl, **options)  # [n, height, width, 3]
        assert pixels.shape == (count, *size, 3)
        assert (pixels.permute(0, 3, 1, 2).double() - exact).abs().max() <= 0.502


def test_kernel_matches_reference_in_half_precision():
    """Three tiles down and three across, the last ones hanging over."""
    options = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    check_kernel(noise(HEIGHT, WIDTH, 3), BOXES[:1], torch.float16, size=(40, 70), **options)


@pytest.mark.parametrize("layout", ["rgb", "bgr"])
def test_kernel_reads_strided_frames(layout):
    frame = noise(3, HEIGHT + 8, WIDTH * 2).permute(1, 2, 0)[4:-4, ::2]
    assert not frame.is_contiguous()
    check_kernel(frame, BOXES[2:4], size=(20, 12), layout=layout)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
def test_kernel_reads_nv12(matrix):
    frame = noise(HEIGHT * 3 // 2, WIDTH + 16)[:, :WIDTH]  # rows are padded
    check_kernel(frame, BOXES[2:4], size=(18, 12), layout="nv12", matrix=matrix)


def test_kernel_keeps_its_precision_far_from_the_origin():
    boxes = torch.tensor([[4000.3, 1.5, 4080.9, 20.0], [4090.0, 0.0, 4096.0, 24.0]])
    check_kernel(extremes(24, 4096, 3), boxes, size=(16, 32))


def test_any_box_gives_the_reference_result_or_is_refused():
    hypothesis = pytest.importorskip("hypothesis")
    st = hypothesis.strategies
    edge = st.floats(-10, 70, width=32)

    @hypothesis.settings(max_examples=5, deadline=None)
    @hypothesis.given(
        st.tuples(edge, edge, edge, edge),
        st.tuples(st.integers(1, 20), st.integers(1, 20)),
        st.sampled_from(["bilinear", "bicubic"]),
        st.sampled_from(["rgb", "bgr", "nv12"]),
    )
    def holds(corners, size, interpolation, layout):
        x0, y0, x1, y1 = corners
        boxes = torch.tensor([[min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]])
        frame = noise(HEIGHT * 3 // 2, WIDTH) if layout == "nv12" else noise(HEIGHT, WIDTH, 3)
        options = {"size": size, "interpolation": interpolation, "layout": layout}
        inside = in_frame(boxes)
        if (inside[0, 2:] > inside[0, :2]).all():
            check_kernel(frame, boxes, **options)
            return
        for impl in ("reference", "triton"):
            with pytest.raises(ValueError, match=r"boxes\[0\] is .* some area inside the 60 x 46 frame"):
                crop_resize(frame.to(DEVICE), boxes.to(DEVICE), impl=impl, **options)

    holds()


# 8-bit (Y, Cb, Cr) of full-strength colours in video range, as colour-bar generators make them.
COLOUR_BARS = {
    "bt601": {(235, 128, 128): (255, 255, 255), (16, 128, 128): (0, 0, 0), (81, 90, 240): (255, 0, 0),
              (145, 54, 34): (0, 255, 0), (41, 240, 110): (0, 0, 255)},
    "bt709": {(235, 128, 128): (255, 255, 255), (16, 128, 128): (0, 0, 0), (63, 102, 240): (255, 0, 0),
              (173, 42, 26): (0, 255, 0), (32, 240, 118): (0, 0, 255)},
}  # fmt: skip


@pytest.mark.parametrize("matrix", COLOUR_BARS)
def test_nv12_colours(matrix):
    for (y, u, v), rgb in COLOUR_BARS[matrix].items():
        frame = torch.tensor([[y, y], [y, y], [u, v]], dtype=torch.uint8)
        image = to_rgb(frame, "nv12", matrix, torch.float64)
        assert image.shape == (3, 2, 2)
        assert (image - torch.tensor(rgb).view(3, 1, 1)).abs().max() <= 1.6  # the codes above are rounded


def test_nv12_chroma_belongs_to_its_two_by_two_pixels():
    frame = torch.full((6, 4), 128, dtype=torch.uint8)
    frame[5, 3] = 240  # V of the bottom right quarter
    red = to_rgb(frame, "nv12", "bt601", torch.float64)[0]  # [4, 4]
    assert (red[2:, 2:] > red[0, 0] + 100).all()
    assert (red[:2] == red[0, 0]).all()
    assert (red[:, :2] == red[0, 0]).all()


def test_normalisation_and_colour_order():
    frame = torch.empty(8, 8, 3, dtype=torch.uint8)
    frame[:] = torch.tensor([255, 128, 0], dtype=torch.uint8)
    boxes = torch.tensor([[1.0, 1.0, 5.0, 7.0]])
    options = {"size": (4, 2), "mean": (0.5, 0.4, 0.3), "std": (0.5, 0.25, 0.2), "dtype": torch.float64}
    rgb = crop_resize(frame, boxes, impl="reference", **options)
    torch.testing.assert_close(rgb[0, :, 0, 0], torch.tensor([1.0, (128 / 255 - 0.4) / 0.25, -1.5]).double())
    bgr = crop_resize(frame, boxes, impl="reference", layout="bgr", **options)
    torch.testing.assert_close(bgr[0, :, 0, 0], torch.tensor([-1.0, (128 / 255 - 0.4) / 0.25, 3.5]).double())


@pytest.mark.parametrize("impl", ["reference", "triton"])
def test_no_boxes_give_no_crops(impl):
    crops = crop_resize(noise(8, 8, 3).to(DEVICE), torch.empty(0, 4, device=DEVICE), impl=impl)
    assert crops.shape == (0, 3, 256, 128)
    crops = crop_resize(noise(8, 8, 3).to(DEVICE), crops.new_empty(0, 4).float(), dtype=torch.uint8, impl=impl)
    assert crops.shape == (0, 256, 128, 3)


GOOD = {"frame": noise(8, 8, 3), "boxes": torch.tensor([[0.0, 0.0, 4.0, 4.0]]), "impl": "reference"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame": noise(8, 8, 3).float()}, r"frame has dtype torch.float32; expected torch.uint8"),
        ({"frame": noise(8, 8)}, r"frame has shape \[8, 8\]; expected \[H, W, 3\]"),
        ({"frame": noise(3, 8, 8)}, r"frame has shape \[3, 8, 8\]; expected \[H, W, 3\]"),
        ({"frame": noise(0, 8, 3)}, r"frame has shape \[0, 8, 3\]"),
        ({"frame": noise(8, 8), "layout": "nv12"}, r"frame has shape \[8, 8\]; expected \[H \* 3 / 2, W\]"),
        ({"frame": noise(12, 7), "layout": "nv12"}, r"H and W even"),
        ({"frame": noise(9, 8), "layout": "nv12", "size": (0, 4)}, r"size is \(0, 4\)"),
        ({"layout": "yuyv"}, r"layout is 'yuyv'; expected one of rgb, bgr, nv12"),
        ({"boxes": torch.zeros(1, 5)}, r"boxes has shape \[1, 5\]; expected \[n, 4\]"),
        ({"boxes": torch.zeros(1, 4).int()}, r"boxes has dtype torch.int32; expected torch.float32"),
        ({"boxes": torch.zeros(1, 4, device="meta")}, r"boxes is on meta; expected cpu"),
        ({"boxes": torch.tensor([[0, 0, 4, 4], [2, 2, 2, 6.0]])}, r"boxes\[1\] is \[2.0, 2.0, 2.0, 6.0\]"),
        ({"boxes": torch.tensor([[6, 2, 2, 6.0]])}, r"boxes\[0\] is .* some area inside the 8 x 8 frame"),
        ({"boxes": torch.tensor([[9, 9, 20, 20.0]])}, r"boxes\[0\] is .* some area inside"),
        ({"boxes": torch.tensor([[0, 0, torch.nan, 4.0]])}, r"boxes\[0\] is .* finite"),
        ({"boxes": torch.tensor([[0, 0, torch.inf, 4.0]])}, r"boxes\[0\] is .* finite"),
        ({"mean": (0.5,)}, r"mean is \[0.5\]; expected 3 finite numbers"),
        ({"mean": (0.5, float("nan"), 0.5)}, r"expected 3 finite numbers"),
        ({"std": (0.5, 0.0, 0.5)}, r"std is .*; expected 3 positive finite numbers"),
        ({"size": (256.0, 128)}, r"size is \(256.0, 128\); expected"),
        ({"interpolation": "nearest"}, r"interpolation is 'nearest'; expected one of bilinear, bicubic"),
        ({"matrix": "bt2020"}, r"matrix is 'bt2020'; expected one of bt601, bt709"),
        ({"dtype": torch.int8}, r"dtype is torch.int8; expected one of torch.float16"),
        ({"dtype": torch.uint8, "std": (1, 1, 1)}, r"expected neither for dtype torch.uint8"),
        ({"dtype": torch.float64, "impl": "triton"}, r"dtype is torch.float64; .* for impl triton"),
        ({"impl": "cuda"}, r"impl is 'cuda'; expected one of reference, triton"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = GOOD | change
    with pytest.raises(ValueError, match=message):
        crop_resize(arguments.pop("frame"), arguments.pop("boxes"), **arguments)


def test_operator_registration():
    arguments = (noise(24, 16), BOXES[4:5].clone(), [6, 4], [0.5] * 3, [0.5] * 3, "bicubic", "nv12", "bt601",
                 torch.float32, "reference")  # fmt: skip
    torch.library.opcheck(torch.ops.pat_kernels.crop_resize.default, arguments)
    pixels = (*arguments[:-2], torch.uint8, "reference")
    torch.library.opcheck(torch.ops.pat_kernels.crop_resize.default, pixels)


def test_compiles_and_exports_without_a_graph_break():
    def preprocess(frame, boxes):
        return crop_resize(frame, boxes, size=(16, 8), dtype=torch.float32, impl="reference") * 2

    class Module(torch.nn.Module):
        forward = staticmethod(preprocess)

    frame, boxes = noise(HEIGHT, WIDTH, 3), BOXES[:2]
    expected = preprocess(frame, boxes)
    compiled = torch.compile(preprocess, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(frame, boxes), expected)
    exported = torch.export.export(Module(), (frame, boxes), dynamic_shapes=({}, {0: torch.export.Dim("n")}))
    torch.testing.assert_close(exported.module()(frame, BOXES), preprocess(frame, BOXES))
