"""A server outside the mesh that takes nobody without a certificate, and a mesh that shows one from its egress gateway.

Invariant: the server closes every connection after its answer, so that each request shows what is the certificate now.
"""

from __future__ import annotations

import socketserver
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.compile.certificates import Issuer
from tests.serving import in_background

HOST = "strict.example"
URL = f"http://{HOST}/x"
CONFIG = """\
apiVersion: v1
kind: Service
metadata: {name: istio-egressgateway, namespace: istio-system}
spec: {selector: {istio: egressgateway}, ports: [{name: https, port: 443, targetPort: 8443}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: strict, namespace: default}
spec:
  hosts: [strict.example]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: https, protocol: HTTPS}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: STRICT, https: STRICT}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: strict, namespace: default}
spec:
  selector: {istio: egressgateway}
  servers:
    - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [strict.example], tls: {mode: ISTIO_MUTUAL}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: egress, namespace: default}
spec:
  host: istio-egressgateway.istio-system.svc.cluster.local
  subsets:
    - name: strict
      trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: ISTIO_MUTUAL, sni: strict.example}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: strict, namespace: default}
spec:
  hosts: [strict.example]
  gateways: [strict, mesh]
  http:
    - match: [{gateways: [mesh], port: 80}]
      route: [{destination: {host: istio-egressgateway.istio-system.svc.cluster.local, subset: strict}}]
    - match: [{gateways: [strict], port: 443}]
      route: [{destination: {host: strict.example, port: {number: 443}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: strict, namespace: default}
spec:
  host: strict.example
  trafficPolicy: {portLevelSettings: [{port: {number: 443}, tls: {mode: MUTUAL, credentialName: client}}]}
---
"""


def with_client(issuer: Issuer, port: int, name: str) -> str:
    """The configuration by which the egress gateway shows a certificate for `name`, and believes the issuer."""
    own = issuer.issue(name).secret("client", "istio-system", issuer.roots)
    return CONFIG.replace("STRICT", str(port)) + own


@contextmanager
def strict_server(issuer: Issuer, folder: Path) -> Iterator[int]:
    """The server's port. Its answer names in `x-peer` whom the certificate is for that it was shown."""
    context = issuer.server(folder, HOST)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=issuer.roots)

    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(10)
            try:
                with context.wrap_socket(self.request, server_side=True) as shown:
                    shown.recv(65536)
                    peer = (shown.getpeercert() or {})["subjectAltName"][0][1]
                    head = f"HTTP/1.1 200 OK\r\nx-peer: {peer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    shown.sendall(head.encode())
            except OSError:
                return

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Answer)
    with in_background(server):
        yield int(server.server_address[1])
