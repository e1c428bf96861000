"""The collector's HTTP endpoints, a module per matter; each has `routes(services)`."""
