"""The files of deploy/ for those who have no clone: what a cluster needs, written into a folder of the user's."""

from dataclasses import dataclass
from pathlib import Path

import pairscape
from pairscape.pipeline.errors import InputError
from pairscape.pipeline.storage.write import write_file, writing

SHIPPED = Path(pairscape.__file__).parent / "deployment"  # a link to deploy/ in a checkout, files in a wheel
IMAGE = {"Dockerfile": "installed/Dockerfile", "constraints.txt": "installed/constraints.txt"}
WHEEL = "a wheel of Pairscape that is laid beside Dockerfile is installed in place of the released package"
IN_A_CLONE = {  # words of a file that are others where it lies alone
    "context: ..": "context: .",
    "dockerfile: deploy/Dockerfile": "dockerfile: Dockerfile",
    "docker compose -f deploy/compose.yaml": "docker compose",
}


@dataclass(frozen=True)
class Deployment:
    """What is written for a kind of cluster.

    Attributes
    ----------
    files
        By where each goes in the folder, where it lies in deploy/; a folder stands for all its files.
    edit
        What to edit before anything runs.
    run
        What to run next, in the folder.
    """

    files: dict[str, str]
    edit: str
    run: tuple[str, ...]


DEPLOYMENTS = {
    "slurm": Deployment(
        {"": "slurm", "certificates.sh": "tls/certificates.sh"},
        "jobqueue.yaml: partition, account, cores of a job, walltime, network interface",
        (
            "WORKERS=16 MEMORY=4GB sbatch pairscape.sbatch heatmaps /shared/expression.zarr /shared/images.zarr "
            "--all-pairs",
        ),
    ),
    "kubernetes": Deployment(
        {"kubernetes": "kubernetes", "tls/certificates.sh": "tls/certificates.sh", **IMAGE},
        "kubernetes/job.yaml and cluster.yaml: the image (registry.example.org/… for pairscape:cpu), the command "
        f"and its paths; kubernetes/storage.yaml: the size of the disk; {WHEEL}",
        (
            "docker build -t registry.example.org/pairscape:cpu . && docker push registry.example.org/pairscape:cpu",
            "kubectl apply -f kubernetes/namespace.yaml -f kubernetes/rbac.yaml -f kubernetes/storage.yaml "
            "-f kubernetes/network.yaml",
            "bash tls/certificates.sh tls-files",
            "kubectl create secret generic pairscape-tls -n pairscape --from-file=ca.pem=tls-files/ca.pem "
            "--from-file=dask.pem=tls-files/dask.pem --from-file=dask.key=tls-files/dask.key",
            "kubectl apply -f kubernetes/job.yaml",
        ),
    ),
    "compose": Deployment(
        {"compose.yaml": "compose.yaml", **IMAGE},
        f"nothing, but WORKERS and MEMORY (of each) may be set in the environment; {WHEEL}",
        (
            "export S3_PASSWORD=choose-one",
            "docker compose up --build --detach",
            "docker compose run --rm client pairscape simulate /work/atlas.zarr --cells 2000 --genes 300 --density 0.1",
            "docker compose run --rm client pairscape heatmaps /work/atlas.zarr /work/images.zarr --all-pairs",
        ),
    ),
}


def write_deployment(kind: str, folder: Path) -> tuple[list[Path], Deployment]:
    """Write the files of a kind of cluster; returns where they lie, and what to do with them.

    Raises
    ------
    InputError
        The kind is unknown, or one of the files is there already.
    JobError
        The folder cannot be written.
    """
    if (deployment := DEPLOYMENTS.get(kind)) is None:
        raise InputError(f"{kind!r} is no cluster whose files are known; give one of {', '.join(DEPLOYMENTS)}.")
    contents = {folder / name: text for name, text in _contents(deployment)}
    for path in (*folder.parents, folder):
        if path.exists() and not path.is_dir():
            raise InputError(f"{path} is a file, and {folder} has to be a folder: give another path.")
    if there := [path for path in contents if path.exists()]:
        raise InputError(
            f"{there[0]} exists, and what you may have edited is not written over; give another folder, or remove it."
        )
    with writing(folder):
        for path, text in contents.items():
            write_file(path, text.encode())
    return list(contents), deployment


def _contents(deployment: Deployment) -> list[tuple[str, str]]:
    """Each file's place in the folder of the user, and what it holds."""
    found = []
    for target, place in deployment.files.items():
        source = SHIPPED / place
        for file in sorted(source.iterdir()) if source.is_dir() else [source]:
            text = file.read_text(encoding="utf-8")
            for word, other in IN_A_CLONE.items() if file.name == "compose.yaml" else ():
                text = text.replace(word, other)
            found.append((str(Path(target, file.name)) if source.is_dir() else target, text))
    return found
