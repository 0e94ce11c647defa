"""Groups of cells by columns of obs."""

import numpy as np
import pandas as pd
import pytest

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.cell_groups import NO_GROUP, group_cells, stratify_cells

CELLS = 400


def _obs() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "cell_type": pd.Categorical(rng.choice(["T", "B", "NK"], CELLS, p=[0.5, 0.4, 0.1]), ["T", "B", "NK", "gone"]),
        "donor": rng.integers(1, 3, CELLS),
        "depth": rng.normal(size=CELLS),
        "all_one": "x",
        "holes": pd.Series(rng.choice(["u", "v"], CELLS)).where(np.arange(CELLS) % 10 > 0),
        "cell": np.arange(CELLS).astype(str),
        "mixed": [1 if k % 2 else "one" for k in range(CELLS)],
    })  # fmt: skip


def test_a_group_is_its_cells_and_small_ones_are_named() -> None:
    obs = _obs()
    found = group_cells(obs, ["cell_type"], 100)
    assert found.names == ("T", "B")
    assert found.cells.tolist() == [(obs.cell_type == name).sum() for name in found.names]
    assert ((found.number == NO_GROUP) == (obs.cell_type == "NK")).all()
    assert "NK" in found.notes[0]


def test_two_columns_cross() -> None:
    obs = _obs()
    found = group_cells(obs, ["donor", "cell_type"], 20)
    for number, name in enumerate(found.names):
        donor, kind = name.split(" / ")
        assert ((found.number == number) == ((obs.donor == int(donor)) & (obs.cell_type == kind))).all()


def test_cells_without_a_value_are_left_out_and_said() -> None:
    found = group_cells(_obs(), ["holes"], 10)
    assert found.names == ("u", "v")
    assert (found.number[::10] == NO_GROUP).all()
    assert "40 of 400 cells have no value in holes" in found.notes[0]


def test_values_of_several_kinds_are_words() -> None:
    assert group_cells(_obs(), ["mixed"], 10).names == ("1", "one")


def test_a_group_may_be_one_cell() -> None:
    assert len(group_cells(_obs(), ["cell"], 1).names) == CELLS


def test_strata_are_of_all_cells() -> None:
    found = stratify_cells(_obs(), ["cell_type", "donor"])
    assert (found.number != NO_GROUP).all()
    assert found.cells.sum() == CELLS


@pytest.mark.parametrize(
    ("columns", "least", "said"),
    [
        (["cel_type"], 10, "cell_type"),
        (["nothing_like_it"], 10, "is no column"),
        (["depth"], 10, "measurement"),
        (["all_one"], 10, "nothing to tell apart"),
        (["cell_type"], 1000, "nothing to tell apart"),
        (["cell_type", "cell_type"], 10, "different ones"),
        ([], 10, "give one column"),
    ],
)
def test_bad_columns_to_group_by(columns: list[str], least: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        group_cells(_obs(), columns, least)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (["cel_type"], "cell_type"),
        (["depth"], "measurement"),
        (["holes"], "no value"),
        (["cell"], "merge values"),
        (["cell_type", "cell"], "merge values"),
    ],
)
def test_bad_columns_to_compare_within(columns: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        stratify_cells(_obs(), columns)


def test_annotations_without_columns() -> None:
    with pytest.raises(InputError, match="it has none"):
        group_cells(pd.DataFrame(index=range(5)), ["cell_type"], 1)
