"""HTTP and WebSocket; not one trading word in this folder."""
