"""A trained run behind an address: engine, store of events and feeds, HTTP service and feed page.

`server.open_engine` reads the folders and `server.serve` listens; `service.create_app` gives the
whole service as a value.
"""
