"""A configuration whose policies turn requests away, each another, and the requests that meet them."""

from __future__ import annotations

CONFIG = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-post, namespace: other}
spec:
  action: DENY
  rules:
  - to: [{operation: {methods: [DELETE]}}]
  - to: [{operation: {methods: [POST], paths: ["/explained/*"]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: open, namespace: other}
spec:
  rules:
  - to: [{operation: {paths: [/explained/open, /explained/post, "/-/*", /]}}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: tried, namespace: other, annotations: {istio.io/dry-run: "true"}}
spec:
  action: DENY
  rules:
  - to: [{operation: {paths: ["/explained/*"]}}]
"""
CALLS = (
    ("GET", "/explained/open", 200, ""),
    ("POST", "/explained/post", 403, "ns[other]-policy[no-post]-rule[1]"),
    ("DELETE", "/explained/open-not", 403, "ns[other]-policy[no-post]-rule[0]"),
    ("GET", "/explained/closed", 403, "none"),
)
"""Method, path, status, and the policy that Envoy's log is to name."""
