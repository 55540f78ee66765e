"""What Envoy is told; the one room that makes Envoy protobufs of configuration."""
