"""Two processes of a group: each counts its own steps, and both together are the job's."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from flopdispatch.mfu import Rates
from tests.mfu.loops import Net, comparable, flops, quiet, trained

ONE = 2 * (2 * 8 * 8 + 3 * 8 * 4)  # FLOPs of a sample: the first input needs no gradient


def rank_of_two(rank: int, folder: str) -> None:
    """Train on one rank, whose batch and whose time aren't the other's."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    torch.manual_seed(0)
    model = DistributedDataParallel(Net())
    logged: list[Rates] = []
    x = torch.ones(2 + rank, 8)
    meter, ticks = quiet(model, window=2, log=logged.append)
    assert meter.gathered() is None  # neither has timed a step
    for _ in range(3):
        with meter.step(x, samples=len(x)):
            trained(model, x)
            ticks.now += 1.0 + rank
    assert flops(meter) == len(x) * ONE == comparable(lambda: trained(model, x))

    mine, job = meter.rates(), meter.gathered()
    assert mine is not None
    assert job is not None
    assert mine.mfu == 2 * len(x) * ONE / 1000 / mine.seconds
    assert (job.ranks, job.steps, job.seconds) == (2, 2, 4.0)
    assert job.model_flops == 2 * (2 + 3) * ONE
    assert job.samples_per_s == 2 * (2 + 3) / 4.0
    assert job.mfu is not None
    assert abs(job.mfu - job.model_flops / 4.0 / 2000) < 1e-12  # of two peaks
    assert len(logged) == (1 if rank == 0 else 0)
    distributed.destroy_process_group()
    Path(folder, f"{rank}.done").touch()


def test_two_ranks_count_their_own_and_gather_the_jobs(tmp_path: Path) -> None:
    spawn(rank_of_two, (str(tmp_path),), nprocs=2)
    assert sorted(path.name for path in tmp_path.glob("*.done")) == ["0.done", "1.done"]
