"""Annotated images on the screen, in a process of their own.

OpenCV's window and PyAV each bring their own build of the same libraries; in one process the window hangs as soon
as PyAV is loaded. Apart, neither can hold up the other, and a lost display costs the window alone. So this module
imports neither at its top: the new process imports it.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
from typing import Any

from deploy.frames import Frame, Pixels
from pat.base.errors import UserError

KEYS = (ord("q"), 27)
"""q and Escape close the window."""


class Window:
    """A window for each camera; a context manager. Images come from any thread, and drop out when it is behind.

    Raises UserError where there is no display.
    """

    def __init__(self) -> None:
        if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise UserError("there is no display for --output.window; use --output.video FOLDER instead")
        context = multiprocessing.get_context("spawn")
        self._images: Any = context.Queue(maxsize=2)
        self._process = context.Process(target=_show, args=(self._images,), name="window", daemon=True)

    @property
    def closed(self) -> bool:
        """The reader closed it, or the display went away."""
        return not self._process.is_alive()

    def put(self, frame: Frame, image: Pixels) -> None:
        try:
            self._images.put_nowait((frame.camera, image))
        except queue.Full:
            return

    def close(self) -> None:
        """One camera has no more images; the window stays for the others."""

    def __enter__(self) -> Window:
        self._process.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.join(timeout=2)
        self._images.cancel_join_thread()
        self._images.close()


def _show(images: Any) -> None:
    """What the window's process does: show what comes until a key closes it or its parent ends it."""
    import signal

    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the camera process, which ends this one
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():
        try:
            camera, image = images.get(timeout=0.05)
        except queue.Empty:
            pass
        else:
            cv2.imshow("".join(each if each.isprintable() else "?" for each in camera), image[:, :, ::-1])
        if (cv2.waitKey(1) & 0xFF) in KEYS:
            return
