"""The heatmap job on a real S3 server, a process of its own: workers, a killed driver, and what the server refuses."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

import pairscape
from pairscape.pipeline.errors import JobError
from pairscape.pipeline.heatmaps.images import open_images
from pairscape.pipeline.options import Binning, Compute, PairSource
from pairscape.pipeline.storage.paths import content_of, located, put, put_new

ROOT = Path(__file__).parents[3]
BINNING = Binning("rank", 200)  # 256 images of 160 kB a shard: the 1035 pairs are 5 shards, also in workers
ALL = PairSource(all_pairs=True)
URL = "s3://pairscape-test/images.zarr"
SERVER = shutil.which("moto_server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(SERVER is None or find_spec("s3fs") is None, reason="needs s3fs and moto[server]"),
]


@pytest.fixture(scope="module")
def server():
    """Address of an S3 server on the loopback interface."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = subprocess.DEVNULL
    process = subprocess.Popen([SERVER, "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log)
    try:
        while process.poll() is None:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def bucket(server, monkeypatch, tmp_path):
    """An empty bucket, the credentials in the environment, which processes inherit, and no copies of codes."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "pairscape")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "loopback")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("pairscape.pipeline.codes.cache._held", {})
    post(f"{server}/moto-api/reset")
    forget_clients()
    storage = located(URL).fs
    storage.mkdir("pairscape-test")
    yield storage
    forget_clients()


dropped = []


def post(address, content=b"{}"):
    request = urllib.request.Request(address, content, {"Content-Type": "text/plain"}, method="POST")
    with urllib.request.urlopen(request) as answer:
        return answer.read()


def forget_clients():
    """Clients keep the credentials that they began with; dropped, they would warn that they were left open."""
    import s3fs

    dropped.extend(s3fs.S3FileSystem._cache.values())
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def local(expression_path, tmp_path_factory):
    path = tmp_path_factory.mktemp("local") / "images.zarr"
    make(expression_path, path)
    return path


def make(expression, images, compute=Compute("synchronous")):
    pairscape.heatmaps(expression, images, source=ALL, binning=BINNING, compute=compute, quiet=True)


def hashes(contents):
    """sha256 of every file, but for the one attribute that says where the codes lie."""
    metadata = json.loads(contents["zarr.json"])
    del metadata["attributes"]["spec"]["codes"]
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()} | {"zarr.json": metadata}


def assert_same(storage, local):
    folder = "pairscape-test/images.zarr/"
    storage.invalidate_cache()
    there = {name.removeprefix(folder): storage.cat_file(name) for name in storage.find(folder)}
    here = {str(file.relative_to(local)): file.read_bytes() for file in local.rglob("*") if file.is_file()}
    assert hashes(there) == hashes(here)


def test_processes_write_there_and_a_killed_driver_costs_no_byte(expression_path, local, bucket, refuses, capsys):
    arguments = ["--all-pairs", "--scale", "rank", "--bins", "200", "--workers", "2", "--quiet"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "pairscape", "heatmaps", str(expression_path), URL, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        start_new_session=True,  # its workers are killed with it, as when a machine goes
    )
    receipts = located(URL) / "receipts"
    while not any(content_of(receipts / f"{shard}.json") for shard in range(5)):
        assert driver.poll() is None
        time.sleep(0.05)
    os.killpg(driver.pid, signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    done = 5 - len(open_images(URL, complete=False).missing_shards())
    bucket.pipe_file(f"pairscape-test/images.zarr/counts/c/{4 if done < 5 else 0}/0/0", b"of a writer that died")
    lock = "s3://pairscape-test/.images.zarr.lock"
    with refuses(f"process {driver.pid} on", f"if it was killed, remove {lock}", kind=JobError):
        make(expression_path, URL)
    bucket.rm_file(lock)
    make(expression_path, URL, Compute("local", 2))
    assert_same(bucket, local)
    pairscape.verify(URL)
    damage(bucket, "pairscape-test/images.zarr/counts/c/2/0/0")
    with refuses("1 of 5 shards", kind=JobError):
        pairscape.verify(URL)
    assert "shard 2" in capsys.readouterr().err


def damage(storage, name):
    content = bytearray(storage.cat_file(name))
    content[len(content) // 2] ^= 1
    storage.pipe_file(name, bytes(content))


def test_the_server_lets_only_one_job_put_a_root(bucket):
    put_new(located(URL) / "zarr.json", b"first")
    with pytest.raises(FileExistsError):
        put_new(located(URL) / "zarr.json", b"second")
    assert content_of(located(URL) / "zarr.json") == b"first"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("s3://no-such-bucket/images.zarr", ("cannot be written", "bucket does not exist")),
        ("s3://pairscape-test", ("names no store",)),
        ("s3://pairscape-test/taken", ("no store (precious.txt)",)),
    ],
)
def test_what_cannot_be_written_is_told(expression_path, bucket, url, words, refuses):
    put(located("s3://pairscape-test/taken/precious.txt"), b"of the user")
    with refuses(url, *words):
        make(expression_path, url)
    assert bucket.find("pairscape-test") == ["pairscape-test/taken/precious.txt"]


@pytest.fixture
def guarded(bucket, server, monkeypatch):
    """The server asks who comes: credentials of a user who may only read."""
    from botocore.session import Session

    iam = Session().create_client("iam")
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    may_read = [{"Effect": "Allow", "Action": ["s3:Get*", "s3:List*"], "Resource": "*"}]
    policy = json.dumps({"Version": "2012-10-17", "Statement": may_read})
    iam.put_user_policy(UserName="reader", PolicyName="reads", PolicyDocument=policy)
    post(f"{server}/moto-api/reset-auth", b"0")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    yield
    post(f"{server}/moto-api/reset-auth", b"inf")


@pytest.mark.parametrize("who", ["a reader", "a wrong secret", "nobody known", "no credentials"])
def test_who_may_not_write_is_told(expression_path, guarded, monkeypatch, tmp_path, who, refuses):
    changed = {
        "a reader": {},
        "a wrong secret": {"AWS_SECRET_ACCESS_KEY": "wrong"},
        "nobody known": {"AWS_ACCESS_KEY_ID": "AKIANOBODY"},
        "no credentials": {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "HOME": str(tmp_path)},
    }[who]
    for name, value in changed.items():
        monkeypatch.setenv(name, value)
    forget_clients()
    with refuses(URL, "cannot be written", "credentials"):
        make(expression_path, URL)
    if who != "a reader":
        with refuses(URL, "cannot be read", "credentials"):
            open_images(URL)
