"""A trained run behind an address: engine, store of events and feeds, HTTP service and feed page.

`reelm.serve.service.serve` starts it; `create_app` gives the whole service as a value.
"""
