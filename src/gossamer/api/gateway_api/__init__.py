"""The kinds of the Kubernetes Gateway API (`gateway.networking.k8s.io`), with its defaults."""
