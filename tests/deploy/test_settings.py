"""Which values of the settings are refused, and that it comes first."""

from __future__ import annotations

import threading
from math import inf, nan
from pathlib import Path

import pytest

from deploy.pipeline import run
from deploy.service.settings import (
    AccessSettings,
    KeepSettings,
    NeighbourSettings,
    ServiceSettings,
    WebhookSettings,
)
from deploy.settings import (
    CameraSettings,
    DetectSettings,
    GallerySettings,
    OutputSettings,
    ProcessSettings,
    RuntimeSettings,
    TrackSettings,
)
from pat.base.errors import UserError
from pat.base.mapping import check_limits


@pytest.mark.parametrize("settings", [ProcessSettings(), ServiceSettings()])
def test_defaults_are_within_their_limits(settings):
    check_limits(settings)


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (CameraSettings, "rate", (-1.0, nan, inf)),
        (CameraSettings, "stale_after", (0.0, nan)),
        (CameraSettings, "give_up_after", (-1.0, nan)),
        (RuntimeSettings, "threads", (-1,)),
        (RuntimeSettings, "max_batch", (0,)),
        (RuntimeSettings, "max_wait", (-0.1,)),
        (RuntimeSettings, "give_up_after", (-1.0, nan)),
        (DetectSettings, "full_look", (-1.0, nan)),
        (TrackSettings, "lost_seconds", (0.0, inf)),
        (TrackSettings, "every", (0.0,)),
        (TrackSettings, "least_quality", (2.0, nan)),
        (TrackSettings, "decide_after", (-1.0, nan)),
        (GallerySettings, "margin", (-0.1, 2.5, nan)),
        (OutputSettings, "rotate_megabytes", (0.0, nan, inf)),
        (OutputSettings, "keep", (-1,)),
        (AccessSettings, "session_hours", (0.0,)),
        (AccessSettings, "upload_megabytes", (0.0,)),
        (AccessSettings, "upload_megapixels", (0.0, inf)),
        (AccessSettings, "requests_per_second", (0.0,)),
        (KeepSettings, "events", (0,)),
        (KeepSettings, "audit_days", (0.0,)),
        (WebhookSettings, "timeout", (0.0, nan)),
        (NeighbourSettings, "threshold", (-1.1, 3.0)),
    ],
)
def test_values_that_make_no_sense_are_refused(kind, name, values):
    for value in values:
        with pytest.raises(UserError, match=f"{name} = {value!r} is not a"):
            check_limits(kind(**{name: value}))


@pytest.mark.parametrize(
    "settings",
    [
        RuntimeSettings(max_batch=1, max_wait=0.0),
        DetectSettings(full_look=0.0),
        TrackSettings(least_quality=0.0, decide_after=0.0),
        TrackSettings(least_quality=1.0),
        GallerySettings(margin=0.0),
        GallerySettings(margin=2.0),
        OutputSettings(keep=0),
        KeepSettings(events=1),
        NeighbourSettings(threshold=-1.0),
        NeighbourSettings(threshold=1.0),
    ],
    ids=str,
)
def test_limits_themselves_are_within(settings):
    check_limits(settings)


def test_the_process_looks_at_them_before_anything_else():
    chosen = ProcessSettings(camera=CameraSettings(stale_after=nan))
    with pytest.raises(UserError, match=r"camera\.stale_after = nan is not a number above 0"):
        run(Path("no bundle"), [], chosen, threshold=0.7, stopping=threading.Event())
