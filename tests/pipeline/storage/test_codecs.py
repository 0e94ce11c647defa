"""Code that a store brings along never runs: whichever codec is named, wherever, in either format of Zarr."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import anndata as ad
import numcodecs.pickles
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import write_elem
from scipy import sparse

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.matrix.expression import open_expression
from pairscape.pipeline.storage.codecs import check_codecs, open_to_read

CELLS = ["AACCGGTTAC", "CCGGTTAACC", "GGTTAACCGG", "TTAACCGGTT"]
GENES = ["GATA1", "SPI1", "KLF1"]


class Evil:
    """Unpickled, it makes a folder."""

    def __init__(self, flag: Path) -> None:
        self.flag = str(flag)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.flag,)


@pytest.fixture(autouse=True)
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """numcodecs as it was before 0.16.6, or where a user allows it."""
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True)


def store(path: Path, zarr_format: Any) -> Path:
    obs = pd.DataFrame({"note": ["a", "b", "c", "d"], "n": [1, 2, 3, 4]}, index=CELLS)
    cells = ad.AnnData(sparse.csr_matrix(np.ones((4, 3), np.float32)), obs=obs, var=pd.DataFrame(index=GENES))
    root = zarr.open_group(str(path), mode="w", zarr_format=zarr_format)
    write_elem(root, "/", cells, dataset_kwargs={"shards": None} if zarr_format == 3 else {})
    return path


def spoil(path: Path, array: str, flag: Path, field: str) -> None:
    """Let an array of a store of format 2 go through pickle."""
    if not (path / array / ".zarray").exists():  # from anndata 0.13 on, text is a group of values and what is missing
        array = f"{array}/values"
    folder = path / array
    metadata = json.loads((folder / ".zarray").read_text())
    evil: Any = {"id": "pickle", "protocol": 5}
    metadata[field] = [*(metadata["filters"] or []), evil] if field == "filters" else evil
    (folder / ".zarray").write_text(json.dumps(metadata))
    if (whole := path / ".zmetadata").exists():
        held = json.loads(whole.read_text())
        held["metadata"][f"{array}/.zarray"] = metadata
        whole.write_text(json.dumps(held))
    for chunk in [file for file in folder.iterdir() if not file.name.startswith(".")]:
        chunk.write_bytes(pickle.dumps(Evil(flag)))


@pytest.mark.parametrize("field", ["filters", "compressor", "object_codec"])
@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("array", ["obs/_index", "obs/note", "obs/n", "var/_index", "X/data", "X/indptr"])
def test_pickle_in_format_2_is_refused(array: str, consolidated: bool, field: str, tmp_path: Path) -> None:
    path = store(tmp_path / "m.zarr", 2)
    if consolidated:
        zarr.consolidate_metadata(str(path))
    spoil(path, array, tmp_path / "ran", field)
    with pytest.raises(InputError, match="codec 'pickle', which is never read: it runs code"):
        open_expression(path).rows(0, 4)
    assert not (tmp_path / "ran").exists()


def plain_v3(codec: Any) -> dict[str, Any]:
    return {"zarr_format": 3, "node_type": "array", "codecs": [{"name": "bytes"}, codec]}


SHARDED = {"name": "sharding_indexed", "configuration": {"chunk_shape": [2], "codecs": [{"name": "bytes"}]}}
REFUSED: dict[str, Any] = {
    "3: pickle": plain_v3({"name": "numcodecs.pickle", "configuration": {"protocol": 5}}),
    "3: pickle by its bare name": plain_v3("pickle"),
    "3: of another package": plain_v3({"name": "imagecodecs_jpeg2k"}),
    "3: nobody's": plain_v3({"name": "mycompany.run", "configuration": {"command": "rm"}}),
    "3: inside of shards": plain_v3(SHARDED | {"configuration": {"codecs": [{"name": "numcodecs.pickle"}]}}),
    "3: in the index of shards": plain_v3(SHARDED | {"configuration": {"index_codecs": [{"name": "x.pickle"}]}}),
    "3: without a name": plain_v3({"configuration": {}}),
    "3: consolidated": {"consolidated_metadata": {"metadata": {"obs/x": plain_v3({"name": "numcodecs.pickle"})}}},
    "2: filter": {"filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "compressor": None},
    "2: compressor": {"filters": None, "compressor": {"id": "pickle"}},
    "2: two names": {"compressor": {"id": "pickle", "name": "blosc"}},
    "2: object codec": {"object_codec": {"id": "pickle"}},
    "2: consolidated": {"metadata": {"obs/x/.zarray": {"filters": [{"id": "pickle"}]}}},
    "2: of another package": {"compressor": {"id": "imagecodecs_jpegxl"}},
}
TAKEN: dict[str, Any] = {
    "3: ours": plain_v3({"name": "blosc", "configuration": {"cname": "zstd"}}),
    "3: shards": plain_v3(SHARDED),
    "3: of numcodecs": plain_v3({"name": "numcodecs.zlib"}),
    "3: text": {"codecs": [{"name": "vlen-utf8"}, {"name": "zstd"}]},
    "2: text": {"filters": [{"id": "vlen-utf8"}], "compressor": {"id": "blosc"}},
    "2: none": {"filters": None, "compressor": None},
    "2: json": {"filters": [{"id": "json2"}]},
    "an attribute that speaks of pickles": {"attributes": {"codecs": [{"name": "pickle"}]}},
    "arrays that are named like fields": {"consolidated_metadata": {"metadata": {"codecs": {}, "filters": {}}}},
    "attributes of format 2": {"metadata": {".zattrs": {"compressor_used": "pickle"}}},
    "no table": ["codecs"],
}


@pytest.mark.parametrize("name", REFUSED)
def test_codecs_that_are_not_plain_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="is stored with the codec"):
        check_codecs(json.dumps(REFUSED[name]).encode(), "m.zarr/x")


@pytest.mark.parametrize("name", TAKEN)
def test_plain_codecs_are_taken(name: str) -> None:
    check_codecs(json.dumps(TAKEN[name]).encode(), "m.zarr/x")
    check_codecs(b"{not json", "m.zarr/x")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_what_anndata_writes_is_read(zarr_format: Any, tmp_path: Path) -> None:
    assert open_expression(store(tmp_path / "m.zarr", zarr_format)).rows(0, 4).nnz == 12
    assert "X" in open_to_read(str(tmp_path / "m.zarr"))
