"""The upstream Bookinfo YAML, unchanged: every file of its networking folder does what its documentation says it does.

One mesh serves all tests; each puts files into the folder of configuration, asks, and takes them out again.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from gossamer.cli.tour.chance import binomial_bounds
from gossamer.cli.tour.load import Record, Requests, send_requests
from gossamer.cli.tour.scene import DETAILS, JASON, PAGE, REVIEWS, stars_of, status_of, version_of
from tests.e2e.meshes import PRODUCTPAGE, Place, Reply, free_port, get, place, until

GATEWAY = "bookinfo-gateway"
SUBSETS = "destination-rule-all"
NAMES = ("productpage-v1", "details-v1", "ratings-v1", "reviews-v1", "reviews-v2", "reviews-v3")
PROXIES = 8
SURE = 24
"""Answers after which a version that should be one in three would be missing once in 17,000 times."""
MESH = """\
version: 1
config: [config]
gateways:
  - name: istio-ingressgateway
    namespace: istio-system
    labels: {istio: ingressgateway}
    address: 127.0.0.1
    ports: [{name: http, port: 8080, targetPort: PORT}]
workloads:
"""


def _workload(name: str, more: str = "") -> str:
    """A workload that knows itself by its Deployment alone: labels, port and service account come from there."""
    service, _, version = name.rpartition("-")
    command = f'"${{PYTHON}}", -m, gossamer.demo.bookinfo, {service}, --version, {version}'
    return f"  - {{name: {name}, command: [{command}], health: {{path: /health, port: 9080}}{more}}}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookinfo:
    """The mesh that runs, its ingress's port, and where upstream's files are."""

    place: Place
    port: int
    upstream: Path

    @contextmanager
    def applied(self, *names: str) -> Iterator[None]:
        """These files of `networking/` are live within it, and no more after it."""
        folder = self.place.mesh / "config"

        def put() -> None:
            for name in names:
                shutil.copyfile(self.upstream / "networking" / f"{name}.yaml", folder / f"{name}.yaml")

        def take() -> None:
            for name in names:
                (folder / f"{name}.yaml").unlink()

        try:
            self._change(put)
            yield
        finally:
            self._change(take)

    def _change(self, change: Callable[[], None]) -> None:
        before = self.place.status("control-plane")["generation"]
        change()
        until(lambda: self.place.status("control-plane").get("generation", 0) > before, "the change is read", 10)
        until(lambda: self.place.synced(PROXIES), "every proxy has the change", 20)
        errors = [one for one in self.place.status("control-plane")["diagnostics"] if one["severity"] == "error"]
        assert errors == []

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Reply:
        return get(self.port, path, headers)

    def ask(self, path: str, count: int, headers: Mapping[str, str] | None = None) -> Record:
        """What comes of `count` requests, labelled by the version of reviews that answers."""
        label = version_of if path == REVIEWS else status_of
        requests = Requests(base=f"http://127.0.0.1:{self.port}", path=path, headers=headers or {}, label=label)
        return asyncio.run(send_requests(requests, count))

    def versions(self, count: int = SURE, headers: Mapping[str, str] | None = None) -> Counter[str]:
        """Which versions of reviews answer, and how often; a failed request is an error."""
        record = self.ask(REVIEWS, count, headers)
        assert not record.failed, record.problems()
        return record.labels()


@pytest.fixture(scope="module")
def everything(cases: Path) -> Iterator[Bookinfo]:
    with place() as found:
        port = free_port()
        found.folder("mesh")
        config = found.mesh / "config"
        config.mkdir()
        for name in ("bookinfo", "bookinfo-versions"):
            shutil.copyfile(cases / "bookinfo" / "platform" / "kube" / f"{name}.yaml", config / f"{name}.yaml")
        # upstream's details-v2 is a Deployment of its own that asks Google Books; ours is the same facts again
        second = _workload("details-v2", ", ports: [9080], labels: {app: details, version: v2}")
        text = MESH.replace("PORT", str(port)) + "".join(map(_workload, NAMES)) + second
        (found.mesh / "gossamer.yaml").write_text(text)
        began = time.monotonic()
        found.up()
        until(lambda: found.ready() and found.synced(PROXIES), "ready")
        print(f"ready after {time.monotonic() - began:.1f} s")
        yield Bookinfo(place=found, port=port, upstream=cases / "bookinfo")


@pytest.fixture(scope="module")
def bookinfo(everything: Bookinfo) -> Iterator[Bookinfo]:
    """With the gateway, and nothing else."""
    with everything.applied(GATEWAY):
        yield everything


@pytest.fixture
def subsets(bookinfo: Bookinfo) -> Iterator[Bookinfo]:
    """With the gateway and the subsets that virtual services name."""
    with bookinfo.applied(SUBSETS):
        yield bookinfo


def test_the_platform_file_alone(everything: Bookinfo) -> None:
    """Workloads have labels, port and account from their Deployments; nobody comes in without a gateway."""
    rows = {row["name"]: row for row in everything.place.status("control-plane")["workloads"]}
    assert rows["reviews-v3"]["service_account"] == "bookinfo-reviews"
    assert rows["reviews-v3"]["ports"].keys() == {"9080"}
    assert everything.get(PAGE).status == 0


def test_gateway(bookinfo: Bookinfo) -> None:
    """bookinfo-gateway opens its five paths, and no other, to the product page of all versions of reviews."""
    page = bookinfo.get(PAGE)
    assert page.status == 200
    assert PRODUCTPAGE in page.body
    assert bookinfo.get("/static/icon.svg").status == 200
    assert bookinfo.get("/logout").status == 303
    assert bookinfo.get("/login").status == 405  # the application's answer: it takes a POST
    assert bookinfo.get("/api/v1/products").status == 200
    assert bookinfo.get("/health").status == 404
    assert bookinfo.get("/productpage/").status == 404
    assert set(bookinfo.versions()) == {"v1", "v2", "v3"}


def test_virtual_services_before_their_subsets(bookinfo: Bookinfo) -> None:
    """A route to a subset that no destination rule names answers 503, as Istio's documentation warns."""
    with bookinfo.applied("virtual-service-all-v1"):
        assert bookinfo.ask(REVIEWS, 5).statuses() == {"503": 5}
        assert bookinfo.ask(DETAILS, 5).statuses() == {"503": 5}


@pytest.mark.parametrize("name", ["destination-rule-all", "destination-rule-all-mtls", "destination-rule-reviews"])
def test_destination_rules_alone(bookinfo: Bookinfo, name: str) -> None:
    """Subsets change nothing until somebody routes to them; mutual TLS and random choice reach every version."""
    with bookinfo.applied(name):
        assert set(bookinfo.versions()) == {"v1", "v2", "v3"}
        assert PRODUCTPAGE in bookinfo.get(PAGE).body
        with bookinfo.applied("virtual-service-reviews-v3"):
            assert set(bookinfo.versions()) == {"v3"}


def test_all_v1(subsets: Bookinfo) -> None:
    with subsets.applied("virtual-service-all-v1"):
        assert set(subsets.versions()) == {"v1"}
        assert set(subsets.versions(headers=JASON)) == {"v1"}
        pages = [subsets.get(PAGE).body for _ in range(6)]
        assert all("details-v1" in page and "details-v2" not in page for page in pages)


def test_reviews_v3(subsets: Bookinfo) -> None:
    with subsets.applied("virtual-service-reviews-v3"):
        assert set(subsets.versions()) == {"v3"}


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("virtual-service-reviews-90-10", {"v1": 0.9, "v2": 0.1}),
        ("virtual-service-reviews-80-20", {"v1": 0.8, "v2": 0.2}),
        ("virtual-service-reviews-50-v3", {"v1": 0.5, "v3": 0.5}),
        ("virtual-service-reviews-v2-v3", {"v2": 0.5, "v3": 0.5}),
    ],
)
def test_weights(subsets: Bookinfo, name: str, shares: Mapping[str, float]) -> None:
    count = 150
    with subsets.applied(name):
        seen = subsets.versions(count)
    print(f"{name}: {dict(seen)}")
    assert seen.keys() == shares.keys()
    for version, share in shares.items():
        fewest, most = binomial_bounds(count, share)
        assert fewest <= seen[version] <= most, seen


@pytest.mark.parametrize(
    ("name", "others"), [("virtual-service-reviews-test-v2", "v1"), ("virtual-service-reviews-jason-v2-v3", "v3")]
)
def test_jason_sees_v2(subsets: Bookinfo, name: str, others: str) -> None:
    with subsets.applied(name):
        assert set(subsets.versions(headers=JASON)) == {"v2"}
        assert set(subsets.versions()) == {others}
        assert set(subsets.versions(headers={"end-user": "jason2"})) == {others}


def test_details_v2(subsets: Bookinfo) -> None:
    with subsets.applied("virtual-service-details-v2"):
        pages = [subsets.get(PAGE).body for _ in range(6)]
        assert all("details-v2" in page and "details-v1" not in page for page in pages)


def test_fault_injection_details(bookinfo: Bookinfo) -> None:
    """Every request for details is aborted with 555, and the page is whole without them."""
    with bookinfo.applied("fault-injection-details-v1"):
        assert bookinfo.ask(DETAILS, 10).statuses() == {"555": 10}
        page = bookinfo.get(PAGE)
        assert page.status == 200
        assert "555" in page.body
    assert bookinfo.get(DETAILS).status == 200


def test_ratings_abort(subsets: Bookinfo) -> None:
    """jason's v2 of reviews has no stars to show; the others' v3 has."""
    with subsets.applied("virtual-service-ratings-test-abort", "virtual-service-reviews-jason-v2-v3"):
        assert _stars(subsets, JASON) == "stars lost"
        assert _stars(subsets, {}) == "red stars"


def test_ratings_delay(subsets: Bookinfo) -> None:
    """A delay of 7 s is longer than the product page's patience: jason has no reviews, after two tries of 3 s."""
    with subsets.applied("virtual-service-ratings-test-delay", "virtual-service-reviews-test-v2"):
        began = time.monotonic()
        assert get(subsets.port, REVIEWS).status == 200
        undelayed = time.monotonic() - began
        delayed = get(subsets.port, PAGE, JASON)
        took = time.monotonic() - began - undelayed
        assert delayed.status == 200
        assert "reviews of this book are out of reach" in delayed.body
        assert undelayed < 3
        assert 6 <= took < 7.9


def _stars(bookinfo: Bookinfo, headers: Mapping[str, str]) -> str:
    record = asyncio.run(
        send_requests(
            Requests(base=f"http://127.0.0.1:{bookinfo.port}", path=REVIEWS, headers=headers, label=stars_of), 6
        )
    )
    labels = record.labels()
    assert len(labels) == 1, labels
    return next(iter(labels))


def test_every_file_was_applied(cases: Path) -> None:
    """No file of upstream's is forgotten here."""
    text = Path(__file__).read_text()
    missing = [file.stem for file in (cases / "bookinfo" / "networking").glob("*.yaml") if f'"{file.stem}"' not in text]
    assert missing == []
