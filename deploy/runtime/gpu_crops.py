"""Boxes of a frame into the engine's input, on the GPU: the bundle's compiled `crop_resize`, without Triton."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from deploy.frames import Boxes, Pixels
from deploy.runtime.cuda import Gpu, Kernel, contiguous_bytes
from export.manifest import Manifest
from pat.base.errors import UserError

CROP_DTYPES = {"uint8": "u8", "float32": "fp32"}
"""The graph's input types in Triton's words, which name the kernels."""
FRAME_FREE = {
    "stride_x": 3, "red": 0, "stride_c": 1,  # RGB
    "scale_r": 1.0, "scale_g": 1.0, "scale_b": 1.0, "shift_r": 0.0, "shift_g": 0.0, "shift_b": 0.0,  # 0 to 255
    "gain": 0.0, "red_v": 0.0, "green_u": 0.0, "green_v": 0.0, "blue_u": 0.0,  # NV12 alone
}  # fmt: skip
"""What the kernel is told whatever the frame is."""


def kernel_name(manifest: Manifest, arch: str) -> str:
    """The name, without .cubin and .json, of the files that hold a bundle's kernel for "sm_87"."""
    return f"crop_resize_rgb_{CROP_DTYPES[manifest.input.dtype]}.{arch}"


@dataclass(frozen=True)
class KernelFile:
    """A compiled kernel of the bundle and the facts of its launch."""

    cubin: bytes
    facts: dict[str, Any]

    @classmethod
    def find(cls, manifest: Manifest, capability: int) -> KernelFile:
        """The bundle's kernel for a GPU. Raises UserError when it has none or it does not fit the graph."""
        name = kernel_name(manifest, f"sm_{capability}")
        if f"{name}.cubin" not in manifest.files:
            raise UserError(
                f"{manifest.folder} has no kernel {name} to cut crops on this GPU; export the bundle again with "
                f"--kernels sm_{capability}, or cut on the CPU (preprocess='cpu')"
            )
        cubin, path = manifest.file(f"{name}.cubin").read_bytes(), manifest.file(f"{name}.json")
        facts = json.loads(path.read_text(encoding="utf-8"))
        size = (manifest.input.height, manifest.input.width)
        arguments = [each["name"] for each in facts["arguments"]]
        known = {"frame", "boxes", "crops", "height", "width", "stride_y", *FRAME_FREE}
        expected = {"OUT_HEIGHT": size[0], "OUT_WIDTH": size[1], "BICUBIC": True, "NV12": False}
        different = [each for each, value in expected.items() if facts["tile"].get(each) != value]
        different += sorted(set(arguments) ^ known)
        if facts["cubin_sha256"] != hashlib.sha256(cubin).hexdigest():
            different.append("cubin_sha256")
        if different:
            raise UserError(f"{path} does not fit this bundle ({', '.join(different)}); export the bundle again")
        return cls(cubin, facts)

    def load(self, gpu: Gpu) -> Kernel:
        """Load it; Triton's trailing scratch pointers are arguments too."""
        facts = self.facts
        types = [each["type"] for each in facts["arguments"]] + ["*"] * facts["scratch_pointers"]
        return gpu.load_kernel(self.cubin, facts["entry"], types, facts["block"], facts["shared_memory"])

    def programs(self) -> int:
        """Thread blocks for one crop."""
        tile = self.facts["tile"]
        down = -(-tile["OUT_HEIGHT"] // tile["TILE_HEIGHT"])
        return int(down * -(-tile["OUT_WIDTH"] // tile["TILE_WIDTH"]))


class GpuCrops:
    """Holds a frame and a batch's boxes on the GPU, and cuts the boxes into the rows of the engine's input."""

    def __init__(self, gpu: Gpu, file: KernelFile, rows: int, row_bytes: int, crops: int) -> None:
        """`crops` is the address of the engine's input: `rows` of `row_bytes` each."""
        self._gpu, self._file, self._kernel = gpu, file, file.load(gpu)
        self._crops, self._row_bytes = crops, row_bytes
        self._host_boxes = gpu.host_array((rows, 4), "float32")
        self._boxes = gpu.allocate(self._host_boxes.nbytes)
        self._frame, self._frame_bytes = 0, 0
        self._values: dict[str, int | float] = {}

    def show(self, frame: Pixels) -> None:
        """Upload a frame [H, W, 3]; memory for it grows to the largest seen."""
        content, pitch = contiguous_bytes(frame)
        if content.nbytes > self._frame_bytes:
            if self._frame:
                self._gpu.free(self._frame)
                self._frame, self._frame_bytes = 0, 0
            self._frame = self._gpu.allocate(content.nbytes)
            self._frame_bytes = content.nbytes
        self._gpu.upload(self._frame, content)
        height, width = frame.shape[:2]
        of_frame = {"frame": self._frame, "height": height, "width": width, "stride_y": pitch}
        self._values = {**FRAME_FREE, **of_frame}

    def cut(self, boxes: Boxes, row: int) -> None:
        """Queue boxes [n, 4] of the frame into rows `row` to `row + n`. Rows of a batch are written once."""
        place = self._host_boxes[row : row + len(boxes)]
        place[:] = boxes
        address = self._boxes + row * self._host_boxes.strides[0]
        self._gpu.upload(address, place)
        values = {**self._values, "boxes": address, "crops": self._crops + row * self._row_bytes}
        arguments = [values[each["name"]] for each in self._file.facts["arguments"]]
        arguments += [0] * self._file.facts["scratch_pointers"]
        self._gpu.launch(self._kernel, len(boxes) * self._file.programs(), arguments)
