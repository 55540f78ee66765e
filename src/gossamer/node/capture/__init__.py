"""How a workload's traffic comes to its Envoy: transparently inside namespaces, or explicitly on loopback."""
