"""The example mesh hangs together: every name that one file uses is a name that another gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gossamer.demo.mesh import FOLDER, apply_edit, tour_edits, undo_edit, write_mesh
from tests.demo.running import await_listening, spawn

MESH: dict[str, Any] = yaml.safe_load((FOLDER / "gossamer.yaml").read_text())
BROKEN = {"reviews/broken", "reviews/unreadable"}
SOUND = [edit for edit in tour_edits() if edit not in BROKEN]
WORKLOADS = [workload["name"] for workload in MESH["workloads"]]


def documents(*files: Path) -> list[dict[str, Any]]:
    return [document for file in files for document in yaml.safe_load_all(file.read_text()) if document]


def key(document: dict[str, Any]) -> tuple[str, str, str]:
    metadata = document["metadata"]
    return document["kind"], metadata.get("namespace", "default"), metadata["name"]


def of_kind(config: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in config if document["kind"] == kind]


def with_edit(edit: str | None) -> list[dict[str, Any]]:
    files = {file.stem: file for file in (FOLDER / "config").glob("*.yaml")}
    if edit:
        files[edit.partition("/")[0]] = FOLDER / "tour" / f"{edit}.yaml"
    return documents(*files.values())


def selects(selector: dict[str, str], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


def destinations(value: object) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "destination" in value:
            yield value["destination"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from destinations(item)


@pytest.mark.parametrize("edit", [None, *SOUND])
def test_what_routes_and_policies_name_exists(edit: str | None) -> None:
    config = with_edit(edit)
    assert len({key(document) for document in config}) == len(config)
    services = {service["metadata"]["name"]: service["spec"] for service in of_kind(config, "Service")}
    subsets = {
        (rule["spec"]["host"], subset["name"]): subset["labels"]
        for rule in of_kind(config, "DestinationRule")
        for subset in rule["spec"]["subsets"]
    }
    for (host, _), labels in subsets.items():
        wanted = services[host]["selector"] | labels
        assert any(selects(wanted, workload["labels"]) for workload in MESH["workloads"]), wanted
    for route in of_kind(config, "VirtualService"):
        for destination in destinations(route["spec"]["http"]):
            assert destination["host"] in services
            assert "subset" not in destination or (destination["host"], destination["subset"]) in subsets
    for policy in of_kind(config, "AuthorizationPolicy"):
        selector = policy["spec"].get("selector", {}).get("matchLabels", {})
        assert any(selects(selector, workload["labels"]) for workload in MESH["workloads"])


def test_who_runs_is_who_the_policies_allow() -> None:
    config = with_edit(None)
    accounts = {account["metadata"]["name"] for account in of_kind(config, "ServiceAccount")}
    runs = [*MESH["workloads"], *MESH["gateways"]]
    identities = {f"cluster.local/ns/{one['namespace']}/sa/{one['serviceAccount']}" for one in runs}
    assert {workload["serviceAccount"] for workload in MESH["workloads"]} == accounts
    allowed = {
        (policy["spec"]["selector"]["matchLabels"]["app"], principal.rpartition("/")[2])
        for policy in of_kind(config, "AuthorizationPolicy")
        for rule in policy["spec"].get("rules", ())
        for source in rule["from"]
        for principal in source["source"]["principals"]
        if principal in identities
    }
    assert allowed == {
        ("productpage", "istio-ingressgateway-service-account"),
        ("details", "bookinfo-productpage"),
        ("reviews", "bookinfo-productpage"),
        ("ratings", "bookinfo-reviews"),
    }
    assert key(of_kind(config, "PeerAuthentication")[0]) == ("PeerAuthentication", "istio-system", "default")
    assert of_kind(config, "PeerAuthentication")[0]["spec"] == {"mtls": {"mode": "STRICT"}}


def test_the_gateway_is_selected_and_listens_on_this_machine_alone() -> None:
    (gateway,) = MESH["gateways"]
    (resource,) = of_kind(with_edit(None), "Gateway")
    assert selects(resource["spec"]["selector"], gateway["labels"])
    ports = {port["port"]: port["targetPort"] for port in gateway["ports"]}
    assert [ports[server["port"]["number"]] for server in resource["spec"]["servers"]] == [8080]
    assert gateway["address"] == "127.0.0.1"


@pytest.mark.parametrize("edit", tour_edits())
def test_an_edit_is_made_and_undone(tmp_path: Path, edit: str) -> None:
    assert write_mesh(tmp_path / "mesh") == tmp_path / "mesh" / "gossamer.yaml"
    before = {file.name: file.read_text() for file in (tmp_path / "mesh" / "config").iterdir()}
    assert before == {file.name: file.read_text() for file in (FOLDER / "config").iterdir()}
    changed = apply_edit(tmp_path / "mesh", edit)
    after = {file.name: file.read_text() for file in (tmp_path / "mesh" / "config").iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {changed.name}
    assert undo_edit(tmp_path / "mesh", edit) == changed
    assert {file.name: file.read_text() for file in (tmp_path / "mesh" / "config").iterdir()} == before


@pytest.mark.parametrize("edit", SOUND)
def test_an_edit_keeps_the_resources_of_the_file_that_it_replaces(edit: str) -> None:
    original = FOLDER / "config" / f"{edit.partition('/')[0]}.yaml"
    edited = {key(document) for document in documents(FOLDER / "tour" / f"{edit}.yaml")}
    if original.exists():
        assert edited == {key(document) for document in documents(original)}
    else:
        assert not edited & {key(document) for document in with_edit(None)}


def test_the_copy_can_be_edited_where_the_package_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "installed"
    write_mesh(installed)
    for file in installed.rglob("*.yaml"):
        file.chmod(0o444)
    monkeypatch.setattr("gossamer.demo.mesh.FOLDER", installed)
    write_mesh(tmp_path / "copy")
    assert all(file.stat().st_mode & 0o200 for file in (tmp_path / "copy").rglob("*.yaml"))


def test_the_broken_edits_are_broken_as_their_comments_say() -> None:
    (broken,) = documents(FOLDER / "tour" / "reviews" / "broken.yaml")
    assert [route["weight"] for route in broken["spec"]["http"][0]["route"]] == [50, "fifty"]
    with pytest.raises(yaml.YAMLError):
        documents(FOLDER / "tour" / "reviews" / "unreadable.yaml")


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_commands_start_services_that_are_healthy(name: str) -> None:
    workload = next(workload for workload in MESH["workloads"] if workload["name"] == name)
    interpreter, *arguments = workload["command"]
    assert interpreter == "${PYTHON}"
    assert arguments[:2] == ["-m", "gossamer.demo.bookinfo"]
    assert workload["ports"] == [workload["health"]["port"]] == [9080]
    spawned = spawn(arguments[2:], workload["env"] | {"HOST": "127.0.0.1", "PORT": "0"})
    try:
        running = await_listening(spawned)
        response = httpx.get(running.url + workload["health"]["path"], timeout=10, trust_env=False)
        (said,) = [event for event in running.events() if event["event"] == "listening"]
    finally:
        spawned.stop()
    assert response.status_code == 200
    assert response.headers["x-bookinfo-pod"] == name
    assert (said["service"], said["version"]) == (workload["labels"]["app"], workload["labels"]["version"])
