"""Who everyone is: SPIFFE identities, the authority that signs them, and the tokens by which a host joins."""
