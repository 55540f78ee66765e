"""What Envoy would do with a connection or a request, decided on the bytes that it is sent."""
