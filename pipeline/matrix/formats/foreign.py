"""Files and folders of others that are not read, and for each the command that makes one of them that is."""

from collections.abc import Sequence

from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.paths import inside, is_folder, is_remote, listed, name_of

PACKED = {".gz": "gunzip -k", ".bz2": "bunzip2 -k", ".xz": "unxz -k", ".zst": "unzstd"}
ARCHIVES = {".zip": "unzip", ".tar": "tar xf", ".tgz": "tar xzf", ".7z": "7z x"}
SEURAT = (
    "Rscript -e 'zellkonverter::writeH5AD(Seurat::as.SingleCellExperiment({load}), \"{stem}.h5ad\")' (R with Seurat "
    "and zellkonverter), or take it as .mtx with DropletUtils::write10xCounts"
)
READS = "its reads have to be aligned and counted first (Cell Ranger, STARsolo, kallisto or alevin-fry)"
TO_TEXT = "python -c \"import pandas; pandas.read_{kind}('{name}').to_csv('{stem}.csv.gz')\""
NAMELESS = "it has no names of genes and cells: put them into an AnnData, and write it as .h5ad"
# By suffix: what it is, and how it becomes something that is read; {name} and {stem} are filled in.
CURES = {
    ".rds": ("an R object", SEURAT.replace("{load}", 'readRDS("{name}")')),
    ".rda": ("an R workspace", SEURAT.replace("{load}", 'get(load("{name}"))')),
    ".rdata": ("an R workspace", SEURAT.replace("{load}", 'get(load("{name}"))')),
    ".qs": ("an R object of package qs", SEURAT.replace("{load}", 'qs::qread("{name}")')),
    ".qs2": ("an R object of package qs2", SEURAT.replace("{load}", 'qs2::qs_read("{name}")')),
    ".robj": ("an R workspace", SEURAT.replace("{load}", 'get(load("{name}"))')),
    ".h5seurat": ("a file of SeuratDisk", 'Rscript -e \'SeuratDisk::Convert("{name}", dest = "h5ad")\''),
    ".xlsx": ("an Excel file", "save the sheet as .csv, or with pandas and anndata as .h5ad"),
    ".xls": ("an Excel file", "save the sheet as .csv, or with pandas and anndata as .h5ad"),
    ".ods": ("a spreadsheet", "save the sheet as .csv"),
    ".parquet": ("a Parquet table", TO_TEXT.replace("{kind}", "parquet")),
    ".feather": ("a Feather table", TO_TEXT.replace("{kind}", "feather")),
    ".mat": ("a MATLAB file", "write its matrix as .csv with the names of genes and cells, or as .mtx with two lists"),
    ".npz": ("an archive of numpy", NAMELESS),
    ".npy": ("an array of numpy", NAMELESS),
    ".pkl": ("a Python pickle (it may run code)", "open it where you trust it, and write the AnnData as .h5ad"),
    ".pickle": ("a Python pickle (it may run code)", "open it where you trust it, and write the AnnData as .h5ad"),
    ".bam": ("a file of aligned reads", READS),
    ".sam": ("a file of aligned reads", READS),
    ".cram": ("a file of aligned reads", READS),
    ".fastq": ("a file of reads", READS),
    ".fq": ("a file of reads", READS),
    ".sra": ("a file of reads", READS),
    ".bus": ("a file of kallisto", "bustools count makes a .mtx with its lists of it"),
    ".cloupe": ("a file of the Loupe browser", "give the filtered_feature_bc_matrix.h5 that lies beside it"),
}
NOT_HERE = {  # members of a folder that tell its maker
    "__tiledb_group.tdb": "a TileDB-SOMA experiment: write it with tiledbsoma.io.to_anndata, and that as .h5ad",
    "quants_mat.gz": "the binary matrix of alevin: run it again with --dumpMtx, or use alevin-fry",
}
DEEPEST, MOST_FOLDERS = 3, 200  # folders that are looked through for matrices


def refuse_kind(place: str, known: Sequence[str]) -> InputError:
    """The error for a name that tells no format that is read, with the command that makes one."""
    name = name_of(place)
    stem, _, last = name.rpartition(".")
    suffix = f".{last.lower()}"
    if suffix in PACKED and not name.lower().endswith((".fastq.gz", ".fq.gz", ".tar.gz")):
        return InputError(
            f"{place} is compressed as a whole, and what is in it is read by place: unpack it "
            f"({PACKED[suffix]} {name}), and give {stem}"
        )
    if suffix in ARCHIVES or name.lower().endswith(".tar.gz"):
        unpack = f"{ARCHIVES.get(suffix, 'tar xzf')} {name}"
        return InputError(f"{place} is an archive: unpack it ({unpack}), and give what is in it")
    if suffix == ".gz":
        stem, _, last = stem.rpartition(".")
        suffix = f".{last.lower()}"
    if suffix in CURES:
        what, cure = CURES[suffix]
        return InputError(f"{place} has an unknown kind of name, of {what}: {cure.format(name=name, stem=stem)}")
    return InputError(
        f"{place} has an unknown kind of name: expected one that ends in {', '.join(known)}, or a folder with mtx"
    )


def refuse_folder(place: str) -> InputError:
    """The error for a folder that holds no matrix itself: what it is, or where below it matrices lie."""
    there = listed(place)
    for member, cure in NOT_HERE.items():
        if member in there:
            return InputError(f"{place} is {cure}")
    below = matrices_below(place)
    if below:
        lie = f"below it lie {', '.join(below[:6])}: give one of these" if below[1:] else f"{below[0]} does: give that"
        return InputError(f"{place} holds no matrix itself, but {lie}")
    files = [name for name in there if not name.startswith(".")]
    held = f"it holds {', '.join(files[:5])}" if files else "it is empty"
    return InputError(
        f"{place} is a folder, and neither named .zarr nor one with a matrix.mtx or matrix.mtx.gz ({held}): give one "
        "of those, or a file"
    )


def matrices_below(place: str) -> list[str]:
    """Folders with an .mtx, and matrices in HDF5 or Zarr, some levels below a folder, by their paths within it."""
    if is_remote(place):
        return []
    found: list[str] = []
    folders = [("", place, 0)]
    for number, (within, folder, depth) in enumerate(folders):
        if number > MOST_FOLDERS:
            break
        for name in listed(folder):
            path, own = f"{within}{name}", inside(folder, name)
            if name.endswith((".h5", ".h5ad", ".loom", ".h5mu", ".zarr")):
                found.append(path)
            elif name.endswith((".mtx", ".mtx.gz")) and within:
                found.append(within.rstrip("/"))
            elif depth < DEEPEST and not name.startswith(".") and _is_open_folder(own):
                folders.append((f"{path}/", own, depth + 1))
    return list(dict.fromkeys(found))


def _is_open_folder(place: str) -> bool:
    try:
        return is_folder(place)
    except InputError:
        return False
