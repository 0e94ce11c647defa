"""What deploy/ ships: manifests that the operator's schemas take, a Dockerfile by the rules, steps that work."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import pairscape
from engines import ROOT
from heatmap_jobs import contents
from pairscape.pipeline.compute.deployment import DEPLOYMENTS
from typed import run_command

DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
DOCUMENTS = [(path.name, found) for path in MANIFESTS for found in yaml.safe_load_all(path.read_text())]
DASK_DOCUMENTS = [(name, found) for name, found in DOCUMENTS if found["apiVersion"] == "kubernetes.dask.org/v1"]


# ── Kubernetes ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def schemas():
    """The operator's own, by kind; strict, so that a field it does not know is an error."""
    found = find_spec("dask_kubernetes")
    if found is None or find_spec("jsonschema") is None:
        pytest.skip("dask-kubernetes or jsonschema is not installed")
    folder = Path(found.submodule_search_locations[0]) / "operator/deployment/helm/dask-kubernetes-operator/crds"
    specs = [yaml.safe_load(path.read_text())["spec"] for path in folder.glob("*.yaml")]
    return {spec["names"]["kind"]: strict(spec["versions"][0]["schema"]["openAPIV3Schema"]) for spec in specs}


def strict(schema):
    """Fields that a schema does not name are refused, as `kubectl apply` refuses them."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(part) for key, part in schema.items()}
    if schema.pop("x-kubernetes-int-or-string", False):
        return {"type": ["integer", "string"]}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    return schema


def validate(schemas, document):
    import jsonschema

    assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
    jsonschema.validate({"spec": document["spec"]}, schemas[document["kind"]])


@pytest.mark.parametrize(("name", "document"), DASK_DOCUMENTS, ids=[name for name, _ in DASK_DOCUMENTS])
def test_the_operator_takes_our_manifests(schemas, name, document):
    validate(schemas, document)


def test_the_schemas_can_refuse(schemas):
    import jsonschema

    for spoil in (
        lambda spec: spec.pop("scheduler"),
        lambda spec: spec["worker"].update(replicas="four"),
        lambda spec: spec["worker"]["spec"]["containers"][0].update(imagePolicy="Always"),
        lambda spec: spec["worker"]["spec"]["containers"][0]["resources"].update(limit={}),
    ):
        document = yaml.safe_load((DEPLOY / "kubernetes/cluster.yaml").read_text())
        validate(schemas, document)
        spoil(document["spec"])
        with pytest.raises(jsonschema.ValidationError):
            validate(schemas, document)


def test_all_that_an_installation_needs_is_there():
    kinds = {document["kind"] for _, document in DOCUMENTS}
    assert kinds >= {"Namespace", "ServiceAccount", "Role", "RoleBinding", "Secret", "PersistentVolumeClaim",
                     "NetworkPolicy", "DaskCluster", "DaskJob", "DaskAutoscaler"}  # fmt: skip
    assert {document["metadata"].get("namespace", "pairscape") for _, document in DOCUMENTS} == {"pairscape"}
    accounts = {d["metadata"]["name"] for _, d in DOCUMENTS if d["kind"] == "ServiceAccount"}
    assert {spec["serviceAccountName"] for spec in pods()} <= accounts


def pods(part=None):
    """Every pod specification of the manifests."""
    part = [document for _, document in DASK_DOCUMENTS] if part is None else part
    if isinstance(part, dict) and "containers" in part:
        yield part
    elif isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from pods(inner)


def test_every_pod_is_bounded_and_has_no_rights():
    specs = list(pods())
    assert len(specs) == 5  # scheduler and worker twice, and a job
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        (container,) = spec["containers"]
        assert set(container["resources"]["limits"]) == {"cpu", "memory"}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        mounted, there = ({m["name"] for m in container["volumeMounts"]}, {v["name"] for v in spec["volumes"]})
        assert mounted == there


def test_only_certificates_open_the_cluster():
    """No process of the manifests speaks tcp://, and the secret holds no key."""
    for spec in pods():
        (container,) = spec["containers"]
        words = " ".join(container["args"])
        assert "tls" in words
        assert "tcp:" not in words
        named = {variable["name"]: variable["value"] for variable in container["env"]}
        assert named["DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION"] == "true"
        assert set(named.values()) >= {"/tls/ca.pem", "/tls/dask.pem", "/tls/dask.key"}
    assert not [path for path in DEPLOY.rglob("*") if path.is_file() and "PRIVATE KEY" in path.read_text()]


def test_the_services_find_their_scheduler():
    for _, document in DASK_DOCUMENTS:
        if document["kind"] == "DaskAutoscaler":
            assert document["spec"]["cluster"] == "pairscape"
            continue
        name, spec = document["metadata"]["name"], document["spec"]
        spec = spec["cluster"]["spec"] if document["kind"] == "DaskJob" else spec
        assert spec["scheduler"]["service"]["selector"]["dask.org/cluster-name"] == name
        assert f"tls://{name}-scheduler:8786" in spec["worker"]["spec"]["containers"][0]["args"]


# ── commands as written ──────────────────────────────────────────────────────────────────────────────────────────────


def shipped_commands():
    """Every dask and pairscape command of the manifests and of the compose file."""
    found = [spec["containers"][0]["args"] for spec in pods()]
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    found += [service["command"] for service in services.values() if service["command"][0] in ("dask", "pairscape")]
    return [[re.sub(r"\$\{\w+:-(\w+)\}", r"\1", word) for word in words] for words in found]


@pytest.mark.parametrize("words", shipped_commands(), ids=" ".join)
def test_commands_have_the_options_that_they_are_given(words):
    from distributed.cli import dask_scheduler, dask_worker

    if words[0] == "dask":
        main = {"scheduler": dask_scheduler, "worker": dask_worker}[words[1]].main
        known = {option for parameter in main.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert {word for word in words if word.startswith("--")} <= known
        main.make_context("dask", list(words[2:]))  # click's own parse: types and required ones too
    elif words[1] != "--help":
        pairscape.app.parse_args(words[1:], exit_on_error=False, print_error=False)


def test_the_compose_file_keeps_to_itself():
    """What others could reach is bound to loopback; the scheduler's port is not published."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) >= {"scheduler", "worker", "objects", "client"}
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not [port for port in published if ":8786" in port]
    assert (DEPLOY / compose["x-pairscape"]["build"]["context"] / "pyproject.toml").is_file()
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        assert {volume.split(":")[0] for volume in service.get("volumes", ())} <= set(compose["volumes"])
        assert set(service.get("networks", ())) <= set(compose["networks"])


# ── for those who have no clone ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["slurm", "kubernetes", "compose"])
def test_the_files_of_a_cluster_are_written_with_what_to_do(kind, tmp_path, capsys):
    """Every file that the steps name is there, and is that of deploy/ but for where it lies."""
    assert run_command("deploy", kind, tmp_path / "c") == 0
    *wrote, edit = capsys.readouterr().out.split(f"then, in {tmp_path / 'c'}:")[0].splitlines()
    files = {str(path.relative_to(tmp_path / "c")): path.read_text() for path in (tmp_path / "c").rglob("*.*")}
    assert len([line for line in wrote if line.startswith("wrote")]) == len(contents(tmp_path / "c")) >= 3
    shipped = {path.name: path.read_text() for path in DEPLOY.rglob("*") if path.is_file()}
    assert {name for name, text in files.items() if text != shipped[Path(name).name]} <= {"compose.yaml"}
    steps = "\n".join(DEPLOYMENTS[kind].run)
    named = set(re.findall(r"[\w./-]+\.(?:yaml|sbatch|sh)", f"{steps}\n{edit}".replace("cluster.yaml", "")))
    assert named <= set(files)
    assert edit.startswith("to edit: ")


def test_the_compose_file_finds_its_image_beside_it(tmp_path):
    files = pairscape.deploy("compose", tmp_path, quiet=True)
    compose = yaml.safe_load((tmp_path / "compose.yaml").read_text())
    build = compose["x-pairscape"]["build"]
    assert tmp_path / build["context"] / build["dockerfile"] in files
    assert "deploy/" not in (tmp_path / "compose.yaml").read_text()
    copied = {word for name, words in stages(tmp_path / "Dockerfile")[0] if name == "COPY" for word in words.split()}
    assert copied == {"constraints.txt", "pairscape-*.whl", "./"}


NOT_WRITTEN = {
    "there already": (["slurm", "{t}/there"], ["jobqueue.yaml exists", "give another folder"]),
    "a file": (["slurm", "{t}/file"], ["{t}/file is a file"]),
    "below a file": (["slurm", "{t}/file/c"], ["{t}/file is a file"]),
    "another cluster": (["nomad", "{t}/c"], ["nomad", "slurm"]),
    "no folder": (["slurm"], ["folder"]),
}


@pytest.mark.parametrize("case", NOT_WRITTEN)
def test_what_cannot_be_written_is_refused(case, tmp_path, capsys):
    pairscape.deploy("slurm", tmp_path / "there", quiet=True)
    (tmp_path / "there" / "jobqueue.yaml").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before, (words, said) = contents(tmp_path), NOT_WRITTEN[case]
    assert run_command("deploy", *(word.format(t=tmp_path) for word in words)) == 2
    error = capsys.readouterr().err.lower()
    assert [word for word in said if word.format(t=tmp_path).lower() not in error] == []
    assert contents(tmp_path) == before


def test_scripts_parse():
    for script in (*DEPLOY.rglob("*.sh"), *DEPLOY.rglob("*.sbatch")):
        assert subprocess.run(["bash", "-n", script], check=False).returncode == 0, script
        assert "set -euo pipefail" in script.read_text()


# ── the image ────────────────────────────────────────────────────────────────────────────────────────────────────────


def instructions(dockerfile=DEPLOY / "Dockerfile"):
    """Instruction and arguments of every line of a Dockerfile, joined where it is continued."""
    text = re.sub(r"\\\n", " ", dockerfile.read_text())
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return [tuple(line.split(None, 1)) for line in lines]


def stages(dockerfile=DEPLOY / "Dockerfile"):
    """The instructions of each stage."""
    found = []
    for instruction in instructions(dockerfile):
        if instruction[0] == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


@pytest.mark.parametrize("folder", [".", "installed"])
def test_the_dockerfiles_keep_the_rules(folder):
    """The rules of hadolint that a Dockerfile of pip and COPY can break, and ours: pinned, not root, nothing left."""
    known = {"FROM", "ARG", "RUN", "COPY", "ENV", "USER", "WORKDIR", "CMD", "LABEL", "SHELL"}
    dockerfile = DEPLOY / folder / "Dockerfile"
    lines, (first, *_, last) = instructions(dockerfile), stages(dockerfile)
    assert {name for name, _ in lines} <= known  # DL3020: no ADD; DL4000: no MAINTAINER
    for _, image in (line for line in lines if line[0] == "FROM"):
        assert re.fullmatch(r"python:\$\{PYTHON\}-slim-bookworm( AS \w+)?", image)  # DL3006, DL3007: a tag, not latest
    assert re.search(r"^ARG PYTHON=3\.11\.\d+$", dockerfile.read_text(), re.M)
    for name, words in lines:
        if name == "RUN":
            assert not re.search(r"\bsudo\b|\bcd \b|apt-get (upgrade|dist-upgrade)", words)  # DL3003, DL3004, DL3005
            for install in re.findall(r"pip install[^;&]*", words):
                assert "--constraint constraints.txt" in install  # DL3013: pinned
        if name == "COPY":
            assert not {".", "./"} & set(words.split()[:-1])  # only what is named, never a whole folder with its .git
        if name == "WORKDIR":
            assert words.startswith("/")  # DL3000
        if name in ("CMD", "SHELL"):
            assert words.startswith("[")  # DL3025
    assert [words for name, words in first if name == "ENV" and "PIP_NO_CACHE_DIR=1" in words]  # DL3042
    users = [words for name, words in last if name == "USER"]
    assert users == ["1000:1000"]  # DL3002; a number, so that Kubernetes can tell it is not root
    assert not [words for name, words in last if name == "RUN" and "pip" in words]  # the tools stay behind


def test_both_images_are_the_same_but_for_where_pairscape_comes_from():
    ours, installed = (stages(DEPLOY / folder / "Dockerfile") for folder in (".", "installed"))
    assert ours[1] == installed[1]
    assert ours[0][:-6] == installed[0][:-2]
    assert (DEPLOY / "installed" / "constraints.txt").read_text() == (ROOT / "constraints.txt").read_text()


def test_what_the_dockerfile_copies_is_there_and_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().split()
    kept = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {word for name, words in stages()[0] if name == "COPY" for word in words.split()[:-1]}
    assert copied == kept
    assert all((ROOT / path).exists() for path in copied)


def test_the_pinned_python_and_torch_are_those_of_ci():
    pins = (ROOT / "constraints.txt").read_text()
    assert re.search(r"^torch==[\d.]+$", pins, re.M)
    assert "Python 3.11" in pins.splitlines()[0]
    extras = next(words for name, words in stages()[0] if name == "ARG" and words.startswith("EXTRAS="))
    known = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text().split("optional-dependencies]")[1], re.M)
    assert set(extras.removeprefix("EXTRAS=").split(",")) <= set(known)


def own_index():
    """Where this machine's pip looks besides its index, if anywhere: mirrors have PyTorch's processor build there."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.extra-index-url"]
    found = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    return {"TORCH_CPU_INDEX": found} if found else {}


@pytest.mark.skipif(not os.environ.get("PAIRSCAPE_TEST_INSTALL"), reason="set PAIRSCAPE_TEST_INSTALL=1: takes minutes")
@pytest.mark.timeout(1800)
def test_the_install_steps_work_in_a_clean_environment(tmp_path):
    """Every step of the build stage, as written, with paths of this test in place of the image's."""
    source, target = tmp_path / "src", tmp_path / "opt/pairscape"
    source.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | own_index()
    environment["PATH"] = f"{target}/bin:{Path(sys.executable).resolve().parent}:{environment['PATH']}"
    for name, words in stages()[0]:
        words = words.replace("/opt/pairscape", str(target))
        if name == "ARG" and "=" in words:
            environment.setdefault(*words.split("=", 1))
        if name == "COPY":
            *copied, into = words.split()
            subprocess.run(["cp", "-r", *(ROOT / word for word in copied), source / into], check=True)
        if name == "RUN":
            step = ["bash", "-euo", "pipefail", "-c", words]
            done = subprocess.run(step, cwd=source, env=environment, check=False, capture_output=True, text=True)
            assert done.returncode == 0, (words, done.stderr[-2000:])
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    code = "import pairscape, torch, zarr, s3fs; print(torch.__version__, zarr.__version__)"
    done = subprocess.run([target / "bin/python", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == [f"{pinned['torch']}+cpu", pinned["zarr"]]
    said = subprocess.run([target / "bin/pairscape", "--version"], capture_output=True, text=True, check=True)
    assert f'version = "{said.stdout.strip()}"' in (ROOT / "pyproject.toml").read_text()
