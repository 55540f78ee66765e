"""What users write: Istio's and Kubernetes' kinds, YAML, validation, `load`."""
