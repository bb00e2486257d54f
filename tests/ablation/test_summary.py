"""Means, spreads and tests against SciPy and by hand; diverged runs are told, never averaged."""

import csv
import dataclasses
import io
import json
import math

import numpy as np
import pytest
from scipy import stats

from pat.ablation import people
from pat.ablation.plan import RESULT, Result, scored_run, tuning_runs
from pat.ablation.power import seeds_needed
from pat.ablation.report import (
    Findings,
    cells,
    commands,
    listing,
    markdown,
    tables,
    what_it_could_see,
    write_report,
)
from pat.ablation.studies import STUDIES
from pat.ablation.summary import best_rate, heldout_by_rate, holm, paired, rows, spread
from pat.evaluation.curves import COLOURS, spread_plot

SCORES = {
    "plain-vit": [0.30, 0.32, 0.31, 0.29, 0.33],
    "parts": [0.31, 0.32, 0.33, 0.29, 0.34],
    "csl": [0.40, 0.43, 0.40, 0.38, 0.44],
    "csl-psd": [0.41, None, 0.42, 0.41, 0.43],
    "other-identities": [0.30, 0.31, 0.32, 0.33, 0.34],
}


def of(table, arm, kind="cls"):
    return next(row for row in table if (row.arm, row.kind) == (arm, kind))


def test_the_paired_test_is_scipys():
    generator = np.random.default_rng(0)
    for count in (2, 5, 9):
        ours, theirs = generator.normal(0.3, 0.02, (2, count))
        found = paired(dict(enumerate(ours)), dict(enumerate(theirs)))
        expected = stats.ttest_rel(ours, theirs)
        low, high = expected.confidence_interval(0.95)
        np.testing.assert_allclose((found.p, found.low, found.high), (expected.pvalue, low, high), rtol=1e-9)
        assert found.pairs == count


def test_the_paired_test_at_its_ends():
    assert paired({0: 0.3}, {0: 0.2}) is None
    assert paired({0: 0.3, 1: 0.4}, {2: 0.3, 3: 0.4}) is None
    same = paired({0: 0.25, 1: 0.5}, {0: 0.25, 1: 0.5})
    assert (same.mean, same.p) == (0, 1)
    shifted = paired({0: 0.5, 1: 0.75}, {0: 0.25, 1: 0.5})
    assert (shifted.mean, shifted.low, shifted.p) == (0.25, 0.25, 0)


def test_spread():
    assert spread({0: 0.2, 1: 0.4}) == pytest.approx((0.3, math.sqrt(0.02)))
    assert math.isnan(spread({0: 0.2})[1])
    assert all(map(math.isnan, spread({})))


def test_arms_are_tested_against_the_first_and_kinds_against_their_arm(study, make_runs):
    table = rows(study, make_runs(SCORES), "elsewhere")
    assert [(row.arm, row.kind) for row in table][:2] == [("plain ViT", "cls"), ("PAT, no CSL, no PSD", "cls")]
    assert len(table) == 8
    baseline, csl, flip = (
        of(table, *key) for key in (("plain ViT",), ("PAT + CSL",), ("PAT + CSL + PSD", "cls, flip"))
    )
    assert (baseline.against, baseline.test, baseline.p) == ("", None, None)
    assert csl.against == "plain ViT"
    assert csl.test.mean == pytest.approx(0.1)
    assert csl.test.p == pytest.approx(stats.ttest_rel(SCORES["csl"], SCORES["plain-vit"]).pvalue)
    assert flip.against == "cls"
    assert flip.test.mean == pytest.approx(0.01)


def test_p_values_are_corrected_by_holm(study, make_runs):
    table = rows(study, make_runs(SCORES), "elsewhere")
    tested = sorted((row.test.p, row.p) for row in table if row.test)
    assert len(tested) == 7
    least = 0.0
    for rank, (p, corrected) in enumerate(tested):
        least = max(least, min(1.0, p * (7 - rank)))
        assert corrected == pytest.approx(least)


def test_holms_correction_by_hand():
    assert holm([0.04, None, 0.01, 0.6, 0.03]) == pytest.approx([0.09, None, 0.04, 0.6, 0.09])  # not 0.08
    assert holm([0.7, 0.6]) == [1, 1]


def test_a_diverged_run_is_told_and_left_out(study, make_runs):
    row = of(rows(study, make_runs(SCORES), "elsewhere"), "PAT + CSL + PSD")
    assert row.diverged == 1
    assert sorted(row.mAP) == [0, 2, 3, 4]
    assert row.test.pairs == 4
    text = cells(row)
    assert text[3] == "4 (1 diverged)"
    assert text[4] == "41.8 ± 1.0"
    table = rows(study, make_runs({**SCORES, "plain-vit": [0.30, 0.32, None, 0.29, 0.33]}), "elsewhere")
    assert of(table, "PAT + CSL").test.pairs == 4


def test_all_runs_of_an_arm_diverged(study, make_runs):
    row = of(rows(study, make_runs({**SCORES, "csl": [None] * 5}), "elsewhere"), "PAT + CSL")
    assert cells(row)[2:] == ["0.001", "0 (5 diverged)", "-", "-", "plain ViT", "-", "-"]


def test_the_best_rate():
    assert best_rate({1e-3: 0.2, 2e-3: 0.3}, 1e-3) == 2e-3
    assert best_rate({1e-3: 0.3, 2e-3: 0.3}, 2e-3) == 2e-3
    assert best_rate({1e-3: -math.inf, 2e-3: -math.inf}, 5e-3) == 1e-3
    assert best_rate({}, 5e-3) == 5e-3


def test_a_rate_that_diverges_is_never_chosen(base, study, monkeypatch):
    runs = tuning_runs(base, study.arms[:1], (1e-3, 2e-3), (0, 1), 0.3)
    results = {1e-3: [0.2, 0.3], 2e-3: [0.9, None]}

    def result(run):
        heldout = results[run.rate][run.seed]
        return Result("diverged" if heldout is None else "finished", 1.0, heldout=heldout)

    monkeypatch.setattr(type(runs[0]), "result", result)
    found = heldout_by_rate(runs)["plain-vit"]
    assert found == {1e-3: pytest.approx(0.25), 2e-3: -math.inf}
    assert best_rate(found, 2e-3) == 1e-3


def test_what_is_written(base, study, make_runs):
    runs = make_runs(SCORES)
    findings = Findings(study, 1e-3, runs, [], [])
    write_report(base.out, findings, "pat ablate components", "cpu")
    text = (base.out / "table.md").read_text()
    assert "| PAT + CSL + PSD | cls | 0.001 | 4 (1 diverged) | 41.8 ± 1.0 |" in text
    assert "`pat ablate components`" in text
    assert text == markdown(findings, "pat ablate components", "cpu")
    lines = list(csv.DictReader(io.StringIO((base.out / "runs.csv").read_text())))
    assert len(lines) == 5 * 4 + 4 * 4 + 1  # four arms; four kinds of four seeds; one diverged
    assert [line["status"] for line in lines].count("diverged") == 1
    assert {line["folder"] for line in lines} == {str(run.folder.relative_to(base.out)) for run in runs}
    assert listing(findings, base.out) == (base.out / "runs.csv").read_text()
    assert commands(findings, "pat ablate components").count("pat train --config") == len(runs)
    assert (base.out / "figure-elsewhere.png").stat().st_size > 10_000


def test_a_rate_at_the_edge_is_said(study, make_runs, base):
    same, tuned = make_runs(SCORES), make_runs(SCORES, rate=2e-3)
    tuning = tuning_runs(base, study.arms, (1e-3, 2e-3), (0,), 0.3)
    findings = Findings(study, 1e-3, same, tuning, tuned)
    assert "At the edge of the rates tried" in markdown(findings, "x", "cpu")
    assert len(tables(findings, "elsewhere")) == 2


def test_one_table_where_every_arms_own_rate_is_the_shared_one(study, make_runs, base):
    runs = make_runs(SCORES)
    findings = Findings(study, 1e-3, runs, tuning_runs(base, study.arms, (1e-3, 2e-3), (0,), 0.3), runs)
    assert len(tables(findings, "elsewhere")) == 1
    assert "Every arm's own rate is the one that all share" in markdown(findings, "x", "cpu")


def test_a_study_says_what_it_could_not_have_seen(study, make_runs, base):
    text = markdown(Findings(study, 1e-3, make_runs(SCORES), [], []), "x", "cpu")
    assert "**This study could not have seen a difference of one point.**" in text
    found = of(rows(study, make_runs(SCORES), "elsewhere"), "PAT + CSL")
    deviation = np.std([0.10, 0.11, 0.09, 0.09, 0.11], ddof=1)
    assert found.test.deviation == pytest.approx(deviation)
    assert f"| PAT + CSL | cls | - | 1.0 | 1.7 | {seeds_needed(deviation, 0.01)} | - | - |" in text
    exact = {arm: [0.3, 0.31, 0.32] for arm in SCORES}
    exact["csl"] = [0.35, 0.3601, 0.37]
    text = markdown(Findings(study, 1e-3, make_runs(exact), [], []), "x", "cpu")
    assert "could not have seen" not in text
    text = markdown(Findings(study, 1e-3, make_runs({arm: [0.3] for arm in SCORES}), [], []), "x", "cpu")
    assert "One seed tells nothing of chance" in text


def test_the_deviation_of_a_study_weighs_each_row_by_its_pairs(study, make_runs):
    scores = {**SCORES, "csl-psd": [0.41, 0.61, None, None, None]}  # two pairs, far apart
    table = rows(study, make_runs(scores), "elsewhere")
    tests = [row.test for row in table if row.test]
    freedom = [test.pairs - 1 for test in tests]
    assert set(freedom) == {1, 4}
    pooled = math.sqrt(sum(n * test.deviation**2 for n, test in zip(freedom, tests, strict=True)) / sum(freedom))
    assert f"a deviation of {100 * pooled:.1f} points, pooled" in "\n".join(what_it_could_see(table))


def test_the_interval_over_people(study, make_runs):
    runs = make_runs({arm: [0.5, 0.5] for arm in SCORES})
    for run in runs:
        gain = 0.1 * (run.arm.key == "csl")
        kinds = {kind.named(): {str(i): [2, 0.1 * i + gain] for i in range(8)} for kind in run.arm.kinds}
        (run.folder / people.FILE).write_text(json.dumps({"elsewhere": kinds}))
    table = rows(study, runs, "elsewhere")
    found = of(table, "PAT + CSL").over_people
    assert (found.people, found.low, found.high) == (8, pytest.approx(0.05), pytest.approx(0.05))
    assert of(table, "PAT, no CSL, no PSD").over_people.high == 0


def test_the_smallest_that_loses_nothing(base, make_runs):
    study = dataclasses.replace(STUDIES["memory"](base), name="memory").with_arms(("bfloat16", "k-3", "k-30"))
    banks = {"base": 300, "bfloat16": 200, "k-3": 300, "k-30": 100}

    def runs(scores):
        made = []
        for arm in study.arms:
            for seed in range(3):
                run = scored_run(base, arm, 1e-3, seed)
                change = {"base": 0.0, "k-30": 0.02}.get(arm.key, 0.0005) * seed
                score = {"mAP": scores[arm.key] + 0.05 * seed + change, "rank1": 0.5}
                bank = banks[arm.key]  # the smaller, the slower: the bank decides
                scored = {"elsewhere": {"cls": score}}
                result = Result("finished", 1.0, scores=scored, step_seconds=1 / bank, bank_bytes=bank)
                run.folder.mkdir(parents=True, exist_ok=True)
                (run.folder / RESULT).write_text(json.dumps(dataclasses.asdict(result)))
                made.append(run)
        return made

    equal = {"base": 0.4, "bfloat16": 0.399, "k-3": 0.401, "k-30": 0.4}  # k-30 gains 2 points, or loses 3
    text = markdown(Findings(study, 1e-3, runs(equal), [], []), "x", "cpu")
    assert "loses less than a point for certain (the interval's low end): read in bfloat16." in text
    lost = {**equal, "bfloat16": 0.3, "k-3": 0.3}
    text = markdown(Findings(study, 1e-3, runs(lost), [], []), "x", "cpu")
    assert "No arm is shown to lose less than a point" in text


def test_the_figure_shows_every_row():
    series = {"one": {"a": [1, 2], "b": [1, 2]}, "two": {"a": [3], "b": [4, 5, 6]}}
    drawn = spread_plot({**series, "one": {"a": [1, 2], "b": []}}, label="mAP")
    wide = spread_plot(series, label="mAP")
    shown = [sum(of_colour(image, colour) for colour in COLOURS[:2]) for image in (drawn, wide)]
    assert all(of_colour(drawn, colour) > 300 for colour in COLOURS[:2])  # a mean has some 300 pixels
    assert shown[1] > shown[0] + 300  # one mean more
    compared = spread_plot(series, label="mAP", baseline=True)
    changed = np.asarray(compared) != np.asarray(wide)
    assert changed.any((1, 2)).mean() > 0.3  # dashed lines from the top to the bottom


def of_colour(image, colour):
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    pixels = np.asarray(image.convert("RGBA")).astype(int)
    return int((np.abs(pixels - [red, green, blue, 255]).max(-1) < 8).sum())
