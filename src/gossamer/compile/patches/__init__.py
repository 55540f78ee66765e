"""EnvoyFilter: what users change in the Envoy configuration that was compiled for them."""
