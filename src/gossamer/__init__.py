"""Gossamer: a service mesh whose configuration is a value and whose data plane is Envoy."""

__version__ = "0.1.0"
