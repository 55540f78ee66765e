"""Delta xDS: what clients hold, what they must be told next, and in which order.

The state machines (`stream`, `client`) touch no socket and read no clock; `service` is their gRPC adapter. Nothing here
knows what a resource means: names, versions, references and bytes are all there is.
"""
