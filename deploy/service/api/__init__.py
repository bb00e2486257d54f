"""The HTTP interface: /api/v1, the page, health and metrics."""
