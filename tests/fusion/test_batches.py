"""TensorBatches: every row once a pass."""

import pytest
import torch

from skshazam.fusion._batches import TensorBatches, TensorRows


def batches(batch_size, *, shuffle=False, targets=True):
    rows = torch.arange(10)
    data = {"features": 10 * rows[:, None], "sample_weight": rows.float()}
    dataset = TensorRows(data, rows if targets else None)
    return TensorBatches(dataset, batch_size, shuffle=shuffle)


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(4, [4, 4, 2]), (5, [5, 5]), (99, [10])]
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_pass_gives_every_row_once_and_its_parts_together(batch_size, sizes, shuffle):
    loader = batches(batch_size, shuffle=shuffle)
    data, targets = zip(*loader, strict=True)
    assert [len(target) for target in targets] == sizes
    assert len(loader) == len(sizes)
    rows = torch.cat(targets)
    assert sorted(rows.tolist()) == list(range(10))
    assert (rows.tolist() == list(range(10))) is not shuffle
    assert torch.equal(torch.cat([part["features"] for part in data])[:, 0], 10 * rows)
    assert torch.equal(
        torch.cat([part["sample_weight"] for part in data]), rows.float()
    )


def test_each_pass_draws_a_new_order_from_torch():
    loader = batches(10, shuffle=True)
    torch.manual_seed(5)
    first, second = (next(iter(loader))[1] for _ in range(2))
    torch.manual_seed(5)
    assert torch.equal(first, torch.randperm(10))
    assert not torch.equal(first, second)


def test_rows_without_targets_get_zeros():
    assert [target.tolist() for _, target in batches(6, targets=False)] == [
        [0] * 6,
        [0] * 4,
    ]
