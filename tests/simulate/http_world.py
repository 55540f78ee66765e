"""One Envoy with listeners for all that a request can meet, and the same for the simulator."""

from __future__ import annotations

from dataclasses import dataclass

from gossamer.simulate.outcome import Outcome
from gossamer.simulate.simulator import Simulator
from tests.simulate import build
from tests.simulate.build import Json, direct, host, policy, rbac, table, to, typed

HEADER_MATCHERS: list[Json] = [
    {"string_match": {"exact": "1"}},
    {"string_match": {"exact": "1"}, "invert_match": True},
    {"string_match": {"exact": "1"}, "invert_match": True, "treat_missing_header_as_empty": True},
    {"string_match": {"exact": ""}, "treat_missing_header_as_empty": True},
    {"string_match": {"prefix": "ab", "ignore_case": True}},
    {"string_match": {"suffix": "c"}},
    {"string_match": {"contains": "b"}},
    {"string_match": {"safe_regex": {"regex": "[a-z]+c?|1.*2"}}},
    {"string_match": {"safe_regex": {"regex": "1|2"}}, "invert_match": True},
    {"present_match": True},
    {"present_match": False},
    {"present_match": True, "invert_match": True},
    {"present_match": False, "invert_match": True},
    {},
    {"invert_match": True},
    {"range_match": {"start": -5, "end": 2}},
    {"range_match": {"start": -5, "end": 2}, "invert_match": True},
    {"range_match": {"start": 0, "end": 2}, "treat_missing_header_as_empty": True},
]
HEADERS = [[], ["1"], ["2"], ["1", "2"], ["1,2"], [""], ["ABc"], ["abc", "x"], ["-5"], ["1x"], [" 1 "]]

PATH_MATCHES: dict[str, Json] = {
    "path": {"path": "/Path"},
    "path-any-case": {"path": "/Fold", "case_sensitive": False},
    "below": {"path_separated_prefix": "/below"},
    "prefix-any-case": {"prefix": "/Pre", "case_sensitive": False},
    "regex": {"safe_regex": {"regex": "/re/[a-z]+"}},
    "template": {
        "path_match_policy": {
            "name": "template",
            "typed_config": typed(
                "extensions.path.match.uri_template.v3.UriTemplateMatchConfig", path_template="/tmpl/{id}/*/c/**"
            ),
        }
    },
    "connect": {"connect_matcher": {}},
    "query": {"prefix": "/q", "query_parameters": [{"name": "k", "string_match": {"exact": "v"}}]},
    "query-absent": {"prefix": "/q", "query_parameters": [{"name": "k", "present_match": False}]},
    "query-present": {"prefix": "/q", "query_parameters": [{"name": "k"}]},
    "post": {"prefix": "/m", "headers": [{"name": ":method", "string_match": {"exact": "POST"}}]},
    "rest": {"prefix": "/"},
}
PATHS = (
    *("http://other.example/Path", "http://other.example", "Path"),
    *("/Path", "/path", "/Path?x", "/Path/", "/fold?x", "/FOLDER", "/below", "/below/", "/below/x", "/belowx"),
    *("/below?x", "/PREX", "/re/abc?x=1", "/re/abc1", "/re/", "/tmpl/1/x/c/", "/tmpl/1/x/c", "/tmpl/1/x/c/y/z=1"),
    *("/tmpl//x/c/", "/tmpl/a=b,c/x@y:z/c/[", "/tmpl/a/b/c/d/e", "/q?k=v", "/q?k=w&k=v", "/q?a=b&k=v", "/q?k=%76"),
    *("/q", "/q?k", "/q?k=", "/q?K=v", "/q?k=v;x", "/q?&&", "/m", "/x#f", "*", "/q?x#f", "/Path#"),
)
NORMAL_PATHS = (
    "/x/..;/foo",
    "/x/..;a=b/foo",
    "/x/.;/foo",
    "/x/..;/..;y/foo",
    "/a/b/..;",
    "/a/b/.;",
    "/x/...;/foo",
    "/x;a/../foo",
    "/x/%2e%2e;/foo",
    "/x/..;%2ffoo",
    "/x/..%3b/foo",
    "/x/..;?q=/..;/",
    *("/a/b", "/a//b", "/a/../b", "/a/./b", "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b", "/a%41", "/%61/b", "//a/b", "/a%"),
    *("/a/b?x=/../c", "/a/b/../../b", "/../b", "/a%zz", "/a/%2e%2e/b", "/a/%2E/b", "/a/b;x", "/a/..", "/a/.", "/a/b/"),
    *("/a%7Eb", "/a%2D", "/a%20b", "/a/...", "/a/.../b", "/..//b", "/a/b/..//c", "/a%00b", "/a%7f", "/a%5F", "/a%3D"),
    *("/a~b", "/a\xe4b", "/a\x7fb", "/a!$&'()*+,;=:@b", "/a%2eb"),
    *("/a|b", "/a{b}", '/a"b', "/a<b>", "/a^b", "/a`b", "/a'b", "/a%25b", "/?", "/a/?b", "/%2e%2e/%2e"),
)
AUTHORITIES = (
    *("x.foo.example", ".foo.example", "foo.example", "a.x.foo.example", "barx.example", "xbarx.example", "foo."),
    *("foo.x", "foo.x.y", "UPPER.example", "upper.example:81", "port.example:8080", "port.example", "port.example:80"),
    *("x.foo.example:80", "other.example", "x.deep.foo.example", "[::1]", "[::1]:80", "10.0.0.1", "10.0.0.1:80"),
)


def _hosts() -> list[Json]:
    return [
        host(name, domains, [direct(name)])
        for name, domains in {
            "suffix": ["*.foo.example", "*barx.example"],
            "deep": ["*.deep.foo.example"],
            "prefix": ["foo.*"],
            "upper": ["Upper.example"],
            "port": ["port.example:8080"],
            "v6": ["[::1]:80"],
            "v4": ["10.0.0.1"],
        }.items()
    ]


REDIRECTS: dict[str, Json] = {
    "https": {"https_redirect": True},
    "scheme": {"scheme_redirect": "https", "response_code": "FOUND"},
    "host": {"host_redirect": "new.example", "response_code": "PERMANENT_REDIRECT"},
    "port": {"port_redirect": 8443, "response_code": "SEE_OTHER"},
    "path": {"path_redirect": "/new", "response_code": "TEMPORARY_REDIRECT"},
    "path-query": {"path_redirect": "/new?y=1"},
    "prefix": {"prefix_rewrite": "/new"},
    "regex": {"regex_rewrite": {"pattern": {"regex": "/regex/(.*)"}, "substitution": "/\\1/x"}},
    "strip": {"path_redirect": "/new", "strip_query": True},
    "all": {"https_redirect": True, "host_redirect": "new.example", "port_redirect": 444, "path_redirect": "/z"},
}
REWRITES: dict[str, Json] = {
    "none": {},
    "prefix": {"prefix_rewrite": "/new"},
    "slash": {"prefix_rewrite": "/"},
    "regex": {"regex_rewrite": {"pattern": {"regex": "/(\\w+)/(\\w+)"}, "substitution": "/\\2/\\1"}},
    "host": {"host_rewrite_literal": "new.example", "append_x_forwarded_host": True},
    "host-header": {"host_rewrite_header": "x-to"},
    "host-path": {"host_rewrite_path_regex": {"pattern": {"regex": "^/([\\w-]+).*$"}, "substitution": "\\1.example"}},
}
EDITS: Json = {
    "request_headers_to_remove": ["x-gone"],
    "request_headers_to_add": [
        {"header": {"key": "x-added", "value": "route"}},
        {"header": {"key": "x-set", "value": "route"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
        {"header": {"key": "x-new", "value": "route"}, "append_action": "ADD_IF_ABSENT"},
        {"header": {"key": "x-path", "value": "%REQ(:path)%"}},
        {"header": {"key": "x-if", "value": "route"}, "append_action": "OVERWRITE_IF_EXISTS"},
    ],
}
HOST_EDITS: Json = {
    "request_headers_to_add": [
        {"header": {"key": "x-added", "value": "host"}},
        {"header": {"key": "x-set", "value": "host"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"},
    ],
}


@dataclass(frozen=True, slots=True)
class Both:
    """The same configuration in Envoy and in the simulator, and the port of each listener."""

    ports: dict[str, int]
    simulator: Simulator

    def simulate(self, name: str, path: str = "/", authority: str = "a.example", **more: object) -> Outcome:
        request = build.get(self.ports[name], path, authority, **more)  # type: ignore[arg-type]
        return self.simulator.simulate(request)


def listeners_of(ports: dict[str, int]) -> list[Json]:
    headers = [direct(f"h{n}", {"prefix": f"/h{n}/", "headers": [{"name": "x", **m}]}) for n, m in enumerate_matchers()]
    everything = direct("rest")
    echo = [
        {"header": {"key": f"x-echo-{name.strip(':')}", "value": f"%REQ({name})%"}, "append_action": "ADD_IF_ABSENT"}
        for name in (":path", ":authority", "x-added", "x-set", "x-new", "x-gone", "x-path", "x-if", "x-forwarded-host")
    ]
    named = {
        "headers": [build.manager(table(host("all", ["*"], [*headers, everything])))],
        "policies": [build.manager(table(host("all", ["*"], [everything])), [rbac(_header_policies())])],
        "paths": [build.manager(table(host("all", ["*"], [direct(n, m) for n, m in PATH_MATCHES.items()])))],
        "hosts": [build.manager(table(*_hosts(), host("all", ["*"], [everything])))],
        "hosts-without-port": [
            build.manager(table(*_hosts(), host("all", ["*"], [everything]), ignore_port_in_host_matching=True))
        ],
        "no-rest": [build.manager(table(*_hosts()))],
        "normal": [build.manager(_echo_path(), normalize_path=True)],
        "merged": [
            build.manager(
                _echo_path(),
                normalize_path=True,
                merge_slashes=True,
                path_with_escaped_slashes_action="UNESCAPE_AND_FORWARD",
            )
        ],
        "rejecting": [build.manager(_echo_path(), path_with_escaped_slashes_action="REJECT_REQUEST")],
        "redirects": [
            build.manager(table(host("all", ["*"], [_redirect(name, action) for name, action in REDIRECTS.items()])))
        ],
        "require-tls": [build.manager(table(host("all", ["*"], [everything], require_tls="ALL")))],
        "rewrites": [
            build.manager(
                table(
                    host(
                        "all",
                        ["*"],
                        [
                            to("echo", {"prefix": f"/{name}/"}, name, **action) | EDITS
                            for name, action in REWRITES.items()
                        ],
                        **HOST_EDITS,
                    )
                )
            )
        ],
        "echo": [build.manager(table(host("all", ["*"], [everything], response_headers_to_add=echo)))],
        "allow": [build.manager(table(host("all", ["*"], [everything])), [rbac(_allow_policies(ports), "ALLOW")])],
        "tcp": [build.tcp("echo")],
        "tcp-nowhere": [build.tcp("empty")],
        "nowhere": [
            build.manager(
                table(host("all", ["*"], [to("empty", {"prefix": "/e"}), to("absent")]), validate_clusters=False)
            )
        ],
        "weights": [build.manager(table(host("all", ["*"], [_weighted()])))],
    }
    return [build.listener(ports[name], [build.chain(filters)], name=name) for name, filters in named.items()]


def enumerate_matchers() -> list[tuple[int, Json]]:
    return list(enumerate(HEADER_MATCHERS))


def _header_policies() -> Json:
    """Each policy denies what its matcher matches, below a path of its own."""
    found = {}
    for number, matcher in enumerate_matchers():
        path = {"url_path": {"path": {"prefix": f"/h{number}/"}}}
        found[f"h{number:02}"] = policy({"and_rules": {"rules": [path, {"header": {"name": "x", **matcher}}]}})
    return found


def _allow_policies(ports: dict[str, int]) -> Json:
    local = {"address_prefix": "127.0.0.0", "prefix_len": 8}
    template = typed("extensions.path.match.uri_template.v3.UriTemplateMatchConfig", path_template="/t/{x}")
    return {
        "a-path": policy({"url_path": {"path": {"exact": "/ok"}}}),
        "b-port": policy({"and_rules": {"rules": [{"destination_port": ports["allow"]}, _at("/port")]}}),
        "c-other-port": policy({"and_rules": {"rules": [{"destination_port": 1}, _at("/other-port")]}}),
        "d-range": policy(
            {"and_rules": {"rules": [{"destination_port_range": {"start": 1, "end": 65536}}, _at("/range")]}}
        ),
        "e-source": policy(_at("/source"), {"direct_remote_ip": local}),
        "f-not-source": policy(_at("/not-source"), {"not_id": {"direct_remote_ip": local}}),
        "g-remote": policy(_at("/remote"), {"remote_ip": {"address_prefix": "10.1.0.0", "prefix_len": 16}}),
        "h-template": policy({"uri_template": {"name": "t", "typed_config": template}}),
        "i-header": policy(_at("/principal"), {"header": {"name": "x-who", "string_match": {"prefix": "me"}}}),
        "j-authenticated": policy(_at("/authenticated"), {"authenticated": {}}),
        "k-host": policy(
            {"header": {"name": ":authority", "string_match": {"exact": "Ok.example", "ignore_case": True}}}
        ),
        "l-method": policy({"header": {"name": ":method", "string_match": {"exact": "DELETE"}}}),
        "m-destination": policy({"and_rules": {"rules": [{"destination_ip": local}, _at("/destination")]}}),
        "n-sni": policy({"and_rules": {"rules": [{"requested_server_name": {"exact": ""}}, _at("/sni")]}}),
        "o-or": policy({"or_rules": {"rules": [_at("/or1"), _at("/or2")]}}, {"or_ids": {"ids": [{"any": True}]}}),
    }


def _at(path: str) -> Json:
    return {"url_path": {"path": {"exact": path}}}


def _redirect(name: str, action: Json) -> Json:
    return {"name": name, "match": {"prefix": f"/{name}/"}, "redirect": action}


def _echo_path() -> Json:
    """A table whose one route says in a header what path it was given."""
    seen = {"header": {"key": "x-seen", "value": "%REQ(:PATH)%"}}
    return table(host("all", ["*"], [direct("rest")], response_headers_to_add=[seen]))


def _weighted() -> Json:
    weights = {"clusters": [{"name": "echo", "weight": 0}, {"name": "echo2", "weight": 100}]}
    return {"name": "weighted", "match": {"prefix": "/"}, "route": {"weighted_clusters": weights}}


def clusters_of(ports: dict[str, int]) -> list[Json]:
    echo = [build.endpoint("127.0.0.1", ports["echo"])]
    return [build.static("echo", echo), build.static("echo2", echo), build.static("empty", [])]


NAMES = (
    *("headers", "policies", "paths", "hosts", "hosts-without-port", "no-rest", "normal", "merged", "rejecting"),
    *("redirects", "require-tls", "rewrites", "echo", "allow", "tcp", "tcp-nowhere", "nowhere", "weights"),
)
