"""What configuration means: services, endpoints, routes, policies, and what one proxy sees of them."""
