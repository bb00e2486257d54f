"""Several processes train as one does, and end as one when one of them fails."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import torch.distributed as dist

import pat
from pat.cli import run
from pat.training.distributed import Group, Ranks
from pat.training.run_folder import CHECKPOINT
from run_logs import logged

RANK = """
import os, sys
os.environ.update(environment)
sys.stderr = open(said, "w", buffering=1)
import torch
torch.set_num_threads(1)
from pat.cli import run
exec(prelude)
sys.exit(run(command, arguments))
"""
"""What each process runs; the launcher's part is the environment."""

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["pat.training.loop"])  # torch is imported once for all ranks of all tests

PATIENCE = 300
"""Seconds after which a job that should have ended counts as hanging."""


class Job:
    """`count` ranks on this machine, with a store as torchrun keeps it; `arguments` of `pat train` for each.

    `prelude` is code that each runs first.
    """

    def __init__(self, folder, arguments, count, command="train", prelude=""):
        self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.said = [folder / f"said-{time.monotonic_ns()}-{rank}" for rank in range(count)]
        self.ranks = []
        for rank in range(count):
            environment = {
                "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": self.store.port, "TORCHELASTIC_USE_AGENT_STORE": True, "OMP_NUM_THREADS": 1,
            }  # fmt: skip
            names = {
                "environment": {name: str(value) for name, value in environment.items()},
                "said": str(self.said[rank]),
                "arguments": arguments(rank) if callable(arguments) else arguments,
                "command": command,
                "prelude": prelude,
            }
            self.ranks.append(FORKS.Process(target=exec, args=(RANK, names), daemon=True))
            self.ranks[-1].start()

    def ended(self):
        """Exit codes of the ranks, and the lines in which any of them said how `pat train` ended."""
        deadline = time.monotonic() + PATIENCE
        for process in self.ranks:
            process.join(max(0, deadline - time.monotonic()))
        codes = [process.exitcode for process in self.ranks]
        for process in self.ranks:
            process.kill()
        lines = [line for said in self.said for line in said.read_text().splitlines()]
        assert not any("Traceback" in line for line in lines), lines
        return codes, [line for line in lines if line.startswith(("pat train: ", "pat evaluate: "))]


@pytest.fixture(scope="module")
def settings(tmp_path_factory, make_market, tiny_values):
    """`settings(out, name=value, ...)` makes the arguments of a run on a small market: 8 images a batch."""
    root = tmp_path_factory.mktemp("distributed")
    market = make_market(root / "market")

    def made(out, source=market, **changes):
        values = {**tiny_values, "identities_per_batch": 4, "epochs": 6}
        values["optim"] = {**values["optim"], "clip_norm": 1.0}
        for key, value in changes.items():
            section, _, name = key.partition("__")
            values[section] = {**values[section], name: value} if name else value
        config = root / f"{out}.json"
        config.write_text(json.dumps(values))
        folders = {"--data.source": source, "--data.cache": root / "cache", "--out": root / out}
        return ["--config", str(config), *(str(word) for pair in folders.items() for word in pair)]

    made.root = root
    return made


def trained(settings, out, ranks, *flags, **changes):
    """A finished run's folder."""
    arguments = [*settings(out, **changes), *flags]
    if ranks == 1:
        assert run("train", arguments) == 0
    else:
        assert Job(settings.root, arguments, ranks).ended() == ([0] * ranks, [])
    return settings.root / out


def assert_same_run(folder, expected):
    """Every loss of every step, the memory bank, the model and its running statistics.

    Ranks multiply and add the same float32 numbers in other groups (matrix products of fewer rows, sums over
    ranks), so each step starts a relative error of some 1e-7, which training carries on: after 20 to 36 steps
    at most 1.4e-5 was measured in a loss and 1.1e-5 in the bank. The bounds leave a factor of ten for other
    processors. Errors in the exchange (no sum in the backward of `gather`, gradients not summed, or twice as
    long, or clipped before the sum, no gradient from other shards) were tried: they change losses by 0.1 to 1.4.
    """
    terms = ("global_step", "loss", "identity", "triplet", "csl")
    found, wanted = (
        np.array([[line[term] for term in terms] for line in logged(kept, "step")])
        for kept in (folder, expected)
    )
    assert len(wanted) >= 20
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[:2], wanted[:2], rtol=1e-5, atol=1e-6)
    ours, theirs = (torch.load(each / CHECKPOINT, weights_only=True) for each in (folder, expected))
    torch.testing.assert_close(ours["bank"], theirs["bank"], rtol=1e-4, atol=1e-4)
    for name, tensor in theirs["model"].items():
        if name.endswith("qkv.bias"):  # softmax cancels that of the keys: its gradient is rounding, scaled by Adam
            continue
        torch.testing.assert_close(ours["model"][name], tensor, rtol=1e-2, atol=2e-4)
    assert ours["position"]["global_step"] == theirs["position"]["global_step"]


@pytest.fixture(scope="module")
def one(settings):
    """The run of one process."""
    return trained(settings, "one", 1)


def test_two_ranks_have_the_losses_of_one_and_its_bank(settings, one):
    folder = trained(settings, "of-2", 2)
    assert_same_run(folder, one)
    assert pat.load(folder / "model.safetensors").config.identities == 6


def test_options_that_need_the_other_ranks_give_the_same_too(settings):
    changes = {
        "loss__other_identities": True, "loss__bank_fill": "train", "augment__regions": "batch", "ema": 0.9,
        "optim__name": "sgd", "optim__clip_norm": 0.0,  # nothing that forgives a gradient of another length
        "select": "heldout", "select_every": 3, "data": {"holdout": 0.4}, "epochs": 12,
    }  # fmt: skip
    alone = trained(settings, "options-1", 1, **changes)
    shared = trained(settings, "options-2", 2, **changes)
    assert_same_run(shared, alone)
    scores = [[line["mAP"] for line in logged(folder, "heldout")] for folder in (shared, alone)]
    assert len(scores[0]) == 4
    np.testing.assert_allclose(scores[0], scores[1], atol=0.05)  # near ties in a ranking may swap


def test_a_bank_that_is_filled_again_and_measured_is_that_of_all_ranks(settings):
    """A few steps: what the larger scale of a small network makes of rounding grows with every one."""
    changes = {
        "loss__scale": 0.0, "loss__csl_start": 2, "loss__bank_refill": 1, "loss__bank_update": "after",
        "epochs": 4,
    }  # fmt: skip
    alone, shared = (trained(settings, f"refilled-{ranks}", ranks, **changes) for ranks in (1, 2))
    found, wanted = ([line["loss"] for line in logged(folder, "step")] for folder in (shared, alone))
    np.testing.assert_allclose(found, wanted, rtol=1e-3)
    ours, theirs = (torch.load(each / CHECKPOINT, weights_only=True) for each in (shared, alone))
    assert ours["position"]["csl_scale"] == pytest.approx(theirs["position"]["csl_scale"], rel=1e-3)
    assert ours["position"]["csl_scale"] > 0
    found, wanted = (each["bank"]["features"] for each in (ours, theirs))
    # By vectors: a small element is rounded as a large one is, and by how much depends on the CPU.
    assert ((found - wanted).norm(dim=-1) < 1e-2 * wanted.norm(dim=-1)).all()


def test_a_run_goes_on_with_another_number_of_ranks(settings, one):
    trained(settings, "changing", 2, epochs=2)
    trained(settings, "changing", 1, "--resume", epochs=4)
    assert_same_run(trained(settings, "changing", 4, "--resume"), one)


COUNT_EMBEDDED = """
from pat.model import PartAwareTransformer
embed = PartAwareTransformer.embed
def counted(model, images, parts=False):
    with open(os.environ["COUNTS"] + os.environ["RANK"], "a") as file:
        file.write(f"{len(images)} ")
    return embed(model, images, parts)
PartAwareTransformer.embed = counted
"""


def test_a_target_is_scored_by_all_ranks_as_by_one(settings, make_market, tmp_path, monkeypatch):
    target = ["--data.target", str(make_market(settings.root / "elsewhere", test=7))]
    arguments, folder = settings("scored", epochs=1), settings.root / "scored"
    count = f"os.environ['COUNTS'] = {str(tmp_path / 'rank-')!r}\n{COUNT_EMBEDDED}"
    assert Job(settings.root, [*arguments, *target], 2, prelude=count).ended() == ([0, 0], [])
    shares = [sum(map(int, (tmp_path / f"rank-{rank}").read_text().split())) for rank in range(2)]
    assert shares == [21, 21]  # of 14 queries and 28 gallery images
    again = settings.root / "scored-again"
    rest = ["--data.cache", str(settings.root / "cache"), "--out", str(again), "--images", "0"]
    assert run("evaluate", [str(folder), *target, *rest]) == 0
    together, alone = (
        json.loads((out / "evaluation.json").read_text())["targets"]["elsewhere"]["cls"]
        for out in (folder / "evaluation", again)
    )
    assert together["valid_queries"] == alone["valid_queries"] == 14
    np.testing.assert_allclose(together["mAP"], alone["mAP"], atol=0.02)  # near ties in a ranking may swap


def test_ranks_with_other_images_score_nothing(settings, one, make_market, tmp_path):
    targets = [make_market(tmp_path / str(rank) / "elsewhere", each=3 + rank) for rank in range(2)]

    def arguments(rank):
        cache = ["--data.cache", str(settings.root / "cache")]
        return [str(one), "--data.target", str(targets[rank]), "--out", str(tmp_path / "out"), *cache]

    codes, (line,) = Job(settings.root, arguments, 2, command="evaluate").ended()
    assert codes == [2, 2]
    assert "rank 1 of 2" in line
    assert "has other images of elsewhere than rank 0" in line
    assert not (tmp_path / "out").exists()


def wait_for_checkpoint(folder):
    deadline = time.monotonic() + PATIENCE
    while not (folder / CHECKPOINT).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_rank_that_dies_or_hangs_is_named_and_the_job_ends_and_resumes(settings, blow):
    out = f"lost-{blow.name}"
    job = Job(settings.root, settings(out, epochs=4000, rank_timeout=3.0), 2)
    wait_for_checkpoint(settings.root / out)
    os.kill(job.ranks[1].pid, blow)
    job.ranks[0].join(PATIENCE)
    job.ranks[1].kill()
    codes, lines = job.ended()
    assert codes == [1, -signal.SIGKILL]
    assert len(lines) == 1
    assert "rank 1 of 2" in lines[0]
    assert "--resume" in lines[0]
    steps = torch.load(settings.root / out / CHECKPOINT, weights_only=True)["position"]
    trained(settings, out, 1, "--resume", epochs=steps["epoch"] + 1)


def test_a_rank_that_dies_before_the_first_step_is_named(settings):
    hangs = "import pat.training.loop, time\nif environment['RANK'] == '1': "
    hangs += "pat.training.loop.open_training_data = lambda *_: time.sleep(10_000)"
    job = Job(settings.root, settings("early"), 2, prelude=hangs)
    deadline = time.monotonic() + PATIENCE
    while not job.said[0].exists() or "device:" not in job.said[0].read_text():  # it waits for the other
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job.ranks[1].kill()
    os.kill(job.ranks[0].pid, signal.SIGTERM)  # as torchrun does when a rank has died
    codes, (line,) = job.ended()
    assert codes == [130, -signal.SIGKILL]
    assert line.startswith("pat train: stopped before the first step (rank 1 of 2 (")
    assert line.endswith(") ended or did not answer)")


def test_ranks_stop_together_at_the_same_step(settings):
    job = Job(settings.root, settings("stopped", epochs=4000), 2)
    wait_for_checkpoint(settings.root / "stopped")
    for process in job.ranks:
        os.kill(process.pid, signal.SIGTERM)
    codes, lines = job.ended()
    assert codes == [130, 130]
    (line,) = lines
    last = logged(settings.root / "stopped", "step")[-1]["global_step"]
    assert f"stopped after step {last};" in line
    saved = torch.load(settings.root / "stopped" / CHECKPOINT, weights_only=True)
    assert saved["position"]["global_step"] == last


def test_one_rank_tells_what_is_wrong_with_the_settings(settings):
    codes, lines = Job(settings.root, settings("uneven", images_per_identity=3, identities_per_batch=3), 2).ended()
    assert codes == [2, 2]
    assert lines == [
        "pat train: 2 ranks cannot share a batch of 3 x 3 = 9 images equally; "
        "change --identities-per-batch, --images-per-identity or the ranks"
    ]


def test_a_stem_that_would_learn_on_several_ranks_is_refused(settings):
    arguments = [*settings("stem"), "--model.stem", "convolution"]
    codes, lines = Job(settings.root, arguments, 2).ended()
    assert codes == [2, 2]
    assert len(lines) == 1
    assert "model.stem convolution is trained on one process alone" in lines[0]


@pytest.mark.parametrize("difference", ["training images", "settings", "nothing to read"])
def test_ranks_with_unequal_data_or_settings_are_named(settings, make_market, tmp_path, difference):
    out = difference.replace(" ", "-")
    same = settings(out)
    if difference == "training images":
        other = settings(out, source=make_market(tmp_path / "market", each=4))  # the other machine has half of it
    elif difference == "settings":
        other = [*same, "--loss.k", "4"]
    else:
        other = settings(out, source=tmp_path / "nowhere")
    codes, lines = Job(settings.root, lambda rank: other if rank else same, 2).ended()
    assert all(codes)
    assert len(lines) == 1
    assert "rank 1 of 2" in lines[0]
    assert ("nowhere" if difference == "nothing to read" else difference) in lines[0]


@pytest.mark.slow
def test_torchrun_ends_a_job_with_a_dead_rank_and_finishes_it_afterwards(settings):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    command = [*launcher, "2", "-m", "pat.cli", "train", *settings("torchrun", epochs=4000)]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for_checkpoint(settings.root / "torchrun")
    workers = subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True, text=True, check=True)
    os.kill(int(workers.stdout.split()[-1]), signal.SIGKILL)
    _, said = job.communicate(timeout=PATIENCE)
    assert job.returncode != 0
    assert sum(line.startswith("pat train: rank ") for line in said.splitlines()) == 1
    position = torch.load(settings.root / "torchrun" / CHECKPOINT, weights_only=True)["position"]
    command = [*launcher, "4", "-m", "pat.cli", "train", "--out", str(settings.root / "torchrun"), "--resume"]
    subprocess.run([*command, "--epochs", str(position["epoch"] + 1)], check=True, timeout=PATIENCE)
    assert (settings.root / "torchrun" / "model.safetensors").exists()


@pytest.mark.parametrize(("batch", "slots", "count"), [(64, 12936, 8), (8, 9, 8), (12, 100, 3), (6, 6, 1)])
def test_rows_and_slots_are_shared_without_loss_or_overlap(batch, slots, count):
    device = torch.device("cpu")
    ranks = [Group(device, rank, count) for rank in range(count)] if count > 1 else [Ranks(device)]
    image = np.arange(batch)
    assert np.concatenate([image[rank.rows(batch)] for rank in ranks]).tolist() == image.tolist()
    assert len({len(image[rank.rows(batch)]) for rank in ranks}) == 1
    shards = [rank.shard(slots) for rank in ranks]
    assert [slot for shard in shards for slot in shard] == list(range(slots))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
