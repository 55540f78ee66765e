"""Bookinfo by itself, without a mesh: real processes, called as a browser and the other services call them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from gossamer.demo.bookinfo.settings import load_settings
from tests.demo.farside import Said, far_side
from tests.demo.running import Running, await_listening, bookshop, spawn, started, upstream_env

Shop = dict[str, Running]


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with bookshop() as running:
        yield running


def get(running: Running, path: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(running.url + path, headers=named, timeout=20, trust_env=False)


@pytest.mark.parametrize("name", ["details", "ratings", "reviews-v1", "productpage-v1"])
def test_health(shop: Shop, name: str) -> None:
    response = get(shop[name], "/health")
    assert response.status_code == 200
    assert "healthy" in response.json()["status"]


def test_details(shop: Shop) -> None:
    response = get(shop["details"], "/details/0")
    assert response.headers["x-bookinfo-pod"] == "details-v1"
    assert response.json() == {
        "id": 0,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
    }
    assert get(shop["details"], "/details/first").status_code == 404


def test_ratings_are_kept_for_the_book_that_they_were_posted_for(shop: Shop) -> None:
    ratings = shop["ratings"]
    posted = httpx.post(f"{ratings.url}/ratings/7", json={"Reviewer1": 1, "Reviewer2": 3})
    assert posted.json() == {"id": 7, "ratings": {"Reviewer1": 1, "Reviewer2": 3}}
    assert get(ratings, "/ratings/7").json() == posted.json()
    assert get(ratings, "/ratings/0").json() == {"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}
    assert [review["rating"]["stars"] for review in get(shop["reviews-v2"], "/reviews/7").json()["reviews"]] == [1, 3]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"{", "want JSON"),
        (b"[]", "want an object"),
        (b"{}", "want an object"),
        (b'{"R": 6}', "want 0 to 5 stars from R"),
        (b'{"R": true}', "want 0 to 5 stars from R"),
        (b'{"R": "5"}', "want 0 to 5 stars from R"),
    ],
)
def test_a_wrong_rating_is_refused_with_its_reason(shop: Shop, body: bytes, complaint: str) -> None:
    response = httpx.post(f"{shop['ratings'].url}/ratings/8", content=body)
    assert response.status_code == 400
    assert complaint in response.json()["error"]
    assert get(shop["ratings"], "/ratings/8").json()["ratings"] == {"Reviewer1": 5, "Reviewer2": 4}


@pytest.mark.parametrize(("version", "color"), [("v1", None), ("v2", "black"), ("v3", "red")])
def test_reviews_differ_by_version(shop: Shop, version: str, color: str | None) -> None:
    body = get(shop[f"reviews-{version}"], "/reviews/0").json()
    assert (body["id"], body["podname"], body["version"]) == ("0", f"reviews-{version}", version)
    assert body["clustername"] == "null"
    assert [review["reviewer"] for review in body["reviews"]] == ["Reviewer1", "Reviewer2"]
    assert all(len(review["text"]) > 50 for review in body["reviews"])
    ratings = [review.get("rating") for review in body["reviews"]]
    assert ratings == ([{"stars": 5, "color": color}, {"stars": 4, "color": color}] if color else [None, None])


@pytest.mark.parametrize(("version", "color"), [("v1", None), ("v2", "black"), ("v3", "red")])
def test_the_page_shows_the_book_and_the_stars_of_the_version(shop: Shop, version: str, color: str | None) -> None:
    response = get(shop[f"productpage-{version}"], "/productpage")
    html = response.text
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert "The Comedy of Errors" in html
    assert "123-1234567890" in html
    assert f'id="reviews-pod">reviews-{version}<' in html
    assert f'id="reviews-version">{version}<' in html
    assert (f"5 of 5 {color} stars" in html) == bool(color)
    assert ("4.5 of 5" in html) == bool(color)
    assert ("shows no stars" in html) == (color is None)
    assert 'role="alert"' not in html
    assert ("ratings-v1" in html) == bool(color)
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")  # nothing is fetched from elsewhere


def test_the_ways_in(shop: Shop) -> None:
    page = shop["productpage-v1"]
    assert shop["details"].url in get(page, "/").text
    assert get(page, "/static/icon.svg").headers["content-type"].startswith("image/svg+xml")


def test_the_api(shop: Shop) -> None:
    page = shop["productpage-v2"]
    (product,) = get(page, "/api/v1/products").json()
    assert (product["id"], product["title"]) == (0, "The Comedy of Errors")
    assert get(page, "/api/v1/products/0").json() == get(shop["details"], "/details/0").json()
    assert get(page, "/api/v1/products/0/reviews").json() == get(shop["reviews-v2"], "/reviews/0").json()
    assert get(page, "/api/v1/products/0/ratings").json() == get(shop["ratings"], "/ratings/0").json()
    missing = get(page, "/api/v1/products/1/reviews")
    assert (missing.status_code, missing.json()) == (404, {"error": "There is no product 1"})


def test_signing_in_names_the_end_user_to_reviews_until_signing_out() -> None:
    with (
        far_side(lambda _: Said(body=b'{"reviews": []}')) as reviews,
        started("productpage", env=upstream_env(details=1, reviews=reviews.port)) as page,
        httpx.Client(base_url=page.url, follow_redirects=True, trust_env=False) as browser,
    ):

        def end_user() -> str | None:
            return reviews.seen[-1][1]["end-user"]

        assert "Sign in" in browser.get("/productpage").text
        assert end_user() is None
        signed_in = browser.post("/login", data={"username": " jason ", "passwd": "x"})
        assert signed_in.url.path == "/productpage"
        assert "Signed in as <b>jason</b>" in signed_in.text
        assert end_user() == "jason"
        browser.get("/productpage", headers={"end-user": "mallory"})
        assert reviews.seen[-1][1].get_all("end-user") == ["jason"]
        assert "Sign in" in browser.get("/logout").text
        assert end_user() is None
        browser.get("/productpage", headers={"end-user": "curl"})
        assert end_user() == "curl"


@pytest.mark.parametrize("name", ["", "  ", "a\r\nx-evil: 1", "Jos\u00e9", "n" * 65, "n" * 5000])
def test_a_name_that_no_header_can_carry_is_refused(shop: Shop, name: str) -> None:
    with httpx.Client(base_url=shop["productpage-v1"].url, follow_redirects=True) as browser:
        response = browser.post("/login", data={"username": name})
        assert "printable ASCII" in response.text
        assert not browser.cookies


def test_a_name_is_escaped_on_the_page(shop: Shop) -> None:
    with httpx.Client(base_url=shop["productpage-v1"].url, follow_redirects=True) as browser:
        html = browser.post("/login", data={"username": "<script>alert('1; 2')</script>"}).text
    assert "<script>" not in html
    assert "&lt;script&gt;alert(&#x27;1; 2&#x27;)&lt;/script&gt;" in html


CARRIED = {
    "x-request-id": "11111111-2222",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "tracestate": "vendor=1",
    "b3": "1-2-1",
    "x-b3-traceid": "4bf92f3577b34da6",
    "x-b3-spanid": "00f067aa0ba902b7",
    "x-b3-parentspanid": "1f067aa0ba902b7f",
    "x-b3-sampled": "1",
    "x-b3-flags": "0",
    "end-user": "jason",
    "user-agent": "tester/1",
    "authorization": "Bearer token",
    "cookie": "session=jason; theme=dark",
    "x-ext-authz": "allow",
}


def test_context_travels_all_the_way_and_nothing_else_does() -> None:
    rated = Said(body=b'{"id": 0, "ratings": {"Reviewer1": 2, "Reviewer2": 3}}')
    with (
        far_side(lambda _: rated) as ratings,
        started("reviews", "--version", "v3", env=upstream_env(ratings=ratings.port)) as reviews,
        started("productpage", env=upstream_env(details=1, reviews=reviews.port)) as page,
    ):
        extra = {"x-private": "1", "x-forwarded-client-cert": "URI=spiffe://a/ns/b/sa/c", "accept-language": "de"}
        html = httpx.get(f"{page.url}/productpage", headers=CARRIED | extra).text
    assert "2 of 5 red stars" in html
    ((path, received),) = ratings.seen
    assert path == "/ratings/0"
    assert {name.lower(): value for name, value in received.items() if name.lower() != "host"} == CARRIED


def test_who_the_proxies_saw_calling_is_shown() -> None:
    sidecar = Said(body=b'{"reviews": []}', headers=(("x-bookinfo-peer", "spiffe://td/ns/default/sa/productpage"),))
    with (
        far_side(lambda _: sidecar) as reviews,
        started("productpage", env=upstream_env(details=1, reviews=reviews.port)) as page,
    ):
        assert "no proxy vouched" not in get(page, "/productpage").text
        forged = "By=spiffe://td/ns/x/sa/y;URI=spiffe://td/ns/evil/sa/evil"
        real = 'By=spiffe://td/ns/x/sa/y;Hash=ab;Subject="CN=a,O=b";URI=spiffe://td/ns/default/sa/ingress;DNS=c'
        response = get(page, "/productpage", x_forwarded_client_cert=f"{forged},{real}")
    assert response.headers["x-bookinfo-peer"] == "spiffe://td/ns/default/sa/ingress"
    shown = response.text.replace("<wbr>", "")
    assert "spiffe://td/ns/default/sa/ingress" in shown
    assert "spiffe://td/ns/default/sa/productpage" in shown
    assert "evil" not in shown


def test_the_page_says_what_failed_and_stays_whole() -> None:
    def refuse(path: str) -> Said:
        if path.startswith("/details"):
            return Said(status=555, body=b"<b>fault filter abort</b>")
        return Said(status=403, body=b"RBAC: access denied")

    with (
        far_side(refuse) as others,
        started("productpage", env=upstream_env(details=others.port, reviews=others.port, ratings=1)) as page,
    ):
        response = get(page, "/productpage")
        assert response.status_code == 200
        assert "The Comedy of Errors" in response.text
        assert "The details service answered 555: &lt;b&gt;fault filter abort&lt;/b&gt;." in response.text
        assert "The reviews service answered 403: RBAC: access denied." in response.text
        assert sorted(others.paths) == ["/details/0", "/reviews/0"]  # a refusal is not asked again
        assert get(page, "/api/v1/products/0").status_code == 555
        assert get(page, "/api/v1/products/0/ratings").json() == {"error": "The ratings service could not be reached"}
        assert {event.get("upstream") for event in page.events()} - {None} == {"details", "reviews", "ratings"}


def test_failing_reviews_are_asked_twice_and_broken_answers_are_failures() -> None:
    answers = iter([Said(status=503, body=b"no healthy upstream"), Said(body=b'{"reviews": []}'), Said(body=b"oops")])
    last = Said(status=503, body=b"x" * 500)
    with (
        far_side(lambda _: next(answers, last)) as reviews,
        started("productpage", env=upstream_env(details=1, reviews=reviews.port)) as page,
    ):
        recovered = get(page, "/productpage").text
        assert "reviews of this book are out of reach" not in recovered
        assert "asked twice" in recovered
        broken = get(page, "/api/v1/products/0/reviews")
        assert broken.json() == {"error": "The reviews service answered 503"}
        assert len(reviews.seen) == 4


def test_late_ratings_cost_the_reviews_of_v2_but_only_the_stars_of_v3() -> None:
    """Istio's fault injection task: ratings 7 s late, productpage's 3 s twice, and the shorter deadline of v3."""
    late = Said(body=b'{"id": 0, "ratings": {"Reviewer1": 5, "Reviewer2": 4}}', delay=7)

    def timed(page: Running) -> tuple[float, str]:
        begun = time.monotonic()
        html = get(page, "/productpage").text
        return time.monotonic() - begun, html

    with far_side(lambda _: late) as ratings, ThreadPoolExecutor(2) as threads:
        env = upstream_env(ratings=ratings.port)
        with (
            started("reviews", "--version", "v2", env=env) as v2,
            started("reviews", "--version", "v3", env=env) as v3,
            started("productpage", env=upstream_env(details=1, reviews=v2.port)) as page2,
            started("productpage", env=upstream_env(details=1, reviews=v3.port)) as page3,
        ):
            (took2, with_v2), (took3, with_v3) = threads.map(timed, (page2, page3))
            v2.child.kill()  # it still waits for ratings, and would until its drain ends
    assert took3 > 2.4
    assert "asked twice" not in with_v3
    assert "The ratings service cannot be asked right now" in with_v3
    assert "Two pairs of twins, one town" in with_v3
    assert took2 > 5.9
    assert "The reviews service gave no answer within 3 s, asked twice." in with_v2
    assert "Two pairs of twins, one town" not in with_v2


def test_absent_ratings_leave_the_reviews() -> None:
    with started("reviews", "--version", "v2", env=upstream_env(ratings=1)) as reviews:
        response = get(reviews, "/reviews/0")
    assert response.status_code == 200
    assert [set(review["rating"]) for review in response.json()["reviews"]] == [{"error"}, {"error"}]


def test_the_proxy_of_the_environment_is_used_but_for_the_hosts_that_it_excepts() -> None:
    with (
        far_side(lambda _: Said(body=b'{"reviews": [], "podname": "by-proxy"}')) as proxy,
        started("details") as details,
    ):
        env = {
            "HTTP_PROXY": f"http://127.0.0.1:{proxy.port}",
            "NO_PROXY": "127.0.0.1",
            "SERVICES_DOMAIN": "shop.svc.cluster.local",
            "REVIEWS_SERVICE_PORT": "9081",
        }
        with started("productpage", env=env) as page:
            html = get(page, "/productpage").text
            assert "by-proxy" in html
            assert sorted(proxy.paths) == [
                "http://details.shop.svc.cluster.local:9080/details/0",
                "http://reviews.shop.svc.cluster.local:9081/reviews/0",
            ]
            assert {seen["host"] for _, seen in proxy.seen} == {
                "details.shop.svc.cluster.local:9080",
                "reviews.shop.svc.cluster.local:9081",
            }
        del env["SERVICES_DOMAIN"]
        with started("productpage", env=env | upstream_env(details=details.port)) as page:
            assert "123-1234567890" in get(page, "/productpage").text
    assert proxy.paths[2:] == ["http://reviews:9081/reviews/0"]


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_what_is_open_and_exits_0(stop_signal: signal.Signals) -> None:
    slow = Said(body=b'{"reviews": []}', delay=1)
    with (
        far_side(lambda _: slow) as reviews,
        started("productpage", env=upstream_env(details=1, reviews=reviews.port)) as page,
        socket.create_connection(("127.0.0.1", page.port), timeout=10) as client,
    ):
        client.sendall(b"GET /api/v1/products/0/reviews HTTP/1.1\r\nhost: a\r\n\r\n")
        deadline = time.monotonic() + 10
        while not reviews.seen and time.monotonic() < deadline:
            time.sleep(0.01)
        page.child.send_signal(stop_signal)
        answer = b""
        while chunk := client.recv(4096):
            answer += chunk
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert page.child.wait(5) == 0


def test_a_service_listens_where_and_as_what_flags_and_environment_say() -> None:
    env = {"HOST": "127.0.0.1", "PORT": "0", "SERVICE_VERSION": "v2", "HOSTNAME": "pod-7", "CLUSTER_NAME": "east"}
    spawned = spawn(["reviews"], env | upstream_env(ratings=1))
    try:
        body = get(await_listening(spawned), "/reviews/0").json()
        assert (body["podname"], body["version"], body["clustername"]) == ("pod-7", "v2", "east")
    finally:
        spawned.stop()
    with started("reviews", "--version", "v1", "--podname", "named", env=env) as reviews:
        body = get(reviews, "/reviews/0").json()
        assert (body["podname"], body["version"]) == ("named", "v1")


@pytest.mark.parametrize(
    ("environ", "host"),
    [
        ({}, "0.0.0.0"),
        ({"HOST": "127.0.0.5"}, "127.0.0.5"),
        ({"HOST": "::1"}, "::1"),
        ({"HOST": "x86_64-linux"}, "0.0.0.0"),
    ],
)
def test_a_host_that_is_no_address_is_not_meant_for_us(environ: dict[str, str], host: str) -> None:
    assert load_settings(["details"], environ).host == host


def test_a_wrong_command_and_a_taken_port_are_told_apart() -> None:
    command = [sys.executable, "-m", "gossamer.demo.bookinfo"]
    wrong = subprocess.run([*command, "shop"], capture_output=True, text=True, timeout=30, check=False)
    assert wrong.returncode == 2
    assert "productpage" in wrong.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = ["--host", "127.0.0.1", "--port", str(taken.getsockname()[1])]
        busy = subprocess.run([*command, "details", *where], capture_output=True, text=True, timeout=30, check=False)
    assert busy.returncode == 1
    assert busy.stderr.startswith("error: cannot listen on 127.0.0.1 port")


def test_starting_costs_little(shop: Shop) -> None:
    """Six of these start beside their sidecars on two cores: 0.4 s of CPU each when measured, budget doubled twice."""
    with started("productpage") as page:
        times = psutil.Process(page.child.pid).cpu_times()
    assert times.user + times.system < 1.6


def test_an_answer_is_not_held_back_for_an_acknowledgement(shop: Shop) -> None:
    took = []
    with httpx.Client(base_url=shop["ratings"].url, trust_env=False) as client:
        for _ in range(60):  # the kernel acknowledges the first few at once
            began = time.monotonic()
            client.get("/ratings/0")
            took.append(time.monotonic() - began)
    assert min(took[40:]) < 0.03
