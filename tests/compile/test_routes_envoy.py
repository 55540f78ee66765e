"""A real Envoy takes every kind of route."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.compile.static import Stub
from gossamer.model.proxy import Proxy
from tests.compile.compiled import GATEWAY, SIDECAR, compiled, istio, service
from tests.compile.validated import validated

pytestmark = pytest.mark.envoy

RULES = """
  hosts: [reviews, "fd00::1", 10.9.9.9]
  gateways: [mesh, gw]
  http:
  - name: every-match
    match:
    - name: a
      uri: {prefix: /a}
      ignoreUriCase: true
      scheme: {exact: http}
      method: {regex: GET|POST}
      authority: {prefix: reviews}
      headers: {x-a: {}, x-b: {exact: b}, x-c: {regex: ".*"}, "@request.auth.claims[realm][roles]": {exact: admin}}
      withoutHeaders: {x-d: {prefix: d}, "@request.auth.claims.sub": {}}
      queryParams: {q: {exact: ""}, r: {regex: "[0-9]+"}, s: {prefix: x}}
      port: 80
      statPrefix: counted
    - uri: {regex: "/b/.*"}
    - uri: {exact: /c}
    timeout: 2s
    retries:
      attempts: 3
      perTryTimeout: 1s
      retryOn: 5xx,gateway-error,reset,reset-before-request,connect-failure,envoy-ratelimited,retriable-4xx,
        refused-stream,retriable-status-codes,retriable-headers,cancelled,deadline-exceeded,internal,
        resource-exhausted,unavailable,503
      retryRemoteLocalities: true
      retryIgnorePreviousHosts: true
      backoff: 100ms
    rewrite: {uri: /x, authority: other.com}
    mirrors: [{destination: {host: ratings}, percentage: {value: 0.5}}, {destination: {host: reviews}}]
    fault: {delay: {fixedDelay: 1s, percentage: {value: 1}}, abort: {grpcStatus: UNAVAILABLE, percentage: {value: 1}}}
    headers: {request: {set: {a: b}, add: {c: d}, remove: [e]}, response: {set: {a: "%START_TIME%"}, remove: [e]}}
    corsPolicy:
      allowOrigins: [{exact: http://a}, {prefix: http}, {regex: ".*"}]
      allowMethods: [GET]
      allowHeaders: [x]
      exposeHeaders: [z]
      maxAge: 1m
      allowCredentials: true
      unmatchedPreflights: IGNORE
    route:
    - {destination: {host: reviews}, weight: 1, headers: {request: {set: {Host: a.com}}, response: {add: {x: z}}}}
    - {destination: {host: ratings, port: {number: 80}}, weight: 0}
  - match: [{uri: {prefix: /r}}]
    redirect: {prefixRewrite: /s, authority: a.com, scheme: https, derivePort: FROM_REQUEST_PORT, redirectCode: 308}
  - match: [{uri: {prefix: /regex}}]
    rewrite: {uriRegexRewrite: {match: "/regex/(.*)", rewrite: '/\\1'}}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /cors}}]
    corsPolicy: {allowOrigin: ["*", http://a]}
    route: [{destination: {host: reviews}}]
  - match: [{uri: {prefix: /d}}]
    directResponse: {status: 503, body: {bytes: aGVsbG8=}}
  - match: [{uri: {prefix: /child}}]
    delegate: {name: child}
  tcp:
  - match: [{port: 82, sourceSubnet: 10.1.0.0/16, destinationSubnets: [10.0.0.0/8, 10.0.0.1]}]
    route: [{destination: {host: reviews}, weight: 1}, {destination: {host: ratings}, weight: 2}]
  - match: [{port: 82, destinationSubnets: [10.0.0.0/8]}]
    route: [{destination: {host: reviews}}]
"""
CHILD = """
  http:
  - match: [{uri: {exact: /child/a}}, {uri: {regex: "/child/b.*"}}]
    route: [{destination: {host: ratings}}]
"""
SERVERS = """
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}
  - {port: {number: 82, name: tcp, protocol: TCP}, hosts: ['*']}
"""
DOCUMENTS = (
    service("reviews", "{name: http, port: 80}, {name: tcp, port: 82}", extra="clusterIP: 10.0.0.1"),
    service("ratings"),
    istio("VirtualService", "v", RULES),
    istio("VirtualService", "child", CHILD),
    istio("Gateway", "gw", SERVERS),
)


@pytest.mark.parametrize("proxy", [SIDECAR, GATEWAY], ids=["sidecar", "gateway"])
def test_every_field_of_a_virtual_service(proxy: Proxy, envoy: Path, stub: Stub, tmp_path: Path) -> None:
    found = compiled(*DOCUMENTS, proxy=proxy)
    assert validated(envoy, found.resources, stub, tmp_path) == ""
