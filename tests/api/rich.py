"""A valid resource of each kind with most of what is supported in it."""

from __future__ import annotations

from typing import Any, Final

_DESTINATION: Final = {"host": "a.b.c", "subset": "v1", "port": {"number": 80}}
_TLS: Final = {"mode": "MUTUAL", "clientCertificate": "/c", "privateKey": "/k", "subjectAltNames": ["a"], "sni": "b"}
_POLICY: Final = {
    "loadBalancer": {"consistentHash": {"httpCookie": {"name": "c", "ttl": "5s"}, "maglev": {"tableSize": 7}}},
    "connectionPool": {
        "tcp": {"maxConnections": 1, "connectTimeout": "1s", "tcpKeepalive": {"probes": 1, "time": "1s"}},
        "http": {"http2MaxRequests": 1, "idleTimeout": "1s", "h2UpgradePolicy": "UPGRADE"},
    },
    "outlierDetection": {"consecutive5xxErrors": 1, "interval": "1s", "maxEjectionPercent": 50},
    "tls": _TLS,
}

RICH: Final[dict[str, dict[str, Any]]] = {
    "VirtualService": {
        "spec": {
            "hosts": ["a", "*.b.c"],
            "gateways": ["mesh", "ns/g"],
            "exportTo": ["."],
            "http": [
                {
                    "name": "r",
                    "match": [
                        {
                            "uri": {"prefix": "/a"},
                            "headers": {"x": {"regex": "a.*"}, "y": {}},
                            "queryParams": {"q": {"exact": "1"}},
                            "port": 80,
                            "sourceLabels": {"app": "a"},
                        }
                    ],
                    "route": [
                        {"destination": _DESTINATION, "weight": 1, "headers": {"request": {"set": {"a": "b"}}}},
                        {"destination": {"host": "d"}, "weight": 2},
                    ],
                    "timeout": "1s",
                    "retries": {"attempts": 1, "perTryTimeout": "1s", "retryOn": "5xx,503", "backoff": "25ms"},
                    "fault": {
                        "delay": {"fixedDelay": "1s", "percentage": {"value": 1.5}},
                        "abort": {"httpStatus": 503, "percentage": {"value": 1}},
                    },
                    "rewrite": {"uriRegexRewrite": {"match": "^/a", "rewrite": "/b"}},
                    "mirrors": [{"destination": {"host": "e"}, "percentage": {"value": 1}}],
                    "corsPolicy": {"allowOrigins": [{"exact": "a"}], "allowMethods": ["GET"], "maxAge": "1s"},
                    "headers": {"response": {"add": {"a": "%%"}, "remove": ["b"]}},
                },
                {"match": [{"port": 81}], "redirect": {"uri": "/", "redirectCode": 301, "port": 443}},
                {"directResponse": {"status": 200, "body": {"string": "a"}}},
            ],
            "tls": [{"match": [{"sniHosts": ["a"], "port": 443}], "route": [{"destination": {"host": "a"}}]}],
            "tcp": [{"match": [{"port": 9}], "route": [{"destination": {"host": "a"}, "weight": 1}]}],
        }
    },
    "DestinationRule": {
        "spec": {
            "host": "a",
            "trafficPolicy": _POLICY | {"portLevelSettings": [_POLICY | {"port": {"number": 80}}]},
            "subsets": [{"name": "v1", "labels": {"version": "v1"}, "trafficPolicy": _POLICY}],
            "exportTo": ["*"],
        }
    },
    "Gateway": {
        "spec": {
            "selector": {"a": "b"},
            "servers": [
                {
                    "port": {"number": 80, "name": "h", "protocol": "HTTP"},
                    "hosts": ["*"],
                    "tls": {"httpsRedirect": True},
                },
                {
                    "port": {"number": 443, "name": "s", "protocol": "HTTPS"},
                    "hosts": ["./a.b"],
                    "tls": {"mode": "MUTUAL", "credentialName": "c", "cipherSuites": ["AES128-SHA"]},
                },
            ],
        }
    },
    "ServiceEntry": {
        "spec": {
            "hosts": ["a.b"],
            "addresses": ["10.0.0.1", "10.1.0.0/16"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP", "targetPort": 8080}],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "endpoints": [{"address": "10.0.0.2", "ports": {"http": 81}, "labels": {"a": "b"}, "weight": 1}],
            "exportTo": ["a"],
            "subjectAltNames": ["x"],
        }
    },
    "WorkloadEntry": {
        "spec": {
            "address": "10.0.0.1",
            "ports": {"a": 1},
            "labels": {"a": "b"},
            "serviceAccount": "sa",
            "locality": "l",
        }
    },
    "AuthorizationPolicy": {
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "action": "DENY",
            "rules": [
                {
                    "from": [{"source": {"principals": ["a*"], "ipBlocks": ["10.0.0.0/8"]}}],
                    "to": [{"operation": {"ports": ["80"], "paths": ["/{*}/a"], "methods": ["GET"]}}],
                    "when": [{"key": "source.ip", "values": ["10.0.0.1"], "notValues": ["10.0.0.2"]}],
                }
            ],
        }
    },
    "PeerAuthentication": {
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "mtls": {"mode": "STRICT"},
            "portLevelMtls": {"80": {"mode": "DISABLE"}},
        }
    },
    "Service": {"spec": {"selector": {"a": "b"}, "ports": [{"port": 80, "targetPort": "x", "name": "http"}]}},
    "Secret": {"data": {"a": "aGk="}, "stringData": {"b": "c"}, "type": "Opaque"},
    "Deployment": {
        "spec": {
            "template": {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"serviceAccountName": "sa", "containers": [{"name": "c", "ports": [{"containerPort": 80}]}]},
            }
        }
    },
}
